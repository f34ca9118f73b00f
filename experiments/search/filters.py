"""Linear filters of the gradient in exact rationals: state space, transfer function, betas.

A program that is sign momentum signs s_t = C x_{t-1} + D g_t with buffers x_t = A x_{t-1} + B g_t,
x_0 = 0. All that s does is in H(z) = D + C (z - A)^{-1} B, in lowest terms. Lion signs
beta1 m_{t-1} + (1 - beta1) g_t, whose H is a positive multiple of

    (z - q) / (z - p)   with   p = beta2,   q = (beta2 - beta1) / (1 - beta1),

so the betas can be read off any program of the family, whatever its buffers are called, however
they are scaled or mixed. Two filters have the same signs for all gradients only if each H is a
positive multiple of the other.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

Vector = list[Fraction]


class Filter(NamedTuple):
    """s = C x + D g; x <- A x + B g; x starts at zero; one or two buffers, or none."""

    A: list[Vector]
    B: Vector
    C: Vector
    D: Fraction


def transfer(system: Filter) -> tuple[Vector, Vector]:
    """Numerator and denominator of H(z) in lowest terms, coefficients from the highest power.

    Returns:
        (numerator, denominator), the denominator with leading coefficient 1.
    """
    size = len(system.B)
    if size == 0:
        return [system.D], [Fraction(1)]
    (a, b), (c, d) = system.A if size == 2 else ([system.A[0][0], 0], [0, 0])
    (b1, b2), (c1, c2) = ((*system.B, 0)[:2], (*system.C, 0)[:2])
    below = [Fraction(1), -(a + d), a * d - b * c] if size == 2 else [Fraction(1), -a]
    if size == 2:  # C adj(z - A) B
        slope = c1 * b1 + c2 * b2
        above = [Fraction(0), slope, c1 * (b * b2 - d * b1) + c2 * (c * b1 - a * b2)]
    else:
        above = [Fraction(0), c1 * b1]
    above = _strip([x + system.D * y for x, y in zip(above, below, strict=True)])
    common = _common_divisor(above, below)
    above, below = _divide(above, common)[0], _divide(below, common)[0]
    return [x / below[0] for x in above], [x / below[0] for x in below]


def betas(above: Vector, below: Vector) -> tuple[Fraction, Fraction] | str:
    """(beta1, beta2) of a transfer function; or why it is no Lion's.

    The filter of the plain gradient is that of beta1 = 0 and any beta2; beta2 = 0 is given.
    """
    if not any(above):
        return "what is signed does not depend on the gradient"
    if len(below) > 2:
        return "what is signed is a filter of second order: two buffers that both remember"
    if len(above) < len(below):
        return "what is signed lacks the newest gradient (beta1 = 1, outside of [0, 1))"
    if above[0] < 0:
        return "the step goes up the gradient: minus the sign"
    if len(below) == 1:
        return Fraction(0), Fraction(0)
    pole, zero = -below[1], -above[1] / above[0]
    if zero == 1:
        return "what is signed forgets the mean of the gradients: no beta1 gives this"
    beta1 = (pole - zero) / (1 - zero)
    if not (0 <= beta1 < 1 and 0 <= pole < 1):
        return f"a filter with beta1 = {beta1}, beta2 = {pole}, not both in [0, 1)"
    return beta1, pole


def _strip(polynomial: Vector) -> Vector:
    """Without leading zeros; [0] for zero."""
    first = next((i for i, x in enumerate(polynomial) if x), len(polynomial) - 1)
    return polynomial[first:]


def _divide(above: Vector, below: Vector) -> tuple[Vector, Vector]:
    """Quotient and remainder of polynomials."""
    quotient, rest = [Fraction(0)], list(above)
    while len(rest) >= len(below) and any(rest):
        factor = rest[0] / below[0]
        length = len(rest) - len(below)
        term = [factor, *[Fraction(0)] * length]
        quotient = _add(quotient, term)
        product = [factor * x for x in below] + [Fraction(0)] * length
        rest = _strip([x - y for x, y in zip(rest, product, strict=True)])
    return _strip(quotient), rest


def _add(x: Vector, y: Vector) -> Vector:
    length = max(len(x), len(y))
    x, y = ([Fraction(0)] * (length - len(p)) + p for p in (x, y))
    return [a + b for a, b in zip(x, y, strict=True)]


def _common_divisor(x: Vector, y: Vector) -> Vector:
    while any(y):
        x, y = y, _divide(x, y)[1]
    return x
