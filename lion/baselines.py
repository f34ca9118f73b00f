"""Baselines of the paper's optimizer comparison that torch.optim and timm lack: PowerSign, AddSign.

The others are theirs: torch.optim has AdamW, AdamW(amsgrad=True), NAdam, RAdam, Adafactor and SGD;
timm has AdaBelief and the big_vision Adafactor.

The paper compares them in its Table 7 with "Optax defaults" and tunes only lr and weight decay, but
Optax has neither of these two. Assumed here: the defaults of Neural Optimizer Search (beta 0.9,
alpha e and 1, no internal decay), no bias correction, and the decay decoupled as for the others.

Source: arXiv:1709.07417 (Bello et al. 2017), used by arXiv:2302.06675
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lion import checkpoints
from lion.base import MomentumOptimizer, scalar
from lion.checks import check_number


def power_sign(grad: Tensor, exp_avg: Tensor, *, alpha: float, sign_decay: float) -> Tensor:
    """Scale g by alpha where it agrees in sign with its average m, by 1 / alpha where it does not.

        update = alpha^(sign_decay * sign(g_t) * sign(m_t)) * g_t

    Args:
        grad: g_t, any shape, real.
        exp_avg: m_t, the average that already contains g_t; same shape.
        alpha: Base, > 0; e in the paper.
        sign_decay: f(t), the internal decay, in [0, 1]; 1 is none, 0 leaves plain gradient descent.

    Returns:
        The update, before the learning rate; same shape.

    Source: arXiv:1709.07417, section 5.2
    """
    return torch.pow(alpha, sign_decay * grad.sign() * exp_avg.sign()) * grad


def add_sign(grad: Tensor, exp_avg: Tensor, *, alpha: float, sign_decay: float) -> Tensor:
    """Scale g by alpha + 1 where it agrees in sign with its average m, by alpha - 1 where not.

        update = (alpha + sign_decay * sign(g_t) * sign(m_t)) * g_t

    Args:
        grad: g_t, any shape, real.
        exp_avg: m_t, the average that already contains g_t; same shape.
        alpha: Offset, >= 0; 1 in the paper, so that disagreement stops the weight.
        sign_decay: f(t), the internal decay, in [0, 1]; 1 is none.

    Returns:
        The update, before the learning rate; same shape.

    Source: arXiv:1709.07417, section 5.2
    """
    return (alpha + sign_decay * grad.sign() * exp_avg.sign()) * grad


class _SignAgreement(MomentumOptimizer):
    _signature = checkpoints.Signature(("lr", "beta", "alpha", "sign_decay", "weight_decay"))

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        beta: float,
        alpha: float,
        sign_decay: float,
        weight_decay: float,
        maximize: bool,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta": beta,
            "alpha": alpha,
            "sign_decay": sign_decay,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _checked(self, group: dict[str, Any]) -> dict[str, Any]:
        check_number("beta", group["beta"], below=1.0, remedy="0.9 in the paper")
        check_number("alpha", group["alpha"], remedy="e for PowerSign, 1 for AddSign")
        if check_number("sign_decay", group["sign_decay"], remedy="1 for no decay") > 1:
            raise ValueError(f"sign_decay must be in [0, 1], got {group['sign_decay']!r}")
        # Nothing else tells the checkpoints of the two apart.
        if group["rule"] != self._flags["rule"]:
            raise ValueError(
                f"these settings are of a different rule, {group['rule']!r}, and "
                f"{type(self).__name__} is {self._flags['rule']!r}: use the optimizer of that name"
            )
        return super()._checked(group)

    def _update_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
    ) -> None:
        lr, beta = scalar(group["lr"]), group["beta"]
        for param, grad, exp_avg in zip(params, grads, exp_avgs, strict=True):
            grad = -grad if group["maximize"] else grad
            exp_avg.mul_(beta).add_(grad, alpha=1 - beta)
            update = self._scaled(grad, exp_avg, group["alpha"], group["sign_decay"])
            param.mul_(1 - lr * group["weight_decay"]).sub_(lr * update)

    def _scaled(self, grad: Tensor, exp_avg: Tensor, alpha: float, sign_decay: float) -> Tensor:
        raise NotImplementedError


class PowerSign(_SignAgreement):
    """PowerSign: gradient descent that speeds up by e where gradient and momentum agree in sign.

        m_t     = beta * m_{t-1} + (1 - beta) * g_t
        theta_t = theta_{t-1} - lr (alpha^(f sign(g_t) sign(m_t)) g_t + weight_decay theta_{t-1})

    Args:
        params: Parameters, (name, parameter) pairs, or dicts of param groups with overrides.
        lr: Learning rate, >= 0; a number or a one-element tensor. The step scales with the
            gradient, so this is an SGD-like rate, not a Lion-like one.
        beta: Decay of the momentum, in [0, 1).
        alpha: Base of the power, > 0.
        sign_decay: f, the internal decay, in [0, 1]; schedule it in the param groups, as an lr.
        weight_decay: Decoupled decay, >= 0. Differs from the source, which has none.
        maximize: Climb the objective instead of descending.

    Raises:
        ValueError: A hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = PowerSign([weight], lr=1.0, alpha=2.0)
        >>> for gradient in ([1.0, 1.0], [1.0, -0.01]):
        ...     weight.grad = torch.tensor(gradient)
        ...     optimizer.step()
        >>> [round(x, 3) for x in weight.tolist()]
        [-4.0, -1.995]

    Source: arXiv:1709.07417, section 5.2
    """

    _flags = {"maximize": False, "rule": "power_sign"}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        beta: float = 0.9,
        alpha: float = math.e,
        sign_decay: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, beta, alpha, sign_decay, weight_decay, maximize)

    def _checked(self, group: dict[str, Any]) -> dict[str, Any]:
        if group["alpha"] == 0:
            raise ValueError("alpha must be > 0, got 0: it is the base of a power, e in the paper")
        return super()._checked(group)

    def _scaled(self, grad: Tensor, exp_avg: Tensor, alpha: float, sign_decay: float) -> Tensor:
        return power_sign(grad, exp_avg, alpha=alpha, sign_decay=sign_decay)


class AddSign(_SignAgreement):
    """AddSign: gradient descent, doubled where gradient and momentum agree in sign, else stopped.

        m_t     = beta * m_{t-1} + (1 - beta) * g_t
        theta_t = theta_{t-1} - lr ((alpha + f sign(g_t) sign(m_t)) g_t + weight_decay theta_{t-1})

    Args:
        params: Parameters, (name, parameter) pairs, or dicts of param groups with overrides.
        lr: Learning rate, >= 0; a number or a one-element tensor. An SGD-like rate.
        beta: Decay of the momentum, in [0, 1).
        alpha: Offset, >= 0.
        sign_decay: f, the internal decay, in [0, 1]; schedule it in the param groups, as an lr.
        weight_decay: Decoupled decay, >= 0. Differs from the source, which has none.
        maximize: Climb the objective instead of descending.

    Raises:
        ValueError: A hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = AddSign([weight], lr=1.0)
        >>> for gradient in ([1.0, 1.0], [1.0, -0.01]):
        ...     weight.grad = torch.tensor(gradient)
        ...     optimizer.step()
        >>> weight.tolist()
        [-4.0, -2.0]

    Source: arXiv:1709.07417, section 5.2
    """

    _flags = {"maximize": False, "rule": "add_sign"}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        beta: float = 0.9,
        alpha: float = 1.0,
        sign_decay: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, beta, alpha, sign_decay, weight_decay, maximize)

    def _scaled(self, grad: Tensor, exp_avg: Tensor, alpha: float, sign_decay: float) -> Tensor:
        return add_sign(grad, exp_avg, alpha=alpha, sign_decay=sign_decay)
