"""Exact symbolic execution of one step, for one weight: rational functions and named unknowns.

Values are quotients of polynomials with rational coefficients, in lowest terms, in w, g, m, v, lr
and in further unknowns: the sign of a polynomial (whose square is 1), a root (whose square or cube
is what it is a root of), and every value that is no algebra (`tanh(...)`, `clip`, norms), named by
its function and its arguments. So two values are equal if their quotients are, wherever no sign is
taken of zero and nothing is divided by zero. `lr` is positive.

A constant of a program is the decimal number that its text shows: 0.9 is 9/10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from experiments.search import opaque, types
from experiments.search.language import INPUTS, STATES, Program
from experiments.search.operations import OPERATIONS
from experiments.search.polynomials import (
    exact_root,
    factorise,
    is_number,
    leads_negative,
    number_at,
    sign_at,
    to_fraction,
)
from experiments.search.unknowns import (
    TooFewUnknowns,
    Undecided,
    Unknown,
    Unknowns,
    Value,
    check_factors,
    check_size,
    constant,
)

__all__ = ["Algebra", "Result", "Undecided", "Value", "constant", "execute"]

_MOST_SIGNS = 4


@dataclass
class Result:
    """A step in symbols.

    Attributes:
        update, states: The values after the step; states by name.
        zeros: Buffers that are zero at every step, since they start so and this step keeps it.
        algebra: The inputs and unknowns that the values are made of.
    """

    update: Value
    states: dict[str, Value]
    zeros: tuple[str, ...]
    algebra: Algebra


def execute(program: Program) -> Result:
    """The update and both buffers after one step, as functions of the buffers before it.

    Raises:
        Undecided: a division by zero, or more unknowns than are worth following.
    """
    for zeros in (STATES, *((name,) for name in STATES)):
        if _seem_zero(program, zeros):
            try:
                result = _execute(program, zeros)
            except Undecided:
                continue
            if not any(result.states[name] for name in zeros):
                return result
    return _execute(program, ())


def _seem_zero(program: Program, names: tuple[str, ...]) -> bool:
    """Whether buffers are zero after a step from zero, in numbers: a quick look."""
    from experiments.search import probes
    from experiments.search.execution import numpy_step

    probe = probes.small()
    zero = np.zeros(probe.g.shape[1])
    with np.errstate(all="ignore"):
        _, m, v = numpy_step(program, probe.sizes)(probe.w[0], probe.g[0], zero, zero, probe.lr[0])
    return not any(np.any({"m": m, "v": v}[name]) for name in names)


def _execute(program: Program, zeros: tuple[str, ...]) -> Result:
    for num_unknowns in (4, 12, 40):
        algebra = Algebra(num_unknowns)
        try:
            values: dict[str, Value] = {**algebra.inputs, **dict.fromkeys(zeros, algebra.zero)}
            for _ in algebra.follow(program, values):
                pass
            return Result(values["update"], {s: values[s] for s in STATES}, zeros, algebra)
        except TooFewUnknowns:
            continue
    raise Undecided("more than 40 signs, roots and functions that are no algebra")


class Algebra(Unknowns):
    """The functions of the language on exact values."""

    def follow(self, program: Program, values: dict[str, Value]) -> Iterator[None]:
        """Executes a program, and stops after each statement; `values` are those of variables."""
        kinds = types.INPUT_KINDS.copy()
        for statement in program.statements:
            target, function, arguments = statement
            are_scalars = all(kinds.get(str(a), types.SCALAR) is types.SCALAR for a in arguments)
            given = [self.read(argument, values) for argument in arguments]
            values[target] = self.apply(function, given, are_scalars)
            kinds[target] = types.result_kind(statement, kinds)
            yield

    def apply(self, function: str, arguments: list[Value], are_scalars: bool = False) -> Value:
        """The value of a function; what is no algebra becomes an unknown."""
        rule = (opaque.OF_SCALARS.get(function) if are_scalars else None) or _RULES.get(function)
        found = rule(self, *arguments) if rule else self.opaque(function, arguments)
        check_size(found)
        return self.reduce(found)

    def opaque(self, function: str, arguments: list[Value]) -> Value:
        """An unknown named by its function and arguments, odd functions of a positive lead."""
        factor = self.one
        if (OPERATIONS[function].odd or function in opaque.ZERO_OF_ZERO) and not all(arguments):
            return self.zero
        if len(arguments) == 1 and is_number(arguments[0]):
            at = opaque.value_at(function, to_fraction(arguments[0]))
            if at is not None:
                return self.number(at)
        if function in opaque.PARTIAL:
            self.partial[function] = None
        if OPERATIONS[function].odd and leads_negative(arguments[0]):
            arguments, factor = [-arguments[0]], -self.one
        if OPERATIONS[function].commutative:
            arguments = sorted(arguments, key=str)
        sign = self.one if function in opaque.POSITIVE else None
        if function in opaque.SIGN_KEEPING:
            sign = self.sign(arguments[0])
        known = Unknown(sign=sign, may_be_zero=function in opaque.NORMS)
        return factor * self.unknown((function, *arguments), known)

    def factors(self, value: Value) -> tuple[Fraction, list[tuple[Any, int]]]:
        """A value as a constant times powers of polynomials whose leading coefficient is > 0."""
        number, parts = Fraction(1), []
        for polynomial, direction in ((value.numer, 1), (value.denom, -1)):
            check_factors(polynomial)
            coefficient, found = factorise(polynomial)
            number *= coefficient**direction
            parts += [(part, direction * power) for part, power in found]
        return number, parts

    def sign(self, value: Value) -> Value:
        """The sign of a value: a product of 1, -1 and unknowns whose square is 1."""
        if not value:
            return self.zero
        number, parts = self.factors(value)
        found = self.one if number > 0 else -self.one
        for polynomial, power in parts:
            if power % 2:
                found *= self.sign_of_factor(polynomial)
            else:
                self.nonzero[self.field(polynomial)] = None
        return self.reduce(found)

    def sign_of_factor(self, polynomial: Any) -> Value:
        used = [i for i in range(len(self.generators)) if any(m[i] for m in polynomial)]
        if polynomial == polynomial.ring.gens[used[0]]:
            known = self.about(used[0])
            if known is None:
                return self.one if INPUTS[used[0]] == "lr" else self.new_sign(polynomial)
            if known.sign is not None:
                if known.may_be_zero or known.power == 2 and known.argument is None:  # a root
                    self.nonzero[self.field(polynomial)] = None
                return known.sign
        if len(used) <= _MOST_SIGNS and all(self.is_sign(i) for i in used):
            return self.sign_over_cases(polynomial, used)
        if all(self.is_positive(i) for i in used) and all(c > 0 for c in polynomial.values()):
            self.nonzero[self.field(polynomial)] = None
            return self.one
        return self.new_sign(polynomial)

    def sign_over_cases(self, polynomial: Any, used: list[int]) -> Value:
        """The sign of a polynomial of signs alone, from its value in each case of +1 and -1.

        Where a case with a 0 comes out otherwise, that sign is taken not to be 0.
        """
        total = self.zero
        for case in product((1, -1), repeat=len(used)):
            share = self.one
            for index, value in zip(used, case, strict=True):
                share *= (1 + value * self.generators[index]) / 2
            total += share * sign_at(polynomial, used, case)
        for case in product((1, 0, -1), repeat=len(used)):
            found = number_at(total.numer, used, case) / number_at(total.denom, used, case)
            if 0 in case and found != sign_at(polynomial, used, case):
                known = self.about(used[case.index(0)])
                assert known is not None
                self.nonzero[known.argument] = None
        return total

    def is_sign(self, index: int) -> bool:
        known = self.about(index)
        return known is not None and known.argument is not None

    def is_positive(self, index: int) -> bool:
        known = self.about(index)
        return INPUTS[index] == "lr" if known is None else known.sign == self.one

    def new_sign(self, polynomial: Any) -> Value:
        name = ("sign", self.field(polynomial))
        made = self.unknown(name, Unknown(2, self.one, None, self.field(polynomial)))
        known = self.unknowns[self.generators.index(made) - len(INPUTS)]
        known.sign = made
        return made

    def root(self, value: Value, power: int) -> Value:
        """The square root of |value| or the cube root of value."""
        if not value:
            return value
        number, parts = self.factors(value)
        found, rest = self.one, self.one
        for polynomial, exponent in parts:
            whole, left = divmod(exponent, power)
            part = self.field(polynomial)
            found *= (self.absolute(part) if power == 2 else part) ** whole
            rest *= part**left
        exact = exact_root(number, power)
        if exact is None:
            rest *= self.number(number)
        else:
            found *= self.number(exact)
        if rest == self.one:
            return found
        rest = self.absolute(rest) if power == 2 else rest
        sign = self.one if power == 2 else self.sign(rest)
        return found * self.unknown(("root", power, rest), Unknown(power, rest, sign))

    def absolute(self, value: Value) -> Value:
        return self.reduce(value * self.sign(value))

    def larger(self, x: Value, y: Value) -> Value:
        return (x + y + self.absolute(x - y)) / 2

    def over(self, x: Value, y: Value) -> Value:
        """x / y. The inverse comes first: 1 + sign(g) is zero half of the time, and 1 / y says so,
        whereas (1 + sign(g)) / (1 + sign(g)) would become 1."""
        if not y:
            raise Undecided("divides by zero")
        self.nonzero[y] = None
        return x * self.reduce(self.one / y)

    def to_the(self, x: Value, y: Value) -> Value:
        if y in (self.zero, self.one):
            return x if y else self.one  # 0 to the 0 is 1 in numbers, too
        if is_number(y):
            exponent = to_fraction(y)
            if exponent.denominator == 1 and abs(exponent) <= 8 and x:
                power = x ** abs(int(exponent))
                return power if exponent > 0 else self.over(self.one, power)
            if exponent == Fraction(1, 2) and self.sign(x) == self.one:
                return self.root(x, 2)
        return self.opaque("power", [x, y])

    def clipped(self, x: Value, limit: Value) -> Value:
        """The share that clipping leaves is positive, and unknown: it depends on all weights."""
        positive = self.one if self.sign(limit) == self.one else None
        share = self.unknown(("clip_by_global_norm", x, limit), Unknown(sign=positive))
        return x * share


_RULES: dict[str, Callable[..., Value]] = {
    "add": lambda k, x, y: x + y,
    "sub": lambda k, x, y: x - y,
    "mul": lambda k, x, y: x * y,
    "div": Algebra.over,
    "negative": lambda k, x: -x,
    "reciprocal": lambda k, x: k.over(k.one, x),
    "copy": lambda k, x: x,
    "interpolate": lambda k, x, y, a: (1 - a) * x + a * y,
    "square": lambda k, x: x**2,
    "cube": lambda k, x: x**3,
    "sqrt": lambda k, x: k.root(x, 2),
    "cbrt": lambda k, x: k.root(x, 3),
    "sign": Algebra.sign,
    "abs": Algebra.absolute,
    "maximum": Algebra.larger,
    "minimum": lambda k, x, y: -k.larger(-x, -y),
    "power": Algebra.to_the,
    "clip_by_global_norm": Algebra.clipped,
    "get_eps": lambda k: k.number(Fraction(1, 10**8)),
}
