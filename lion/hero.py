"""HeroLion: Lion with bias correction, from the early version of arXiv:2302.06675 (Algorithm 2)."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lion import checkpoints, rule
from lion.base import MomentumOptimizer, scalar


class HeroLion(MomentumOptimizer):
    """Lion whose momentum is bias-corrected before it enters the sign.

        m~_{t-1} = m_{t-1} / (1 - beta^{t-1})  for t > 1,  and 0 for t = 1
        c_t      = beta1 * m~_{t-1} + (1 - beta1) * g_t
        theta_t  = theta_{t-1} - lr * (sign(c_t) + weight_decay * theta_{t-1})
        m_t      = beta2 * m_{t-1} + (1 - beta2) * g_t

    This is a reconstruction, confidence medium. The only copy of the early paper is damaged at the
    line of m~: the index of its beta cannot be read. m decays with beta2, so 1 - beta2^{t-1} is its
    true normaliser, and "beta2" is the default; "beta1" is the other reading. The paper found the
    effect minor and dropped the correction. It matters early: with 0.99 the factor is 100 at t = 2
    and 1.6 at t = 101.

    The state is `exp_avg` (m, uncorrected, as in Lion) and `step` (t, a tensor). A step taken
    without a gradient does not count.

    Args:
        params: Parameters, (name, parameter) pairs, or dicts of param groups with overrides.
        lr: Learning rate, >= 0; a number or a one-element tensor.
        betas: (beta1, beta2), each in [0, 1).
        weight_decay: Decoupled decay, >= 0.
        bias_correction: The beta of the correction, "beta2" or "beta1".
        maximize: Climb the objective instead of descending.

    Raises:
        ValueError: A hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = HeroLion([weight], lr=1.0, betas=(0.5, 0.9))
        >>> for gradient in ([1.0, 1.0], [-0.5, -2.0]):
        ...     weight.grad = torch.tensor(gradient)
        ...     optimizer.step()
        >>> weight.tolist()  # c_2 = 0.5 * 1 + 0.5 * g: m is 0.1, but corrected it is 1
        [-2.0, 0.0]

    Source: early version of arXiv:2302.06675 ("Hero-Lion"), Alg. 2, reconstructed
    """

    _signature = checkpoints.Signature(
        ("lr", "betas", "weight_decay", "bias_correction"), state=("exp_avg", "step")
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        bias_correction: str = "beta2",
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _checked(self, group: dict[str, Any]) -> dict[str, Any]:
        if group["bias_correction"] not in rule.BIAS_CORRECTIONS:
            raise ValueError(
                f"bias_correction must be 'beta2' or 'beta1', got {group['bias_correction']!r}: "
                "for no correction at all use Lion"
            )
        return super()._checked(group)

    def _adopt(self, saved: dict[str, Any]) -> None:
        for state in self.state.values():
            # Older checkpoints of torch.optim's kind have a number, which a step would not change.
            if "step" in state and not isinstance(state["step"], Tensor):
                state["step"] = torch.tensor(state["step"], dtype=torch.float32, device="cpu")
        super()._adopt(saved)

    def _init_state(self, state: dict[str, Any], param: Tensor, group: dict[str, Any]) -> None:
        super()._init_state(state, param, group)
        # torch.optim's form of a step count, wherever the parameters are.
        state["step"] = torch.zeros((), dtype=torch.float32, device="cpu")

    def _update_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
    ) -> None:
        beta1, beta2 = group["betas"]
        steps = [self.state[p]["step"] for p in group["params"] if p.grad is not None]
        for param, grad, exp_avg, step in zip(params, grads, exp_avgs, steps, strict=True):
            step += 1
            new_param, new_exp_avg = rule.hero_lion(
                param,
                -grad if group["maximize"] else grad,
                exp_avg,
                step=int(step),
                lr=scalar(group["lr"]),
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                bias_correction=group["bias_correction"],
            )
            param.copy_(new_param)
            exp_avg.copy_(new_exp_avg)
