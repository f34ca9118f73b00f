"""Writes sign momentum in random other ways, and programs that only look like it: to try proofs on.

A disguise changes names, order, nesting, the roles and scales of the buffers, the algebra of every
linear combination, the way in which a sign is taken and where lr and the decay come in, and adds
statements that do not matter. Its betas are known by construction. A near miss is a disguise with
one fault that makes it another optimizer.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from fractions import Fraction

from experiments.search.language import INPUTS, Program, Statement, parse


@dataclass(frozen=True)
class Recipe:
    """What a disguise hides: update = scale lr (sign(...) + decay w)."""

    beta1: Fraction
    beta2: Fraction
    scale: Fraction
    decay: Fraction


FAULTS = (
    *("beta1", "beta2", "decay", "scale", "ascent", "clip", "arcsin", "epsilon", "no lr"),
    *("decayed lr", "cubed buffer", "second order", "weights in buffer", "lr in buffer", "plain"),
)


def draw_recipe(source: random.Random) -> Recipe:
    """Betas in [0.05, 0.999], decay up to 2 or none, with three decimals at most."""

    def number(low: float, high: float) -> Fraction:
        return Fraction(str(round(source.uniform(low, high), source.choice((1, 2, 3)))))

    beta1 = max(Fraction(1, 20), min(number(0.1, 0.999), Fraction(999, 1000)))
    beta2 = max(Fraction(1, 20), min(number(0.1, 0.999), Fraction(999, 1000)))
    scale = source.choice((Fraction(1), max(number(0, 1), Fraction(1, 1000))))
    return Recipe(beta1, beta2, scale, source.choice((Fraction(0), number(0, 2))))


def disguise(recipe: Recipe, source: random.Random, fault: str | None = None) -> str:
    """A text whose program is the recipe's optimizer; with a fault, it is another one.

    Args:
        recipe: Betas in (0, 1), scale > 0.
        source: Of all choices.
        fault: One of FAULTS.
    """
    writer = _Writer(source)
    text = writer.program(_spoil(recipe, fault), fault)
    if source.random() < 0.7:
        text = _shuffle(parse(text), source).text()
        text = _rename(text, source)
    return text


def _spoil(recipe: Recipe, fault: str | None) -> Recipe:
    tiny = Fraction(1, 10**9)
    if fault in ("beta1", "beta2", "decay", "scale"):
        return replace(recipe, **{fault: getattr(recipe, fault) + tiny})
    return recipe


class _Writer:
    """Writes expressions; every choice comes from one source."""

    def __init__(self, source: random.Random) -> None:
        self.source = source

    def pick(self, *ways: str) -> str:
        return self.source.choice(ways)

    def number(self, value: Fraction) -> str:
        """A constant whose decimal is exact, or a quotient."""
        decimal = repr(float(value))
        if Fraction(decimal) == value:
            return decimal if value >= 0 else f"({decimal})"
        return f"({value.numerator}.0 / {value.denominator}.0)"

    def scaled(self, x: str, by: Fraction) -> str:
        n = self.number
        if by == 1:
            return self.pick(x, f"{x} * 1.0")
        return "(" + self.pick(f"{x} * {n(by)}", f"{n(by)} * {x}", f"{x} / {n(1 / by)}") + ")"

    def mixed(self, x: str, y: str, a: Fraction) -> str:
        """(1 - a) x + a y."""
        n = self.number
        return self.pick(
            f"interp({x}, {y}, {n(a)})",
            f"interp({y}, {x}, {n(1 - a)})",
            f"(({n(1 - a)} * {x}) + ({n(a)} * {y}))",
            f"({y} + {n(1 - a)} * ({x} - {y}))",
            f"({x} - {n(a)} * ({x} - {y}))",
            f"negative(interp(negative({x}), {n(Fraction(-1))} * {y}, {n(a)}))",
        )

    def sign(self, c: str) -> str:
        if self.source.random() < 0.3:
            c = self.pick(f"({c} * lr)", f"({c} * 3.7)", f"cube({c})", f"({c} / square(lr))")
        return self.pick(
            *(f"sign({c})", f"({c} / abs({c}))", f"({c} / sqrt({c} * {c}))"),
            *(f"({c} / sqrt(square({c})))", f"(abs({c}) / {c})", f"({c} * reciprocal(abs({c})))"),
            *(f"negative(sign(negative({c})))", f"cube(sign({c}))", f"sign(sign({c}))"),
            *(f"({c} / maximum({c}, negative({c})))", f"(square({c}) / ({c} * abs({c})))"),
        )

    def program(self, recipe: Recipe, fault: str | None) -> str:
        state, other = self.pick("m v", "v m").split()
        size = Fraction(self.source.choice(("1", "10", "-3", "0.25", "-0.5")))
        lines = self.spoil_gradient(fault)
        lines += self.signed(recipe, state, other, size, fault)
        lines += self.update(recipe, fault)
        head = self.pick("# one step\n", "")
        return f"{head}def train(w, g, m, v, lr):\n  " + "\n  ".join([*lines, self.last()])

    def last(self) -> str:
        return self.pick("return update, m, v", "return (update, m, v)  # done")

    def spoil_gradient(self, fault: str | None) -> list[str]:
        if fault == "clip":
            return ["g = clip(g, 1.0)"]
        return ["g = arcsin(g)"] if fault == "arcsin" else []

    def signed(
        self, recipe: Recipe, state: str, other: str, size: Fraction, fault: str | None
    ) -> list[str]:
        """Lines that set c to what is signed and move the buffers."""
        read = kept = self.scaled(state, 1 / size)
        layout = self.source.randrange(3)
        if layout == 2:  # both buffers hold it, and both are read
            kept = self.scaled(other, 1 / size)
            read = f"(({read} + {kept}) / 2.0)"
        lines = [f"c = {self.mixed('g', read, recipe.beta1)}"]
        new = self.mixed("g", kept, recipe.beta2)
        if layout == 1:  # as the evolved program: the momentum from what is signed
            new = self.mixed("g", "c", recipe.beta2 / recipe.beta1)
        lines.append(f"{state} = {self.scaled(new, size)}")
        lines += self.spoil_buffer(fault, state)
        return [*lines, f"{other} = {state}"] if layout == 2 else lines

    def spoil_buffer(self, fault: str | None, state: str) -> list[str]:
        other = "v" if state == "m" else "m"
        return {
            "cubed buffer": [f"{state} = {state} + 0.001 * cube({state})"],
            "weights in buffer": [f"{state} = {state} + 0.001 * w"],
            "lr in buffer": [f"{state} = {state} * (1.0 - 0.01 * lr)"],
            "second order": [f"c = c + 0.5 * {other}", f"{other} = 0.5 * {other} + g"],
        }.get(fault or "", [])

    def update(self, recipe: Recipe, fault: str | None) -> list[str]:
        n, scale = self.number, recipe.scale
        sign = self.sign("c")
        if fault == "ascent":
            sign = f"negative({sign})"
        elif fault == "epsilon":
            sign = "(c / (abs(c) + 1e-08))"
        elif fault == "plain":
            sign = "c"
        rate = self.scaled("lr", scale)
        if fault == "no lr":
            rate = n(scale)
        elif fault == "decayed lr":
            rate = f"({rate} * lr)"
        if not recipe.decay:
            return [f"update = {sign} * {rate}"]
        wd = recipe.decay
        return [
            self.pick(
                f"update = ({sign} + {self.scaled('w', wd)}) * {rate}",
                f"update = {rate} * {sign} - {self.scaled('w', -wd)} * {rate}",
                f"update = {rate} * {sign} + w * ({n(wd)} * {rate})",
                f"update = ({self.scaled(sign, 1 / wd)} + w) * {self.scaled(rate, wd)}",
            )
        ]


def _shuffle(program: Program, source: random.Random) -> Program:
    """Statements in another order that the data allow, with some that do not matter between."""
    left = list(program.statements)
    done: list[Statement] = []
    while left:
        free = [i for i, s in enumerate(left) if not any(_depends(s, b) for b in left[:i])]
        done.append(left.pop(source.choice(free)))
        if source.random() < 0.15:
            function = source.choice(("tanh", "cosh", "global_norm", "sqrt"))
            done.append(Statement(f"unused{len(done)}", function, (source.choice(INPUTS),)))
    return Program(tuple(done))


def _depends(later: Statement, before: Statement) -> bool:
    """Whether two statements may not change places."""
    return (
        before.target in later.arguments
        or later.target == before.target
        or later.target in before.arguments
    )


def _rename(text: str, source: random.Random) -> str:
    """Other names for inputs and variables, by whole words; functions keep theirs."""
    words = set(re.findall(r"(?<![\w.])[a-z]\w*(?!\w*\()", text)) - {"def", "return", "train"}
    fresh = [f"x{i}" for i in range(len(words))]
    source.shuffle(fresh)
    names = dict(zip(sorted(words), fresh, strict=True))
    if source.random() < 0.5:
        names |= {"m": "v", "v": "m"}
    return re.sub(r"(?<![\w.])[a-z]\w*(?!\w*\()", lambda m: names.get(m[0], m[0]), text)
