"""What every function of the language computes in torch: the rules of training.

Values are tensors (..., n), whose last axis runs over all weights of a model, or scalars: Python
floats, or tensors (..., 1). Reductions run over the last axis and keep it: with a leading axis of
programs x learning rates x seeds, a row depends on that row alone. The magnitude of a divisor is
raised to `EPSILONS` of its dtype; otherwise the rules are those of `numpy_rules`. A function of
floats alone gives a float.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from experiments.search import numpy_rules

EPSILONS = {
    torch.float64: numpy_rules.EPSILON,
    torch.float32: numpy_rules.SINGLE_EPSILON,
    torch.bfloat16: 1e-12,
    torch.float16: 6e-8,  # 1e-12 would be 0
}
"""Smallest magnitude of a divisor and of the argument of a logarithm."""


def guard(x: Any) -> Any:
    """`x` with its magnitude raised to the dtype's epsilon where it is smaller; sign kept."""
    if not isinstance(x, Tensor):
        return float(numpy_rules.guard(x))
    return torch.copysign(x.abs().clamp_min(EPSILONS[x.dtype]), x)


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Inner product over the last axis, which is kept."""
    return (x * y).sum(-1, keepdim=True)


def global_norm(x: Any) -> Any:
    """Euclidean norm over the last axis, which is kept."""
    if not isinstance(x, Tensor):  # a constant beside a tensor, e.g. clip(2.0, lr)
        return abs(x)
    return dot(x, x).sqrt()


def norm(x: Tensor, sizes: tuple[int, ...] | None = None) -> Tensor:
    """Euclidean norm of each weight tensor, at every entry of it; see `numpy_rules.norm`."""
    if x.shape[-1] == 1:
        return x.abs()
    pieces = x.split(sizes, dim=-1) if sizes else (x,)
    return torch.cat([global_norm(piece).expand_as(piece) for piece in pieces], dim=-1)


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1, and NaN of NaN (`torch.sign` says 0, which would hide a broken program)."""
    return torch.where(torch.isnan(x), x, torch.sign(x))


def _extreme(pick: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """maximum or minimum, of which torch wants tensors on both sides."""

    def rule(x: Any, y: Any) -> Tensor:
        if not isinstance(x, Tensor):
            x, y = y, x
        y = y if isinstance(y, Tensor) else x.new_tensor(y)  # inf if out of range
        return pick(x, y) + 0.0  # of 0 and -0 it is 0 in either order

    return rule


_TENSOR_RULES: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / guard(y),
    "power": torch.pow,
    "maximum": _extreme(torch.maximum),
    "minimum": _extreme(torch.minimum),
    "abs": torch.abs,
    "negative": torch.neg,
    "sign": sign,
    "square": torch.square,
    "cube": lambda x: x * x * x,
    "sqrt": lambda x: x.abs().sqrt(),
    "cbrt": lambda x: torch.copysign(x.abs().pow(1 / 3), x),
    "reciprocal": lambda x: 1.0 / guard(x),
    "exp": torch.exp,
    "exp2": torch.exp2,
    "exp10": lambda x: torch.pow(10.0, x),
    "expm1": torch.expm1,
    "log": lambda x: guard(x).abs().log(),
    "log2": lambda x: guard(x).abs().log2(),
    "log10": lambda x: guard(x).abs().log10(),
    "log1p": lambda x: guard(1.0 + x).abs().log(),
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "arcsin": torch.arcsin,
    "arccos": torch.arccos,
    "arctan": torch.arctan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "arcsinh": torch.arcsinh,
    "arccosh": torch.arccosh,
    "arctanh": torch.arctanh,
    "norm": norm,
    "global_norm": global_norm,
    "dot": dot,
    "cosine_sim": lambda x, y: dot(x, y) / guard(global_norm(x) * global_norm(y)),
    "clip_by_global_norm": lambda x, a: (a / guard(global_norm(x))).clamp_max(1.0) * x,
    "interpolate": numpy_rules.interpolate,
    "get_pi": numpy_rules.RULES["get_pi"],
    "get_e": numpy_rules.RULES["get_e"],
    "get_eps": numpy_rules.RULES["get_eps"],
    "copy": torch.clone,  # a buffer that is a copy of the weights must not move with them
}


def _also_of_floats(name: str, rule: Callable[..., Any]) -> Callable[..., Any]:
    """Sends calls without any tensor to the NumPy rule."""
    of_floats = numpy_rules.RULES[name]

    @wraps(rule)
    def either(*arguments: Any) -> Any:
        for argument in arguments:
            if isinstance(argument, Tensor):
                return rule(*arguments)
        return float(of_floats(*arguments))

    return either


RULES = {name: _also_of_floats(name, rule) for name, rule in _TENSOR_RULES.items()}
