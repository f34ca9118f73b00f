"""The update of one tensor, as pure functions: the formulas, once (arXiv:2302.06675, Algorithm 2).

Everything else in this package is these few lines made fast or convenient, and is tested against
them. They run under `torch.func.vmap`, autograd and `torch.compile`; `lr` and `weight_decay` (of
`lion`, the betas, too) may be tensors, so that a whole grid of settings can be stepped at once.
"""

import torch
from torch import Tensor

BIAS_CORRECTIONS = ("beta2", "beta1")


def sign(x: Tensor) -> Tensor:
    """Elementwise sign: -1, 0 or 1, with sign(0) = 0 and sign(NaN) = NaN.

    The paper does not discuss 0; this is the convention of JAX, NumPy and PyTorch. JAX and NumPy
    keep NaN, but `torch.sign` maps it to 0: a weight whose gradient was NaN once would never move
    again and nothing would show it, because its momentum stays NaN.

    Args:
        x: Any shape, real.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    return torch.where(torch.isnan(x), x, torch.sign(x))


def lion(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    *,
    lr: float | Tensor,
    beta1: float | Tensor,
    beta2: float | Tensor,
    weight_decay: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """One Lion step.

        c_t     = beta1 * m_{t-1} + (1 - beta1) * g_t
        theta_t = theta_{t-1} - lr * (sign(c_t) + weight_decay * theta_{t-1})
        m_t     = beta2 * m_{t-1} + (1 - beta2) * g_t

    Args:
        param: theta_{t-1}, the weights before the step; any shape, real.
        grad: g_t, the gradient at `param`; same shape.
        exp_avg: m_{t-1}, the momentum; same shape, zeros at the first step.
        lr: Learning rate, >= 0: the distance every weight moves. A tensor, here and below, is 0-d,
            or holds a value for each of several models whose weights are stacked in `param`.
        beta1: Weight of the momentum inside the sign, in [0, 1).
        beta2: Decay of the momentum itself, in [0, 1).
        weight_decay: lambda, >= 0, decoupled: the weights shrink by `lr * weight_decay` a step.

    Returns:
        (theta_t, m_t), new tensors; the inputs are left alone.

    Source: arXiv:2302.06675, Alg. 2
    """
    update = sign(beta1 * exp_avg + (1 - beta1) * grad)
    new_param = (1 - lr * weight_decay) * param - lr * update
    if isinstance(beta2, Tensor):
        return new_param, beta2 * exp_avg + (1 - beta2) * grad
    # torch.add rounds once where `a + alpha * b` rounds twice: this is what the in-place code does.
    new_exp_avg = torch.add(beta2 * exp_avg, grad, alpha=1 - beta2)
    return new_param, new_exp_avg


def hero_lion(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    *,
    step: int,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    weight_decay: float | Tensor,
    bias_correction: str = "beta2",
) -> tuple[Tensor, Tensor]:
    """One step of Hero-Lion: Lion with its momentum bias-corrected inside the sign.

        m~_{t-1} = m_{t-1} / (1 - beta^{t-1})  for t > 1,  and 0 for t = 1
        c_t      = beta1 * m~_{t-1} + (1 - beta1) * g_t
        theta_t  = theta_{t-1} - lr * (sign(c_t) + weight_decay * theta_{t-1})
        m_t      = beta2 * m_{t-1} + (1 - beta2) * g_t

    A reconstruction, confidence medium: the only copy of the early paper is damaged at the line of
    m~, where the index of beta cannot be read. `beta2` is the true normaliser of m and the default.

    Args:
        param: theta_{t-1}; any shape, real.
        grad: g_t; same shape.
        exp_avg: m_{t-1}, uncorrected; same shape, zeros at the first step.
        step: t, counted from 1.
        lr: Learning rate, >= 0.
        beta1: Weight of the corrected momentum inside the sign, in [0, 1).
        beta2: Decay of the momentum, in [0, 1).
        weight_decay: Decoupled decay, >= 0.
        bias_correction: Which beta the correction uses: "beta2", or "beta1" for the other reading.

    Returns:
        (theta_t, m_t), new tensors.

    Raises:
        ValueError: `bias_correction` is neither "beta1" nor "beta2".

    Source: early version of arXiv:2302.06675 ("Hero-Lion"), Alg. 2, reconstructed
    """
    if bias_correction not in BIAS_CORRECTIONS:
        raise ValueError(f"bias_correction must be 'beta2' or 'beta1', got {bias_correction!r}")
    beta = beta2 if bias_correction == "beta2" else beta1
    # At t = 1 the formula is 0/0. Zero keeps c_1 = (1 - beta1) * g_1, as in Lion.
    corrected = exp_avg / (1 - beta ** (step - 1)) if step > 1 else torch.zeros_like(exp_avg)
    update = sign(beta1 * corrected + (1 - beta1) * grad)
    new_param = (1 - lr * weight_decay) * param - lr * update
    new_exp_avg = torch.add(beta2 * exp_avg, grad, alpha=1 - beta2)
    return new_param, new_exp_avg
