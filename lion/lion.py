"""The Lion optimizer as a `torch.optim.Optimizer` (arXiv:2302.06675, Algorithm 2)."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lion import backends
from lion.base import MomentumOptimizer, scalar

_FOREIGN_RULES = ("caution", "corrected_weight_decay")  # timm's variants of Lion


class Lion(MomentumOptimizer):
    r"""Lion, EvoLved Sign Momentum: every weight moves by exactly `lr`, along a sign.

        c_t     = beta1 * m_{t-1} + (1 - beta1) * g_t
        theta_t = theta_{t-1} - lr * (sign(c_t) + weight_decay * theta_{t-1})
        m_t     = beta2 * m_{t-1} + (1 - beta2) * g_t

    The state is `exp_avg` (m), in the dtype of its parameter, so `state_dict` interchanges with
    google's and timm's Lion, in both directions and in the middle of a run. sign(0) = 0. A NaN
    gradient makes its weight NaN; other PyTorch ports hide it, since `torch.sign(nan)` is 0.
    Complex parameters count as pairs of real ones.

    The loop, foreach and google's port agree to the bit. So do the pure rule and `differentiable`
    in float32 and float64; in bfloat16 and float16 they round more often. An `lr` tensor on an
    accelerator rounds lr * weight_decay in its own dtype, and compiled code fuses as it likes.

    With betas (b, b) this is the single-beta signed momentum of the paper's ablation.

    Args:
        params: Parameters, (name, parameter) pairs, or dicts of param groups with overrides.
        lr: Learning rate, >= 0; 3-10x smaller than AdamW's. A one-element tensor may be changed in
            place between steps, also under `torch.compile` and in a captured graph.
        betas: (beta1, beta2), each in [0, 1): the weight of the momentum inside the sign, and the
            decay of the momentum. The paper uses (0.95, 0.98) for language.
        weight_decay: Decoupled decay, >= 0; 3-10x larger than AdamW's.
        maximize: Climb the objective instead of descending.
        foreach: Multi-tensor kernels. None takes them on accelerators and not on a CPU, where they
            are slower than the loop.
        capturable: Allow capture in a CUDA graph, which is refused otherwise. A step never waits
            for the device anyway; but a graph replays a float `lr` as it was. To change it, give a
            tensor on the device; one elsewhere is refused when the graph is captured.
        differentiable: Let autograd see the step. The parameters must then be non-leaf tensors.

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

    _flags = {"maximize": False, "foreach": None, "capturable": False, "differentiable": False}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _checked(self, group: dict[str, Any]) -> dict[str, Any]:
        if group["differentiable"] and (group["foreach"] or group["capturable"]):
            raise ValueError(
                "differentiable=True has one path, which is neither foreach nor capturable: "
                "leave foreach=None and capturable=False"
            )
        return super()._checked(group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for key in _FOREIGN_RULES:
                if group.get(key):
                    raise ValueError(
                        f"the checkpoint comes from a different rule, timm's Lion with {key}=True: "
                        "continue it with timm, or clear that flag in its param_groups"
                    )

    def _update_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
    ) -> None:
        beta1, beta2 = group["betas"]
        differentiable = group["differentiable"]
        if _is_captured(params):
            _check_capture(group, params)
        name = backends.choose(params, foreach=group["foreach"], differentiable=differentiable)
        backends.load(name)(
            params,
            grads,
            exp_avgs,
            lr=scalar(group["lr"], on_host=not differentiable),
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            maximize=group["maximize"],
        )


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
