"""Backend "differentiable": the pure rule, for autograd through the step (hyper-gradients)."""

from collections.abc import Sequence

from torch import Tensor

from lion import rule


def update(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    *,
    lr: float | Tensor,
    beta1: float | Tensor,
    beta2: float | Tensor,
    weight_decay: float | Tensor,
    maximize: bool,
) -> None:
    """Step every tensor, recording the graph; arguments as in `lion.loop.update`.

    The derivative of the sign is 0: gradients flow to the earlier weights, through the decay, and
    to `lr` and `weight_decay`, but not to the earlier gradients or through the sign to `betas`.

    Source: arXiv:2302.06675, Alg. 2
    """
    for param, grad, exp_avg in zip(params, grads, exp_avgs, strict=True):
        new_param, new_exp_avg = rule.lion(
            param.clone(),  # clones: backward must find the old values after the copies below
            -grad if maximize else grad,
            exp_avg.clone(),
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            weight_decay=weight_decay,
        )
        param.copy_(new_param)
        exp_avg.copy_(new_exp_avg)
