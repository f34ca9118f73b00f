"""What is known of the functions that are no algebra: signs, zeros, some values, domains."""

from __future__ import annotations

from fractions import Fraction

POSITIVE = {"exp", "exp2", "exp10", "cosh", "norm", "global_norm", "get_pi", "get_e"}
NORMS = {"norm", "global_norm"}
ZERO_OF_ZERO = {"norm", "global_norm", "dot", "cosine_sim"}
"""Besides the odd functions."""
SIGN_KEEPING = {"tanh", "sinh", "arctan", "arcsinh", "cbrt"}
"""Defined for every number, odd and increasing: their sign is that of their argument."""
PARTIAL = {"arcsin", "arccos", "arccosh", "arctanh", "power"}
"""NaN for some numbers: even a difference that cancels is not 0 there."""
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
