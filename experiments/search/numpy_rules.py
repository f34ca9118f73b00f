"""What every function of the language computes in float64 NumPy: the rules of the probes.

Values are arrays (..., n), whose last axis runs over all weights of a model, or scalars: Python
floats, or arrays (..., 1). Reductions run over the last axis and keep it, so that a leading axis of
programs, seeds or learning rates is never mixed. Where NumPy would divide by zero or take the
logarithm of zero, the magnitude of that operand is raised to `EPSILON`; elsewhere the rules are
NumPy's, NaN outside of the domain included (arcsin of 2), and sqrt and log act on the magnitude, as
in the public code. `guarded` gives those rules with another epsilon.

Source: arXiv:2302.06675, appendix "Available functions"; google/automl, hero/fn_lib.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

EPSILON = 1e-30
"""Smallest magnitude of a divisor and of the argument of a logarithm."""
SINGLE_EPSILON = 1e-12
"""The same in float32, in which programs are trained."""


def guard(x: Any, epsilon: float = EPSILON) -> Any:
    """`x` with its magnitude raised to `epsilon` where it is smaller; the sign is kept."""
    return np.copysign(np.maximum(np.abs(x), epsilon), x)


def dot(x: Any, y: Any) -> Any:
    """Inner product over the last axis, which is kept."""
    product = np.multiply(x, y)
    return product if np.ndim(product) == 0 else product.sum(axis=-1, keepdims=True)


def global_norm(x: Any) -> Any:
    """Euclidean norm over the last axis, which is kept."""
    return np.sqrt(dot(x, x))


def norm(x: Any, sizes: tuple[int, ...] | None = None) -> Any:
    """Euclidean norm of each weight tensor, at every entry of the tensor.

    Args:
        x: Array (..., n), or a scalar.
        sizes: Entries of each tensor, in order along the last axis; None: they are one tensor.

    Returns:
        An array of the shape of `x`.
    """
    if np.ndim(x) == 0 or np.shape(x)[-1] == 1:
        return np.abs(x)
    if sizes is None:
        return np.broadcast_to(global_norm(x), np.shape(x))
    starts = np.cumsum((0, *sizes[:-1]))
    return np.repeat(np.sqrt(np.add.reduceat(np.square(x), starts, axis=-1)), sizes, axis=-1)


def interpolate(x: Any, y: Any, a: Any) -> Any:
    """(1 - a) x + a y."""
    return (1.0 - a) * x + a * y


RULES: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "power": np.power,
    "maximum": lambda x, y: np.maximum(x, y) + 0.0,  # of 0 and -0 it is 0 in either order
    "minimum": lambda x, y: np.minimum(x, y) + 0.0,
    "abs": np.abs,
    "negative": np.negative,
    "sign": np.sign,
    "square": np.square,
    "cube": lambda x: np.multiply(np.multiply(x, x), x),
    "sqrt": lambda x: np.sqrt(np.abs(x)),
    "cbrt": np.cbrt,
    "exp": np.exp,
    "exp2": np.exp2,
    "exp10": lambda x: np.power(10.0, x),
    "expm1": np.expm1,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "arcsin": np.arcsin,
    "arccos": np.arccos,
    "arctan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "arcsinh": np.arcsinh,
    "arccosh": np.arccosh,
    "arctanh": np.arctanh,
    "norm": norm,
    "global_norm": global_norm,
    "dot": dot,
    "interpolate": interpolate,
    "get_pi": lambda: math.pi,
    "get_e": lambda: math.e,
    "get_eps": lambda: 1e-8,
    "copy": lambda x: x,
}


def guarded(epsilon: float) -> dict[str, Callable[..., Any]]:
    """The rules that divide or take logarithms, with an epsilon of one's own."""

    def above(x: Any) -> Any:
        return guard(x, epsilon)

    return {
        "div": lambda x, y: np.divide(x, above(y)),
        "reciprocal": lambda x: np.divide(1.0, above(x)),
        "log": lambda x: np.log(np.abs(above(x))),
        "log2": lambda x: np.log2(np.abs(above(x))),
        "log10": lambda x: np.log10(np.abs(above(x))),
        "log1p": lambda x: np.log(np.abs(above(np.add(1.0, x)))),
        "cosine_sim": lambda x, y: dot(x, y) / above(global_norm(x) * global_norm(y)),
        "clip_by_global_norm": lambda x, a: np.minimum(1.0, a / above(global_norm(x))) * x,
    }


RULES.update(guarded(EPSILON))

SINGLE: dict[str, Callable[..., Any]] = {
    **RULES,
    **guarded(SINGLE_EPSILON),
    **{f"get_{name}": partial(np.float32, RULES[f"get_{name}"]()) for name in ("pi", "e", "eps")},
}
"""Rules of float32 arrays and numbers, whose results are float32, too."""
