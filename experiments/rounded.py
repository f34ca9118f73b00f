"""Differences as text: none is rounded onto zero, so that its side of zero can be read off."""

from __future__ import annotations

import math


def rounded(value: float, digits: int, signed: bool = False) -> str:
    """A number with its digits behind the point; a small one with the first digit that counts.

    Args:
        value: 0.0004 with two digits is 0.0004, and -0.0 is 0.00.
        digits: Behind the point.
        signed: Whether a plus is shown, too.
    """
    sign = "+" if signed else ""
    if not value:
        return f"{0:{sign}.{digits}f}"
    text = f"{value:{sign}.{digits}f}"
    return text if not math.isfinite(value) or float(text) else f"{value:{sign}.1g}"


def ends(low: float, high: float, digits: int, signed: bool = False) -> str:
    """An interval: [-1.47, 2.59]."""
    return f"[{rounded(low, digits, signed)}, {rounded(high, digits, signed)}]"


def with_signs(mean: float, low: float, high: float, digits: int) -> str:
    """A difference and its interval: +0.56 [-1.47, +2.59]."""
    return f"{rounded(mean, digits, signed=True)} {ends(low, high, digits, signed=True)}"
