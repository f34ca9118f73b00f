"""The table of Lion's fast paths: which one serves a group, and its import when first used.

A backend is a file with one function, `update(params, grads, exp_avgs, *, lr, beta1, beta2,
weight_decay, maximize)`, that steps lists of real tensors in place. To add one: write the file,
give it a line in `load`, and say in `choose` when it is taken.
"""

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import Parameter

_FOREACH_DEVICES = ("cuda", "xpu", "mtia")


def choose(params: Sequence[Tensor], *, foreach: bool | None, differentiable: bool) -> str:
    """Name the backend for these parameters.

    On a CPU the loop wins: torch has no fused multi-tensor kernels there, and lists of fresh
    temporaries cost page faults. Tensor subclasses take the loop too, as in torch.optim.

    Args:
        params: The parameters of a group that have gradients.
        foreach: True or False to decide; None to choose by device.
        differentiable: Whether autograd must see the step.

    Returns:
        "loop", "foreach" or "differentiable".
    """
    if differentiable:
        return "differentiable"
    if foreach is None:
        foreach = all(
            type(p) in (Tensor, Parameter) and p.device.type in _FOREACH_DEVICES for p in params
        )
    return "foreach" if foreach else "loop"


def load(name: str) -> Callable[..., None]:
    """Import the backend `name` and return its `update`."""
    if name == "loop":
        from lion.loop import update
    elif name == "foreach":
        from lion.foreach import update
    elif name == "differentiable":
        from lion.differentiable import update
    else:
        raise AssertionError(f"no backend {name!r}")
    return update
