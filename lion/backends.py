"""The table of Lion's fast paths: which one serves a group, and its import when first used.

A backend is a file with one function, `update(params, grads, exp_avgs, *, lr, beta1, beta2,
weight_decay, maximize)`, that steps lists of real tensors in place. To add one: write the file,
give it a line in `load`, and say in `choose` when it is taken.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from lion import fused_cuda, native

_FOREACH_DEVICES = ("cuda", "xpu", "mtia")


def choose(
    params: Sequence[Tensor],
    *,
    foreach: bool | None,
    fused: bool | None = None,
    differentiable: bool = False,
) -> str:
    """Name the backend for these parameters.

    The fused kernels win, on a GPU (Triton's) and on a CPU. Next is foreach on a GPU, and the loop
    on a CPU: torch has no multi-tensor kernels there, and lists of fresh temporaries cost page
    faults. Tensor subclasses take the loop, as in torch.optim;
    so does torch.compile, which fuses by itself.

    Args:
        params: The parameters of a group that have gradients.
        foreach: True or False to decide; None to choose by device.
        fused: True to decide, False to exclude; None to choose by device and by what works there.
        differentiable: Whether autograd must see the step.

    Returns:
        "loop", "foreach", "fused", "fused_cuda" or "differentiable".
    """
    if differentiable:
        return "differentiable"
    if torch.compiler.is_compiling():
        return "foreach" if foreach else "loop"
    on_cuda = all(_is_plain(p) and p.device.type == "cuda" for p in params)
    if fused:
        return "fused" if any(p.is_cpu for p in params) else "fused_cuda"
    if foreach is None:
        if on_cuda and fused is None and all(map(fused_cuda.available, {p.device for p in params})):
            return "fused_cuda"
        foreach = all(_is_plain(p) and p.device.type in _FOREACH_DEVICES for p in params)
        if not foreach and fused is None and any(_is_plain(p) and p.is_cpu for p in params):
            return "fused" if native.available() else "loop"
    return "foreach" if foreach else "loop"


def _is_plain(param: Tensor) -> bool:
    return type(param) in (Tensor, Parameter)


def load(name: str) -> Callable[..., None]:
    """Import the backend `name` and return its `update`."""
    if name == "loop":
        from lion.loop import update
    elif name == "foreach":
        from lion.foreach import update
    elif name == "fused":
        from lion.fused import update
    elif name == "fused_cuda":
        update = fused_cuda.update
    elif name == "differentiable":
        from lion.differentiable import update
    else:
        raise AssertionError(f"no backend {name!r}")
    return update
