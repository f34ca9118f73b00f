"""Small questions about sympy's polynomials and about rational numbers, answered exactly."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from sympy import QQ
from sympy.polys.rings import ring as make_ring


def rational(number: Any) -> Fraction:
    """One of sympy's rational numbers as Python's."""
    return Fraction(int(number.numerator), int(number.denominator))


def is_number(value: Any) -> bool:
    """Whether a quotient of polynomials is constant."""
    return value.numer.is_ground and value.denom.is_ground


def to_fraction(value: Any) -> Fraction:
    """A value that is a number, as a fraction."""
    return rational(value.numer.LC) / rational(value.denom.LC)


def leads_negative(value: Any) -> bool:
    """Whether the leading coefficient of a quotient of polynomials is negative."""
    return bool(value) and value.numer.LC / value.denom.LC < 0


def factorise(polynomial: Any) -> tuple[Fraction, list[tuple[Any, int]]]:
    """Irreducible factors over the rationals, each with a leading coefficient > 0.

    In a ring of the variables that occur, because sympy's time grows with the others, too.
    """
    ring = polynomial.ring
    used = [i for i in range(ring.ngens) if any(m[i] for m in polynomial)]
    if not used:
        return rational(polynomial.LC), []
    small, *_ = make_ring([f"x{i}" for i in used], QQ)
    inside = small.from_dict({tuple(m[i] for i in used): c for m, c in polynomial.terms()})
    coefficient, found = inside.factor_list()
    number = rational(coefficient)
    parts = []
    for part, power in found:
        lead = part.LC
        number *= rational(lead) ** power
        terms = {}
        for m, c in part.terms():
            exponents = [0] * ring.ngens
            for i, exponent in zip(used, m, strict=True):
                exponents[i] = exponent
            terms[tuple(exponents)] = c / lead
        parts.append((ring.from_dict(terms), power))
    return number, parts


def number_at(polynomial: Any, used: list[int], case: tuple[int, ...]) -> Fraction:
    """A polynomial of some unknowns alone, at their values."""
    for index, value in zip(used, case, strict=True):
        polynomial = polynomial.subs(index, value)
    return rational(polynomial.LC) if polynomial else Fraction(0)


def sign_at(polynomial: Any, used: list[int], case: tuple[int, ...]) -> int:
    """The sign of a polynomial of some unknowns alone, at their values."""
    number = number_at(polynomial, used, case)
    return (number > 0) - (number < 0)


def exact_root(number: Fraction, power: int) -> Fraction | None:
    """The rational root of a number (for squares: of its magnitude), if it has one."""
    parts = []
    for whole in (abs(number.numerator), number.denominator):
        guess = _integer_root(whole, power)
        if guess is None:
            return None
        parts.append(guess)
    root = Fraction(*parts)
    return -root if power == 3 and number < 0 else root


def _integer_root(whole: int, power: int) -> int | None:
    low, high = 0, 1 << (whole.bit_length() // power + 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**power < whole else (low, middle)
    return low if low**power == whole else None
