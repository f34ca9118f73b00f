"""The Lion optimizer as a `torch.optim.Optimizer` (arXiv:2302.06675, Algorithm 2)."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lion import backends, checkpoints, fused, fused_cuda, momentum, native, sharded
from lion.base import MomentumOptimizer, scalar

_STORAGE = ("momentum_dtype", "kahan_sum")


class Lion(MomentumOptimizer):
    r"""Lion, EvoLved Sign Momentum: every weight moves by exactly `lr`, along a sign.

        c_t     = beta1 * m_{t-1} + (1 - beta1) * g_t
        theta_t = theta_{t-1} - lr * (sign(c_t) + weight_decay * theta_{t-1})
        m_t     = beta2 * m_{t-1} + (1 - beta2) * g_t

    The state is `exp_avg` (m), in the dtype of its parameter, so `state_dict` interchanges with
    google's and timm's Lion, in both directions and in the middle of a run. sign(0) = 0. A NaN
    gradient makes its weight NaN; other PyTorch ports hide it, since `torch.sign(nan)` is 0. An
    infinite gradient moves its weight by `lr`, at that step and, its momentum being infinite, at
    every later one; with int8 momenta, that have no infinity, the weight is NaN from the next on.
    Complex parameters count as pairs of real ones.

    The fused kernels, the loop, foreach and google's port agree to the bit (on a CPU with fused
    multiply-add; without, torch's own kernels round in ways of their own). So do the pure rule and
    `differentiable` in float32 and float64; in bfloat16 and float16 they round more often. An `lr`
    tensor on an accelerator rounds lr * weight_decay in its own dtype, and compiled code fuses as
    it likes.

    A leaner `momentum_dtype` is the paper's way (bfloat16). The step is computed in float32 and the
    momentum rounded once. int8 has blocks of 256 codes with a scale each, `exp_avg_scale`, and
    rounds up or down by a hash, without bias; one code is NaN, for a momentum that is not finite,
    so that its neighbours in the block keep theirs. A checkpoint may come from any storage: it is
    converted to that of the optimizer which loads it. To hand an int8 run to another library,
    load it into Lion(momentum_dtype=None) first.

    With betas (b, b) this is the single-beta signed momentum of the paper's ablation.

    Args:
        params: Parameters, (name, parameter) pairs, or dicts of param groups with overrides.
        lr: Learning rate, >= 0; 3-10x smaller than AdamW's. A one-element tensor may be changed in
            place between steps, also under `torch.compile` and in a captured graph. A changing
            float makes compiled code compile again for each value, and run eagerly after 8.
        betas: (beta1, beta2), each in [0, 1): the weight of the momentum inside the sign, and the
            decay of the momentum. The paper uses (0.95, 0.98) for language.
        weight_decay: Decoupled decay, >= 0; 3-10x larger than AdamW's.
        maximize: Climb the objective instead of descending.
        foreach: Multi-tensor kernels. None takes them on accelerators where the fused kernel does
            not work, and never on a CPU, where they are slower than the loop.
        fused: One pass over memory: a native kernel on a CPU, Triton's on a GPU; compiled on first
            use (seconds, once a machine) and cached. None takes them where they work, and says so
            once where not; True insists. Tensors that they cannot serve take another path.
        momentum_dtype: How the momentum is stored: None for the parameter's dtype, "float32",
            "bfloat16" (2 bytes a weight), "int8" (1.02 bytes); "float16", "float64".
        kahan_sum: Keep what rounding takes from parameters in bfloat16 or float16 in a second
            buffer of their dtype, `kahan_comp`, and add it at the next step: they train as if they
            had twice the digits. Other parameters are left alone. None is False.
        capturable: Allow capture in a CUDA graph, which is refused otherwise. A step never waits
            for the device anyway; but a graph replays a float `lr` as it was. To change it, give a
            tensor on the device; one elsewhere is refused when the graph is captured.
        differentiable: Let autograd see the step. The parameters must then be non-leaf tensors.
            `betas` and `weight_decay` may then be tensors of one element, as `lr` always may.

    Raises:
        ValueError: A hyper-parameter is out of range, or flags contradict each other.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
        >>> optimizer = Lion([weight], lr=0.5)
        >>> weight.grad = torch.tensor([0.1, -7.0, 0.0])
        >>> optimizer.step()
        >>> weight.tolist()
        [0.5, -1.5, 3.0]

    Source: arXiv:2302.06675, Alg. 2
    """

    _flags = {
        "maximize": False,
        "foreach": None,
        "fused": None,
        "momentum_dtype": None,
        "kahan_sum": None,
        "capturable": False,
        "differentiable": False,
    }

    _signature = checkpoints.Signature(
        ("lr", "betas", "weight_decay"),
        optional_state=(momentum.SCALE, momentum.RESIDUAL),
        shaped=("exp_avg", momentum.RESIDUAL),
        check_state=momentum.check_saved,
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.99),
        weight_decay: float | Tensor = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        momentum_dtype: str | torch.dtype | None = None,
        kahan_sum: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
            "momentum_dtype": momentum_dtype,
            "kahan_sum": kahan_sum,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _checked(self, group: dict[str, Any]) -> dict[str, Any]:
        group["momentum_dtype"] = momentum.check_momentum_dtype(group["momentum_dtype"])
        others = ("foreach", "fused", "capturable", "momentum_dtype", "kahan_sum")
        if group["differentiable"] and any(group[name] for name in others):
            raise ValueError(
                "differentiable=True has one path, which is neither foreach, fused nor capturable: "
                "leave foreach=None, fused=None, capturable=False, momentum_dtype=None and "
                "kahan_sum=None"
            )
        if group["foreach"] and group["fused"]:
            raise ValueError("foreach=True and fused=True exclude each other: leave one None")
        return super()._checked(group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint of this or another Lion, whatever the storage of its momentum.

        Args:
            state_dict: From `state_dict()`. Its hyper-parameters replace those of this optimizer,
                except for `momentum_dtype` and `kahan_sum`, which stay: the state is converted.

        Raises:
            ValueError: It comes from another rule, or does not fit the parameters; nothing is
                changed then.
        """
        super().load_state_dict(state_dict)

    def _kept(self, group: dict[str, Any]) -> dict[str, Any]:
        return {key: group[key] for key in _STORAGE}

    def _adopt(self, saved: dict[str, Any]) -> None:
        # torch has cast every tensor of the state to the dtype of its parameter.
        for group, saved_group, kept in zip(
            self.param_groups, saved["param_groups"], saved["kept"], strict=True
        ):
            group.update(kept)
            for param, key in zip(group["params"], saved_group["params"], strict=True):
                state = saved["state"].get(key)
                if state:
                    for optional in (momentum.SCALE, momentum.RESIDUAL):
                        self.state[param].pop(optional, None)
                    state = momentum.converted(state, param, *kept.values())
                    self.state[param].update(state)
        super()._adopt(saved)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it may override every hyper-parameter, and is checked like the defaults.

        Args:
            param_group: "params" and any overrides; copied, not changed.

        Raises:
            ValueError: A hyper-parameter is out of range, or cannot be had for these parameters.
        """
        super().add_param_group(param_group)
        try:
            for param in self.param_groups[-1]["params"]:
                momentum.check_storable(param, self.param_groups[-1]["momentum_dtype"])
        except ValueError:
            del self.param_groups[-1]
            raise

    def _init_state(self, state: dict[str, Any], param: Tensor, group: dict[str, Any]) -> None:
        if _is_captured([param]):
            _check_capture(group, [param])
            raise RuntimeError(
                "a CUDA graph would begin every replay with a momentum of 0: take one step before "
                "it is captured"
            )
        state.update(momentum.zeros(param, group["momentum_dtype"], group["kahan_sum"]))

    def _step_at_once(self, group: dict[str, Any], before: int) -> bool:
        if torch.compiler.is_compiling() or not group["params"] or group["differentiable"]:
            return False
        if not (group["fused"] or (group["fused"] is None and group["foreach"] is None)):
            return False
        first, lr = group["params"][0], group["lr"]
        if first.is_cuda:
            # In a capture the table of backends decides and checks.
            if _is_captured([first]):
                return False
            return bool(
                (group["fused"] or fused_cuda.available(first.device))
                and fused_cuda.step_group(group, self.state, before)
            )
        if not first.is_cpu or not native.is_loaded() or (isinstance(lr, Tensor) and not lr.is_cpu):
            return False
        return fused.step_group(group, self.state, before)

    def _update_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
    ) -> None:
        beta1, beta2 = map(_zero_dim, group["betas"])
        differentiable = group["differentiable"]
        states: list[Any] | None = None
        if group["momentum_dtype"] or group["kahan_sum"] or sharded.are_sharded(params):
            states = self._states(group)
            if not differentiable and not torch.compiler.is_compiling():
                shards = sharded.local_shards(params, grads, exp_avgs, states)
                params, grads, exp_avgs, states = shards
        if _is_captured(params):
            _check_capture(group, params)
        name = backends.choose(
            params, foreach=group["foreach"], fused=group["fused"], differentiable=differentiable
        )
        update = backends.load(name)
        columns: list[list[Any]] = [params, grads, exp_avgs]
        if name in ("fused", "fused_cuda"):
            columns.append(states or self._states(group))
        elif states or any([p.dtype != m.dtype for p, m in zip(params, exp_avgs, strict=True)]):
            columns.append(states or self._states(group))
            update = partial(momentum.update, update)
        update(
            *columns,
            lr=scalar(group["lr"], on_host=not differentiable),
            beta1=beta1,
            beta2=beta2,
            weight_decay=_zero_dim(group["weight_decay"]),
            maximize=group["maximize"],
        )

    def _states(self, group: dict[str, Any]) -> list[Any]:
        return [self.state[p] for p in group["params"] if p.grad is not None]


def _zero_dim(x: Any) -> Any:
    return x.squeeze() if isinstance(x, Tensor) else x


def _is_captured(params: list[Tensor]) -> bool:
    if torch.compiler.is_compiling() or not params[0].is_cuda:
        return False
    return torch.cuda.is_current_stream_capturing()


def _check_capture(group: dict[str, Any], params: list[Tensor]) -> None:
    lr = group["lr"]
    if not group["capturable"]:
        raise RuntimeError(
            "a CUDA graph is capturing a step that was not meant for it: use Lion(capturable=True)"
        )
    if isinstance(lr, Tensor) and any(lr.device != param.device for param in params):
        raise ValueError(
            f"a CUDA graph would freeze the value of lr, a tensor on {lr.device}: move it to the "
            f"device of the parameters, {params[0].device}"
        )
