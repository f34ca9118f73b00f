"""What is known of the functions that are no algebra: signs, zeros, some values, domains."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

POSITIVE = {"exp", "exp2", "exp10", "cosh", "norm", "global_norm", "get_pi", "get_e"}
NORMS = {"norm", "global_norm"}
ZERO_OF_ZERO = {"norm", "global_norm", "dot", "cosine_sim"}
"""Besides the odd functions."""
SIGN_KEEPING = {"tanh", "sinh", "arctan", "arcsinh", "cbrt"}
"""Defined for every number, odd and increasing: their sign is that of their argument."""
PARTIAL = {"arcsin", "arccos", "arccosh", "arctanh", "power"}
"""NaN for some numbers: even a difference that cancels is not 0 there."""
OF_SCALARS: dict[str, Callable[..., Any]] = {
    "norm": lambda k, x: k.absolute(x),
    "global_norm": lambda k, x: k.absolute(x),
    "dot": lambda k, x, y: x * y,
    "cosine_sim": lambda k, x, y: k.over(x * y, k.absolute(x * y)),
    "clip_by_global_norm": lambda k, x, a: -k.larger(-k.one, -k.over(a, k.absolute(x))) * x,
}
"""Of an array that is 1 everywhere the norm is the root of their number, of a scalar 1 it is 1: two
functions, of which the former alone is named as an unknown."""
_AT = {
    Fraction(0): {
        **dict.fromkeys(("exp", "exp2", "exp10", "cos", "cosh"), Fraction(1)),
        **dict.fromkeys(("expm1", "log1p"), Fraction(0)),
    },
    Fraction(1): dict.fromkeys(("log", "log2", "log10", "arccos", "arccosh"), Fraction(0)),
}


def value_at(function: str, number: Fraction) -> Fraction | None:
    """What a function of one argument is at a number, where that is a plain fraction."""
    return _AT.get(number, {}).get(function)
