"""Backend "foreach": Lion with torch's multi-tensor kernels; the default on accelerators.

The operations and roundings of `lion/loop.py`, on a list of tensors at a time: few kernel
launches, for temporaries of twice the size of the parameters. On a CPU torch has no such kernels
and walks the list, with fresh memory for each result: the loop serves there, being quicker.
"""

# pyright: reportPrivateImportUsage=false
# (torch has no public name for the _foreach functions)

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lion import loop, passes

WITHOUT_KERNELS = {"cpu"}

Bucket = tuple[list[Tensor], list[Tensor], list[Tensor]]


def update(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    *,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """Step every tensor in place; arguments as in `lion.loop.update`.

    Source: arXiv:2302.06675, Alg. 2
    """
    rule = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay}
    direction = -1.0 if maximize else 1.0
    by_one = all([param.device.type in WITHOUT_KERNELS for param in params])
    if by_one or (not torch.compiler.is_compiling() and passes.overlap(params)):
        loop.update(params, grads, exp_avgs, maximize=maximize, **rule)
        return
    for bucket_params, bucket_grads, bucket_exp_avgs in _buckets(params, grads, exp_avgs):
        if bucket_params[0].device.type in WITHOUT_KERNELS:
            bucket = (bucket_params, bucket_grads, bucket_exp_avgs)
            loop.update(*bucket, maximize=maximize, **rule)
            continue
        _scale_(bucket_params, 1 - lr * weight_decay)
        steps = torch._foreach_mul(bucket_exp_avgs, beta1)
        torch._foreach_add_(steps, torch._foreach_mul(bucket_grads, direction * (1 - beta1)))
        signs = torch._foreach_sign(steps)
        torch._foreach_maximum_(steps, signs)  # clamp between sign and sign:
        torch._foreach_minimum_(steps, signs)  # the sign, but NaN stays NaN
        if isinstance(lr, Tensor):
            torch._foreach_mul_(steps, lr)
            torch._foreach_sub_(bucket_params, steps)
        else:
            torch._foreach_add_(bucket_params, steps, alpha=-lr)
        _scale_(bucket_exp_avgs, beta2)
        torch._foreach_add_(bucket_exp_avgs, bucket_grads, alpha=direction * (1 - beta2))


def _scale_(tensors: list[Tensor], factor: float | Tensor) -> None:
    # On a CPU, torch 2.14 rounds a Python factor to the tensors' dtype first: in bfloat16 a beta2
    # of 0.99 would become 0.988, and a decay of 0.9999 none at all. Not so a factor in a tensor.
    if tensors[0].device.type == "cpu":
        dtype = torch.promote_types(tensors[0].dtype, torch.float32)
        factor = torch.as_tensor(factor, dtype=dtype, device="cpu")
    torch._foreach_mul_(tensors, factor)


def _buckets(
    params: Sequence[Tensor], grads: Sequence[Tensor], exp_avgs: Sequence[Tensor]
) -> Iterator[Bucket]:
    # The fast kernels want one device and one dtype a list, and otherwise fall back to a slow loop.
    buckets: dict[object, Bucket] = {}
    for param, grad, exp_avg in zip(params, grads, exp_avgs, strict=True):
        bucket = buckets.setdefault((param.device, param.dtype, grad.dtype), ([], [], []))
        for column, tensor in zip(bucket, (param, grad, exp_avg), strict=True):
            column.append(tensor)
    yield from buckets.values()
