"""The field in which programs have exact values: rational functions of inputs and unknowns.

An unknown is a name for what is no rational function of the inputs: a sign, a root, `tanh(...)`.
What is known of its square (or cube) is used until every value has one form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from sympy import QQ
from sympy.polys.fields import field as make_field

from experiments.search.language import INPUTS
from experiments.search.polynomials import rational

_MOST_TERMS, _MOST_BITS, _HIGHEST_POWER = 500, 20_000, 1_000
_MOST_TO_FACTORISE = 40

Value = Any
"""An element of sympy's field of rational functions."""


class Undecided(Exception):
    """The algebra does not reach this far; says why."""


class TooFewUnknowns(Undecided):
    """More unknowns than the field was made for."""


@dataclass
class Unknown:
    """What is known of a generator beyond the inputs.

    Attributes:
        power, equals: The unknown to this power is that value; power 0: nothing of the kind.
        sign: Its own sign: a value, or None if that is not known.
        argument: For a sign: what it is the sign of.
        may_be_zero: For a norm: its sign is 1 or 0.
    """

    power: int = 0
    equals: Value = None
    sign: Value = None
    argument: Value = None
    may_be_zero: bool = False


def constant(number: float) -> Fraction:
    """The decimal number that the shortest text of a float shows."""
    return Fraction(repr(number))


def check_size(value: Value) -> None:
    """Gives up before a value fills the memory: `x = x * x` sixty times over.

    Raises:
        Undecided: more terms, digits or powers than are worth following.
    """
    if len(value.numer) + len(value.denom) > _MOST_TERMS:
        raise Undecided(f"a value of more than {_MOST_TERMS} terms")
    for polynomial in (value.numer, value.denom):
        for exponents, coefficient in polynomial.terms():
            number = rational(coefficient)
            if max(number.numerator.bit_length(), number.denominator.bit_length()) > _MOST_BITS:
                raise Undecided(f"a number of more than {_MOST_BITS:,} binary digits")
            if max(exponents) > _HIGHEST_POWER:
                raise Undecided(f"a power above {_HIGHEST_POWER:,}")


def check_factors(polynomial: Any) -> None:
    """Gives up before sympy takes hours: c^81, of two variables.

    Raises:
        Undecided: a sum of a degree too high to factorise.
    """
    degree = max((sum(exponents) for exponents in polynomial), default=0)
    if len(polynomial) > _MOST_TO_FACTORISE and degree > _MOST_TO_FACTORISE:
        raise Undecided(f"a sum of {len(polynomial)} terms and degree {degree} to factorise")


@dataclass
class Unknowns:
    """The field of values and what is known of its unknowns.

    Once it is closed, a function that needs a new unknown is `Undecided`: its value is none of
    those that were there. `nonzero` gathers what was taken not to be zero on the way: what divides,
    what a sign is of whose square became 1, even powers that a sign leaves out. `partial` are the
    functions among them that are not defined everywhere.
    """

    num_unknowns: int
    is_closed: bool = False
    unknowns: list[Unknown] = field(default_factory=list)
    named: dict[Any, Value] = field(default_factory=dict)
    nonzero: dict[Value, None] = field(default_factory=dict)
    partial: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [*INPUTS, *(f"u{i}" for i in range(self.num_unknowns))]
        made: tuple[Any, ...] = make_field(names, QQ)
        self.field, *self.generators = made
        self.inputs = dict(zip(INPUTS, self.generators, strict=False))
        self.zero, self.one = self.field.zero, self.field.one

    def number(self, value: Fraction) -> Value:
        return self.field(QQ(value.numerator, value.denominator))

    def read(self, argument: str | float, values: dict[str, Value]) -> Value:
        if isinstance(argument, str):
            return values[argument]
        return self.number(constant(argument))

    def unknown(self, name: Any, known: Unknown) -> Value:
        if name not in self.named:
            if self.is_closed or len(self.unknowns) == self.num_unknowns:
                raise TooFewUnknowns
            self.unknowns.append(known)
            self.named[name] = self.generators[len(INPUTS) + len(self.unknowns) - 1]
        return self.named[name]

    def about(self, index: int) -> Unknown | None:
        """What is known of a generator; None for an input."""
        return self.unknowns[index - len(INPUTS)] if index >= len(INPUTS) else None

    def reduce(self, value: Value) -> Value:
        """Uses that the square of a sign is 1, and the like, above and below the line."""
        value = self.lowered(value.numer) / self.lowered(value.denom)
        for index in range(len(INPUTS), len(INPUTS) + len(self.unknowns)):
            known = self.about(index)
            assert known is not None
            if known.power == 2 and any(m[index] for m in value.denom):
                value = self.without_root_below(value, index)
        return value

    def lowered(self, polynomial: Any) -> Value:
        """A polynomial in which no unknown stands at a power that is known."""
        limits = [(i + len(INPUTS), u) for i, u in enumerate(self.unknowns) if u.power]
        if not any(m[i] >= u.power for m in polynomial for i, u in limits):
            return self.field(polynomial)
        total = self.zero
        for monomial, coefficient in polynomial.terms():
            exponents, factor = list(monomial), self.field(coefficient)
            for i, known in limits:
                times, exponents[i] = divmod(exponents[i], known.power)
                factor *= known.equals**times
                if times and not exponents[i] and known.argument is not None:
                    self.nonzero[known.argument] = None
            for i, exponent in enumerate(exponents):
                factor *= self.generators[i] ** exponent
            total += factor
            check_size(total)
        return self.reduce(total) if total else total

    def without_root_below(self, value: Value, index: int) -> Value:
        """Multiplies above and below with a - b r where a + b r stands below."""
        root, below = self.generators[index], self.zero
        flipped = self.zero
        for monomial, coefficient in value.denom.terms():
            term = self.field(self.field.ring.from_dict({monomial: coefficient}))
            below += term
            flipped += -term if monomial[index] % 2 else term
        if all(monomial[index] for monomial in value.denom):
            flipped = root
        whole = self.lowered((below * flipped).numer) / self.lowered((below * flipped).denom)
        if not whole:
            raise Undecided("divides by a value that is zero for one sign")
        above = self.field(value.numer) * flipped
        return self.lowered(above.numer) / self.lowered(above.denom) / whole
