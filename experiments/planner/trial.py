"""One training step of a model without weights: its FLOPs, and the bytes that it holds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from experiments.build import explained
from experiments.config import ConfigError, RunConfig
from experiments.distributed import World
from experiments.planner.gpu_casts import GpuCasts
from experiments.planner.live_bytes import LiveBytes
from experiments.tasks.task import Task
from lion.param_groups import param_groups

_SWITCHES = {
    True: (
        "set_grad_checkpointing",  # timm
        "activation_checkpointing_enable",  # transformers
        "gradient_checkpointing_enable",
        "enable_gradient_checkpointing",  # diffusers
    ),
    False: (
        "set_grad_checkpointing",
        "activation_checkpointing_disable",
        "gradient_checkpointing_disable",
        "disable_gradient_checkpointing",
    ),
}


@dataclass(frozen=True)
class Trial:
    """One forward and backward pass over a micro-batch."""

    flops: int  # without what checkpointing computes again
    flops_again: int
    batch: int  # bytes of the micro-batch
    activations: int  # most bytes beside weights, their copies, gradients and batch
    cast_weights: int  # most bytes of copies of weights in 16 bits, which autocast makes
    peak: int  # most bytes beside weights and batch


class Blank:
    """A model whose tensors have shapes, types and no data.

    Args:
        task: Builds it.
        config: Of the run.
        on_gpu: Whether to count as on a GPU.
        pretends: Whether tensors claim to lie on a device, which is slower: some models look into
            a tensor on "meta", and fail.
    """

    def __init__(self, task: Task, config: RunConfig, on_gpu: bool, pretends: bool = False) -> None:
        self.task, self.on_gpu = task, on_gpu
        is_bf16 = config.train.precision == "bf16" or (config.train.precision == "auto" and on_gpu)
        self.low = torch.bfloat16 if is_bf16 else None
        # A GPU's kernels are chosen by `GpuCasts`; a CPU's by torch, from tensors that pretend.
        pretends = pretends or not on_gpu
        self.mode: Any = (
            FakeTensorMode(allow_non_fake_inputs=True) if pretends else contextlib.nullcontext()
        )
        self.device = "cpu" if pretends else "meta"
        dtype = getattr(torch, config.train.param_dtype)
        self.plain = _onto(_build(task), "meta", dtype)  # the same without modes, for optimizers
        model = _build(task)  # not a copy: what checkpointing wraps would be the original
        freeze(self.plain, config)
        freeze(model, config)
        with self.mode:
            self.model = _onto(model, self.device, dtype).train()

    def trial(self, size: int, has_gradients: bool) -> Trial:
        """A micro-batch forth and back.

        Args:
            size: Examples.
            has_gradients: Whether gradients of earlier micro-batches are there already.
        """
        example = self.task.example_batch(size)
        with self.mode:
            batch = tuple(torch.empty(t.shape, dtype=t.dtype, device=self.device) for t in example)
            for p in self.model.parameters():
                p.grad = torch.empty_like(p) if has_gradients and p.requires_grad else None
            with explained("job=plan: the step cannot be counted"):
                live = self._pass(batch)
            for p in self.model.parameters():
                p.grad = None
        return Trial(
            flops=live.flops,
            flops_again=live.flops_again,
            batch=sum(t.untyped_storage().nbytes() for t in batch),
            activations=live.peak_activations,
            cast_weights=live.peak_copies,
            peak=live.peak,
        )

    def _pass(self, batch: tuple[Tensor, ...]) -> LiveBytes:
        world, live = World(0, 1, torch.device(self.device)), LiveBytes(self.model)
        casts = GpuCasts(self.low, live.set_apart) if self.on_gpu else None
        try:
            with live, casts or contextlib.nullcontext():
                with torch.autocast("cpu", torch.bfloat16, enabled=bool(self.low and not casts)):
                    loss = self.task.loss(self.model, batch, world).mean
                if casts:
                    casts.forget_weights()
                _backward(loss)
        finally:
            live.close()
        return live

    def can_checkpoint(self) -> bool:
        """Whether the model has a switch for activation checkpointing."""
        return any(self._find(name) for name in _SWITCHES[True])

    def checkpoint(self, active: bool) -> None:
        """Switches activation checkpointing."""
        found = next(filter(None, map(self._find, _SWITCHES[active])))
        name = found.__name__
        if name == "set_grad_checkpointing":
            found(active)
        elif name.endswith("checkpointing_enable"):
            found({"use_reentrant": False})
        else:
            found()

    def _find(self, name: str) -> Callable[..., Any] | None:
        owners = [self.model, *self.model.children()]
        return next((getattr(o, name) for o in owners if callable(getattr(o, name, None))), None)


def _build(task: Task) -> nn.Module:
    with explained("model: cannot build it"), torch.device("meta"):
        return task.build_model()


def _backward(loss: Tensor) -> None:
    """As `loss.backward()`, which would take `GpuCasts` off for its duration.

    What checkpointing computes a second time needs it.
    """
    engine: Any = torch.autograd.Variable._execution_engine
    engine.run_backward(
        (loss,), (torch.ones_like(loss),), False, False, (),
        allow_unreachable=True, accumulate_grad=True,
    )  # fmt: skip


def freeze(model: nn.Module, config: RunConfig) -> list[dict[str, Any]]:
    """The parameter groups of the run; what is not trained gets no gradients.

    Raises:
        ConfigError: for patterns that do not fit the model.
    """
    split = config.param_groups
    try:
        return param_groups(
            model,
            config.optimizer.get("weight_decay", 0.0),
            no_decay_1d=split.no_decay_1d,
            no_decay=split.no_decay,
            frozen=split.frozen,
        )
    except ValueError as error:
        raise ConfigError(f"param_groups: {error}") from error


def _onto(model: nn.Module, device: str, dtype: torch.dtype) -> nn.Module:
    """The model with its meta tensors on a device; what is shared stays shared."""
    made: dict[int, tuple[Any, Tensor]] = {}

    def moved(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            kind = dtype if tensor.is_floating_point() else tensor.dtype
            new: Tensor = torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=kind, device=device
            )
            if isinstance(tensor, nn.Parameter):
                new = nn.Parameter(new, requires_grad=tensor.requires_grad)
            made[id(tensor)] = (new, tensor)
        return made[id(tensor)][0]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = moved(tensor)  # type: ignore[assignment]
    return model
