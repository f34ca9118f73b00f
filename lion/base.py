"""What the optimizers of this package share: one momentum buffer, and torch.optim's conventions.

A subclass says in `_update_group` how a group of tensors moves; this file collects the tensors,
checks the hyper-parameters, and runs the closure.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import profiler
from torch.optim.optimizer import (
    Optimizer,
    ParamsT,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)

from lion import checkpoints
from lion.checks import check_betas, check_lr, check_weight_decay

_AUTOCAST_DEVICES = ("cpu", "cuda", "xpu", "mps")


def _watched_on_demand(step: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `step` as torch does, for its hooks and its profiler, but only while one is there.

    torch's wrapper takes a quarter of the time of a small model's step. Where a subclass has a
    `step` of its own, torch wraps that one, and hooks must not run twice.
    """
    watched = Optimizer.profile_hook_step(step)

    @functools.wraps(step)
    def wrapper(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        is_watched = (
            profiler._is_profiler_enabled
            or self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
        )
        if is_watched and type(self).step is wrapper:
            return watched(self, *args, **kwargs)
        return step(self, *args, **kwargs)

    wrapper.hooked = True  # type: ignore[attr-defined]  # torch's word for: wrapped already
    return wrapper


class MomentumOptimizer(Optimizer):
    """An optimizer whose state is `exp_avg`, of the shape and dtype of its parameter."""

    # Flags that a checkpoint of another version or another implementation may lack.
    _flags: dict[str, Any] = {"maximize": False}
    _signature = checkpoints.Signature(("lr", "betas", "weight_decay"))

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        super().__init__(params, self._checked({**self._flags, **defaults}))

    def _checked(self, group: dict[str, Any]) -> dict[str, Any]:
        tensors = bool(group.get("differentiable"))
        check_lr(group["lr"])
        check_weight_decay(group["weight_decay"], tensors=tensors)
        if "betas" in group:
            group["betas"] = check_betas(group["betas"], tensors=tensors)
        return group

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it may override every hyper-parameter, and is checked like the defaults.

        Args:
            param_group: "params" and any overrides; copied, not changed.

        Raises:
            ValueError: A hyper-parameter is out of range.
        """
        if isinstance(param_group, dict):  # otherwise torch raises, with its own message
            param_group = self._checked({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint of this rule.

        Args:
            state_dict: From `state_dict()`. Its hyper-parameters replace those of this optimizer.

        Raises:
            ValueError: It comes from another rule, or does not fit the parameters; nothing is
                changed then.
        """
        saved: dict[str, Any] = {}

        # The last of the hooks before, so that it sees what the user's own made of the state dict,
        # and the first of those after, so that the user's see the state as it will be stepped.
        def inspect(_: Optimizer, final: dict[str, Any]) -> None:
            name = type(self).__name__
            checkpoints.check(final, self.param_groups, name, self._signature)
            for group, saved_group in zip(self.param_groups, final["param_groups"], strict=False):
                self._checked({**self.defaults, **saved_group, **self._kept(group)})
            saved.update(final, kept=[self._kept(group) for group in self.param_groups])

        handles = [
            self.register_load_state_dict_pre_hook(inspect),
            self.register_load_state_dict_post_hook(lambda _: self._adopt(saved), prepend=True),
        ]
        try:
            with checkpoints.ordinary_tensors():
                super().load_state_dict(state_dict)
        finally:
            for handle in handles:
                handle.remove()

    def _kept(self, group: dict[str, Any]) -> dict[str, Any]:
        """The settings of a group that a checkpoint does not replace."""
        return {}

    def _adopt(self, saved: dict[str, Any]) -> None:
        """Mend what torch loaded, from the original: `saved`, with what `_kept` said as "kept"."""
        for state in self.state.values():
            state.update({key: checkpoints.ordinary(x) for key, x in state.items()})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "differentiable" not in self._flags:
            self.defaults.pop("differentiable", None)  # torch adds it, and would to every group
        for key, value in self._flags.items():
            self.defaults.setdefault(key, value)
            for group in self.param_groups:
                group.setdefault(key, self.defaults[key])

    # The name and the filling of the lists are torch.optim's: torch.compile looks for this method
    # and runs it eagerly, so that the state exists before the step is traced.
    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
    ) -> None:
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            if grad.layout is not torch.strided:
                raise RuntimeError(
                    f"{type(self).__name__} does not support sparse gradients (got {grad.layout}, "
                    f"shape {tuple(grad.shape)}): every weight moves each step; use sparse=False"
                )
            state = self.state[param]
            if "exp_avg" not in state:
                with checkpoints.ordinary_tensors():
                    self._init_state(state, param, group)
            params.append(param)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])

    def _init_state(self, state: dict[str, Any], param: Tensor, group: dict[str, Any]) -> None:
        """Fill the state of a parameter before its first step; a subclass may keep more."""
        state["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)

    @_watched_on_demand
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; the others and their state stay as they are.

        Args:
            closure: Re-evaluates the model and returns the loss; run with gradients enabled.

        Returns:
            What the closure returned, or None.

        Raises:
            RuntimeError: A gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        before = 0
        for group in self.param_groups:
            done = self._step_at_once(group, before)
            before += len(group["params"])
            if done:
                continue
            params: list[Tensor] = []
            grads: list[Tensor] = []
            exp_avgs: list[Tensor] = []
            self._init_group(group, params, grads, exp_avgs)
            if params:
                with torch.set_grad_enabled(group.get("differentiable", False)), _no_autocast():
                    self._update_group(group, *_as_real(params, grads, exp_avgs))
        return loss

    def _step_at_once(self, group: dict[str, Any], before: int) -> bool:
        """Room for a subclass that can step a group without looking at every tensor in Python.

        Args:
            group: One of `param_groups`.
            before: How many parameters the groups before it have.
        """
        return False

    def _update_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
    ) -> None:
        raise NotImplementedError


def _no_autocast() -> "contextlib.AbstractContextManager[Any]":
    # The rule is computed in the dtypes of its tensors: autocast would take powers in float32.
    if torch.compiler.is_compiling():
        return contextlib.nullcontext()
    enabled = [device for device in _AUTOCAST_DEVICES if torch.is_autocast_enabled(device)]
    if not enabled:
        return contextlib.nullcontext()
    stack = contextlib.ExitStack()
    for device in enabled:
        stack.enter_context(torch.autocast(device, enabled=False))
    return stack


def scalar(lr: float | Tensor, *, on_host: bool = True) -> float | Tensor:
    """Return `lr` as a number where that is free (a tensor on the CPU), else as a 0-d tensor."""
    if not isinstance(lr, Tensor):
        if torch.compiler.is_compiling():
            # Compiled with a number that changes, torch 2.14 keeps an old value of `alpha=-lr` for
            # ever where lr is also used otherwise. A tensor made of the number is followed.
            return torch.full((), lr, dtype=torch.float64, device="cpu")
        return lr
    if on_host and lr.device.type == "cpu" and not torch.compiler.is_compiling():
        return lr.item()  # then bit-equal to a float lr
    return lr.squeeze()


def _as_real(*columns: list[Tensor]) -> tuple[list[Tensor], ...]:
    # A complex number counts as two real ones, as in torch.optim; views, so that writes go through.
    def view(x: Tensor) -> Tensor:
        return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x

    if not any([x.is_complex() for x in columns[0]]):
        return columns
    return tuple([view(x) for x in column] for column in columns)
