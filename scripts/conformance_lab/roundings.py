"""Ways to compute the same step in the same dtype: which one reproduces an optimizer to the bit?

A step has three parts, and each is looked for on its own: the momentum, the argument of the sign,
and the weight. The first entry of each table is what google's port does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

VECTOR = 64  # a multiple of the elements that torch's CPU kernels take at a time, whatever the CPU


@dataclass(frozen=True)
class Numbers:
    """The hyper-parameters of a step, in double precision."""

    lr: float
    weight_decay: float
    beta1: float
    beta2: float


def _mul_add(m: Tensor, g: Tensor, beta: float) -> Tensor:
    return m.mul(beta).add(g, alpha=1 - beta)


def _separate(m: Tensor, g: Tensor, beta: float) -> Tensor:
    return m * beta + g * (1 - beta)


def _lerp(m: Tensor, g: Tensor, beta: float) -> Tensor:
    return m.lerp(g, 1 - beta)


def _other_fused(m: Tensor, g: Tensor, beta: float) -> Tensor:
    product = g * (1 - beta)
    exact = m.double() * torch.tensor(beta, dtype=torch.float32).double() + product.double()
    return exact.to(m.dtype)


def _rounded_factor(m: Tensor, g: Tensor, beta: float) -> Tensor:
    return m.mul(torch.tensor(beta).to(m.dtype).item()).add(g, alpha=1 - beta)


AVERAGES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "three roundings": _separate,
    "g added with alpha: a rounding fewer": _mul_add,
    "lerp": _lerp,
    "beta * m fused with the sum": _other_fused,
    "beta rounded to the dtype first": _rounded_factor,
}


def _google_weight(p: Tensor, sign: Tensor, at: Numbers) -> Tensor:
    return p.mul(1 - at.lr * at.weight_decay).add(sign, alpha=-at.lr)


def _rounded_lr(p: Tensor, sign: Tensor, at: Numbers) -> Tensor:
    return p.mul(1 - at.lr * at.weight_decay) - sign * at.lr


def _tensor_lr(p: Tensor, sign: Tensor, at: Numbers) -> Tensor:
    lr = torch.tensor(at.lr)
    return p.mul(1 - lr * at.weight_decay) - sign * lr


def _one_update(p: Tensor, sign: Tensor, at: Numbers) -> Tensor:
    return p + (sign + p * at.weight_decay) * -at.lr


def _one_update_fused(p: Tensor, sign: Tensor, at: Numbers) -> Tensor:
    inner = (sign.double() + p.double() * at.weight_decay).to(p.dtype)
    return (p.double() - inner.double() * at.lr).to(p.dtype)


def _weight_fused(p: Tensor, sign: Tensor, at: Numbers) -> Tensor:
    factor = torch.tensor(1 - at.lr * at.weight_decay, dtype=torch.float32).double()
    return (p.double() * factor - (sign * at.lr).double()).to(p.dtype)


def _rounded_decay(p: Tensor, sign: Tensor, at: Numbers) -> Tensor:
    factor = torch.tensor(1 - at.lr * at.weight_decay).to(p.dtype).item()
    return p.mul(factor).add(sign, alpha=-at.lr)


WEIGHTS: dict[str, Callable[[Tensor, Tensor, Numbers], Tensor]] = {
    "decay, then add with alpha": _google_weight,
    "lr rounded to the dtype first": _rounded_lr,
    "1 - lr * decay computed in float32": _tensor_lr,
    "1 - lr * decay rounded to the dtype first": _rounded_decay,
    "p + -lr * (sign + decay * p)": _one_update,
    "p + -lr * (sign + decay * p), fused": _one_update_fused,
    "decay fused with the update": _weight_fused,
}
Column = list[Tensor]


def _sign(c: Tensor) -> Tensor:
    return torch.where(c.isnan(), c, c.sign())


def _averaged(average: Callable[..., Tensor], beta: float, m: Tensor, g: Tensor) -> Tensor:
    return average(m, g, beta)


# How the kernels are called: (what to say, elementwise function of tensors -> the same, otherwise).
def _direct(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    return function(*tensors)


def _padded(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    size, missing = tensors[0].numel(), -tensors[0].numel() % VECTOR
    flat = (pad(x.reshape(-1), (0, missing)) for x in tensors)
    return function(*flat)[:size].view(tensors[0].shape)


def _in_float32(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    return function(*(x.float() for x in tensors)).to(tensors[0].dtype)


CALLS: dict[str, Callable[..., Tensor]] = {
    "": _direct,
    "in float32, rounded once": _in_float32,
    "the same in the ragged tail, which torch's kernels round otherwise": _padded,
}


def _ways(dtype: torch.dtype) -> Iterator[tuple[str, Callable[..., Tensor]]]:
    # Only below float32 are the last two another thing than the first.
    yield from list(CALLS.items()) if dtype.itemsize < 4 else list(CALLS.items())[:1]


def momentum_ways(at: Numbers, dtype: torch.dtype) -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """Yield what to say and (m, g) -> m; google's first.

    Args:
        at: The hyper-parameters.
        dtype: Of the momentum.
    """
    names = ["g added with alpha: a rounding fewer", *AVERAGES]
    for how, call in _ways(dtype):
        for name in dict.fromkeys(names):
            said = "" if name == names[0] else name
            yield _said(said, how), partial(call, partial(_averaged, AVERAGES[name], at.beta2))


def weight_ways(at: Numbers, dtype: torch.dtype) -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """Yield what to say and (p, m, g) -> p; google's first.

    Args:
        at: The hyper-parameters.
        dtype: Of the weight.
    """

    def step(average: Callable, weight: Callable, p: Tensor, m: Tensor, g: Tensor) -> Tensor:
        return weight(p, _sign(average(m, g, at.beta1)).to(p.dtype), at)

    for how, call in _ways(dtype):
        for weight_name, weight in WEIGHTS.items():
            for c_name, average in AVERAGES.items():
                parts = []
                if weight_name != next(iter(WEIGHTS)):
                    parts.append(weight_name)
                if c_name != next(iter(AVERAGES)):
                    parts.append(f"inside the sign: {c_name}")
                yield _said("; ".join(parts), how), partial(call, partial(step, average, weight))


def _said(what: str, how: str) -> str:
    return ", ".join(x for x in (what, how) if x)
