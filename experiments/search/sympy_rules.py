"""What every function of the language means, as a symbolic expression of one weight.

Reductions over all weights are uninterpreted functions (`global_norm(x)`): they have no value in
terms of one weight. Divisors are taken as they are, without the epsilon of the numeric rules: a
statement about an expression holds where no divisor is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp

_dot = sp.Function("dot", real=True)
_norm = sp.Function("norm", real=True, nonnegative=True)
_global_norm = sp.Function("global_norm", real=True, nonnegative=True)


def clip_by_global_norm(x: Any, a: Any) -> Any:
    """min(1, a / |x|) x, with the norm over all weights."""
    return sp.Min(1, a / _global_norm(x)) * x


RULES: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "power": lambda x, y: x**y,
    "maximum": sp.Max,
    "minimum": sp.Min,
    "abs": sp.Abs,
    "negative": lambda x: -x,
    "sign": sp.sign,
    "square": lambda x: x**2,
    "cube": lambda x: x**3,
    "sqrt": lambda x: sp.sqrt(sp.Abs(x)),
    "cbrt": lambda x: sp.sign(x) * sp.Abs(x) ** sp.Rational(1, 3),
    "reciprocal": lambda x: 1 / x,
    "exp": sp.exp,
    "exp2": lambda x: 2**x,
    "exp10": lambda x: 10**x,
    "expm1": lambda x: sp.exp(x) - 1,
    "log": lambda x: sp.log(sp.Abs(x)),
    "log2": lambda x: sp.log(sp.Abs(x), 2),
    "log10": lambda x: sp.log(sp.Abs(x), 10),
    "log1p": lambda x: sp.log(sp.Abs(1 + x)),
    "sin": sp.sin,
    "cos": sp.cos,
    "tan": sp.tan,
    "arcsin": sp.asin,
    "arccos": sp.acos,
    "arctan": sp.atan,
    "sinh": sp.sinh,
    "cosh": sp.cosh,
    "tanh": sp.tanh,
    "arcsinh": sp.asinh,
    "arccosh": sp.acosh,
    "arctanh": sp.atanh,
    "norm": _norm,
    "global_norm": _global_norm,
    "dot": _dot,
    "cosine_sim": lambda x, y: _dot(x, y) / (_global_norm(x) * _global_norm(y)),
    "clip_by_global_norm": clip_by_global_norm,
    "interpolate": lambda x, y, a: (1 - a) * x + a * y,
    "get_pi": lambda: sp.pi,
    "get_e": lambda: sp.E,
    "get_eps": lambda: sp.Rational(1, 10**8),
    "copy": lambda x: x,
}
