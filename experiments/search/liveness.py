"""Which statements of a program matter: liveness, to a fixpoint over the training loop.

A buffer is live only if the next step reads it on the way to an update: the least set of buffers
that is closed under "is read while computing the update or a live buffer". Statements that compute
neither the update nor a live buffer change no update of any training, to the last bit.

Source: arXiv:2302.06675, appendix "Abstract Execution": tracking dependencies. Differs from the
paper: its dependencies are those of one step's outputs, so that `m = cosh(update)` counts as needed
although no later step reads m.
"""

from __future__ import annotations

from typing import NamedTuple

from experiments.search import types
from experiments.search.language import STATES, Program, Statement


class Liveness(NamedTuple):
    """What matters in a program.

    Attributes:
        kept: Indices of the statements that matter, in order.
        states: The live buffers, a part of ("m", "v").
        read: The inputs that reach the update, through the buffers too; a part of INPUTS.
    """

    kept: tuple[int, ...]
    states: tuple[str, ...]
    read: frozenset[str]


def analyse(program: Program) -> Liveness:
    """Finds the statements, buffers and inputs that matter."""
    statements = program.statements
    states: set[str] = set()
    while True:
        needed = {"update", *states}
        kept = []
        for index in range(len(statements) - 1, -1, -1):
            target, _, arguments = statements[index]
            if target in needed:
                needed.discard(target)
                needed.update(arguments)  # type: ignore[arg-type]  # constants do no harm
                kept.append(index)
        found = states | {name for name in STATES if name in needed}
        if found == states:
            read = frozenset(name for name in needed if type(name) is str)
            return Liveness(tuple(reversed(kept)), tuple(s for s in STATES if s in states), read)
        states = found


def moves_of_buffers(program: Program) -> Program:
    """The statements that compute the live buffers, with an update that computes nothing."""
    needed, kept = set(analyse(program).states), [Statement("update", "copy", ("w",))]
    for statement in reversed(program.statements):
        if statement.target in needed:
            needed.discard(statement.target)
            needed.update(a for a in statement.arguments if isinstance(a, str))
            kept.append(statement)
    return Program(tuple(reversed(kept)))


def prune(program: Program, live: Liveness | None = None) -> Program:
    """The program without the statements that do not matter; its updates are the same bits.

    A buffer that is not live may be left with a scalar, which was put there in passing. Then that
    variable gets another name, so that the program that is left has valid types, too.

    Args:
        program: A program of valid types.
        live: What `analyse` says of it, if that is known already.
    """
    live = live or analyse(program)
    if len(live.kept) == len(program.statements):
        return program
    left = tuple(program.statements[index] for index in live.kept)
    kinds = types.infer(left)
    for name in STATES:
        if kinds[name] is not types.ARRAY:
            left = tuple(_renamed(statement, name, _fresh(name, kinds)) for statement in left)
    return Program(left)


def _renamed(statement: Statement, old: str, new: str) -> Statement:
    target, function, arguments = statement
    read = tuple(new if argument == old else argument for argument in arguments)
    return Statement(new if target == old else target, function, read)


def _fresh(name: str, taken: dict[str, str]) -> str:
    return next(n for i in range(1, len(taken) + 2) if (n := f"{name}_{i}") not in taken)
