"""The mutations: insert, delete and modify a statement, as in the paper, and two that are ours.

A mutant that is no program (a variable before its assignment, a wrong kind) is drawn anew, as the
paper does, and its kind, too: weights of 1:1:1 make 26 % deletions of AdamW, where one in two would
leave a variable unassigned. `num_tries` counts draws. `guided` draws only variables that are
assigned by then and of a kind that fits; `wrap` puts a function around what a statement has just
assigned.
Source: arXiv:2302.06675, section 2.1; google/automl hero/core.py (weights 1:1:1, length limit).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from experiments.config import UserError
from experiments.search.edits import DELETE, INSERT, REPLACE, Edit
from experiments.search.language import INPUTS, OUTPUTS, Argument, LanguageError, Program, Statement
from experiments.search.operations import OPERATIONS
from experiments.search.types import ARRAY, SCALAR, infer, is_valid, result_kind

FUNCTIONS = tuple(name for name, one in OPERATIONS.items() if one.searched)
MODIFY, WRAP, TUNE = "modify", "wrap", "tune"
PAPER = {INSERT: 1.0, DELETE: 1.0, MODIFY: 1.0}
"""Weights of the paper's mutations. Not in the text: the public code's default."""
CONSTANTS_ONLY = {TUNE: 1.0}
MAX_CONSTANT = 1e10
"""Larger magnitudes are cut off, as in the public code."""
NEW_CONSTANT, SCALAR_CONSTANT = 0.2, 0.5
"""How often a new argument is a constant: where an array would do, where only a scalar does. Not in
the text."""


@dataclass(frozen=True)
class Mutator:
    """Draws edits."""

    weights: tuple[tuple[str, float], ...] = tuple(PAPER.items())
    is_guided: bool = False
    max_statements: int = 60
    max_tries: int = 10_000

    def mutate(self, program: Program, random: Random) -> tuple[Edit, int]:
        """A valid edit, and how many were drawn for it.

        Raises:
            UserError: if none is found: nothing of the asked kinds can change this program.
        """
        for num_tries in range(1, self.max_tries + 1):
            edit = self.draw(program, random)
            if edit is not None and is_valid(edit.apply(program)):
                return edit, num_tries
        kinds = ", ".join(kind for kind, _ in self.weights)
        raise UserError(
            f"none of {kinds} can change a program of {len(program)} statements (it has no "
            f"constant, or search.max_statements={self.max_statements} is reached): give others a "
            "weight in search.mutations, or take another search.initial"
        )

    def draw(self, program: Program, random: Random) -> Edit | None:
        """An edit that may not be valid; None where the drawn kind cannot be applied at all."""
        kinds, weights = zip(*self.weights, strict=True)
        kind = random.choices(kinds, weights)[0]
        length = len(program.statements)
        if kind in (INSERT, WRAP) and length >= self.max_statements:
            return None
        if kind == INSERT:
            return self._insert(program, random.randrange(length + 1), random)
        if not length:
            return None
        place = random.randrange(length)
        if kind == DELETE:
            return self._delete(program, place, random)
        if kind == WRAP:
            return self._wrap(program, place, random)
        if kind == TUNE:
            return _tune(program, random)
        return self._modify(program, place, random)

    def statement(self, names: list[str], kinds: dict[str, str], random: Random) -> Statement:
        """A new statement; unless guided it may not be valid.

        Args:
            names: Every variable of the program.
            kinds: Of the variables that are assigned before it; read if guided.
            random: What it is drawn with.
        """
        function = random.choice(FUNCTIONS)
        arguments = self._arguments(names, kinds, function, random)
        return Statement(
            self._target(names, kinds, function, arguments, random), function, arguments
        )

    def _insert(self, program: Program, place: int, random: Random) -> Edit:
        new = self.statement(_names(program), self._kinds(program, place), random)
        return Edit(INSERT, place, (new,))

    def _kinds(self, program: Program, place: int) -> dict[str, str]:
        return infer(program.statements[:place]) if self.is_guided else {}

    def _delete(self, program: Program, place: int, random: Random) -> Edit:
        """Guided: of those statements whose variable is there without them, if there is one."""
        if self.is_guided:
            places = [p for p in range(len(program.statements)) if _can_go(program, p)]
            place = random.choice(places) if places else place
        return Edit(DELETE, place)

    def _wrap(self, program: Program, place: int, random: Random) -> Edit | None:
        """`x = f(.., x, ..)` behind a statement that assigns x."""
        function = random.choice(FUNCTIONS)
        open_places = [i for i, kind in enumerate(OPERATIONS[function].kinds) if kind == "any"]
        if not open_places:
            return None
        target = program.statements[place].target
        kinds = self._kinds(program, place + 1)
        arguments = list(self._arguments(_names(program), kinds, function, random))
        arguments[random.choice(open_places)] = target
        return Edit(INSERT, place + 1, (Statement(target, function, tuple(arguments)),))

    def _modify(self, program: Program, place: int, random: Random) -> Edit | None:
        """Another variable for a variable (guided: of the same kind), 2^N(0, 1) x a constant."""
        old = program.statements[place]
        if not old.arguments:
            return None
        which = random.randrange(len(old.arguments))
        argument = old.arguments[which]
        if not isinstance(argument, str):
            return _replaced(program, place, which, _scaled(argument, random))
        names = _names(program)
        if self.is_guided:
            kinds = infer(program.statements[:place])
            names = [name for name, kind in kinds.items() if kind == kinds[argument]]
        names = [name for name in names if name != argument]
        return _replaced(program, place, which, random.choice(names)) if names else None

    def _arguments(
        self, names: list[str], kinds: dict[str, str], function: str, random: Random
    ) -> tuple[Argument, ...]:
        """New arguments: variables (guided: that fit), and constants drawn from N(0, 1)."""
        operation = OPERATIONS[function]
        drawn: list[Argument] = []
        for kind in operation.kinds:
            if self.is_guided and operation.alike and drawn:
                kind = kinds.get(str(drawn[0]), SCALAR)
            if self.is_guided:
                names = [name for name, known in kinds.items() if kind in ("any", known)]
            chance = {ARRAY: 0.0, SCALAR: SCALAR_CONSTANT}.get(kind, NEW_CONSTANT)
            is_constant = random.random() < chance or not names
            drawn.append(random.gauss(0, 1) if is_constant else random.choice(names))
        return tuple(drawn)

    def _target(
        self,
        names: list[str],
        kinds: dict[str, str],
        function: str,
        arguments: tuple[Argument, ...],
        random: Random,
    ) -> str:
        """A variable that there is (guided: of the result's kind) or a new one, alike likely."""
        number = 1
        while f"x{number}" in names:
            number += 1
        if self.is_guided:
            try:
                result = result_kind(Statement("x", function, arguments), kinds)
            except LanguageError:
                return f"x{number}"
            names = [name for name, kind in kinds.items() if kind == result]
        return random.choice([*names, f"x{number}"])


def _tune(program: Program, random: Random) -> Edit | None:
    """Scales one constant of the program."""
    places = [
        (place, which)
        for place, statement in enumerate(program.statements)
        for which, argument in enumerate(statement.arguments)
        if not isinstance(argument, str)
    ]
    if not places:
        return None
    place, which = random.choice(places)
    constant = program.statements[place].arguments[which]
    assert not isinstance(constant, str)
    return _replaced(program, place, which, _scaled(constant, random))


def _scaled(constant: float, random: Random) -> float:
    """2^N(0, 1) times a constant; a zero, which no factor would move, is drawn from N(0, 1)."""
    drawn = random.gauss(0, 1)
    scaled = constant * 2.0**drawn if constant else drawn
    return math.copysign(min(abs(scaled), MAX_CONSTANT), scaled)


def _replaced(program: Program, place: int, which: int, new: Argument) -> Edit:
    old = program.statements[place]
    arguments = (*old.arguments[:which], new, *old.arguments[which + 1 :])
    return Edit(REPLACE, place, (old._replace(arguments=arguments),))


def _names(program: Program) -> list[str]:
    """Every variable of a program, the inputs first."""
    return list(dict.fromkeys([*INPUTS, *(s.target for s in program.statements)]))


def _can_go(program: Program, place: int) -> bool:
    """Whether what reads a statement's variable would find one of the same kind without it."""
    kinds = infer(program.statements[:place])
    statement = program.statements[place]
    if kinds.get(statement.target) == result_kind(statement, kinds):
        return True
    for later in program.statements[place + 1 :]:
        if statement.target in later.arguments:
            return False
        if later.target == statement.target:
            return True
    return statement.target not in OUTPUTS
