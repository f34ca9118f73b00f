"""Leaves out, one by one, what a program's training does not miss; then rounds its constants.

A statement goes if, without it, the held-out loss over several rounds of fresh data is not worse by
more than a tolerance, or than two standard errors, on a small proxy. That is an observation, not
algebra: it holds for this proxy and this tolerance. A training of 100 steps hardly shows what
weight decay and a long memory are for (on two of three proxies it would drop the momentum), so that
both are kept unless asked otherwise.

Source: arXiv:2302.06675, section 2.3: simplification, step 2
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from experiments.search import liveness, rewriting, types
from experiments.search.hashing import structural_hash
from experiments.search.language import Program, Statement
from experiments.search.operations import OPERATIONS

Measure = Callable[[Sequence[Program]], Sequence[Sequence[float]]]
"""For each program, its gains over the original in each round: nats of held-out loss."""
DECAY, BUFFERS = "decay", "buffers"
KEPT = (DECAY, BUFFERS)
"""What ablation leaves alone: the way from the weights to the update, the buffers that are live."""
MOST_CHANGE, MOST_CHANGE_TO_ONE = 0.02, 0.1
"""A constant is rounded to the fewest digits that change it by at most 2 %, and its distance to 1
by at most 10 %: of the weight of an average, 0.99, that distance is what matters."""


@dataclass(frozen=True)
class Removal:
    """A change that training does not miss."""

    program: Program
    what: str
    gain: float  # nats of held-out loss over the original, mean over rounds


def ablate(
    program: Program, measure: Measure, tolerance: float, keep: Sequence[str] = KEPT
) -> list[Removal]:
    """Leaves statements out as long as one can be missed; the least missed first.

    Args:
        program: A program of valid types, without statements that do not matter.
        measure: Trains programs; see `Measure`.
        tolerance: Nats that a program may lose against the original, >= 0.
        keep: A part of KEPT.

    Returns:
        What was left out, in order; the last holds the program that is left.
    """
    live = liveness.analyse(program)
    must_read = live.read & {"g", "lr", *(("w",) if DECAY in keep else ())}
    must_move = set(live.states) if BUFFERS in keep else set()
    removals: list[Removal] = []
    while True:
        current = removals[-1].program if removals else program
        candidates = _without_one(current, must_read, must_move)
        if not candidates:
            return removals
        gains = measure([p for p, _ in candidates])
        best = max(range(len(gains)), key=lambda i: (_mean(gains[i]), -i))
        if not is_tolerable(gains[best], tolerance):
            return removals
        removals.append(Removal(*candidates[best], gain=_mean(gains[best])))


def is_tolerable(gains: Sequence[float], tolerance: float) -> bool:
    """Whether a loss is within the tolerance, or within two standard errors of none.

    Args:
        gains: Nats, one per round.
        tolerance: Nats, >= 0.
    """
    mean, count = _mean(gains), len(gains)
    if not math.isfinite(mean):
        return False
    squares = math.fsum((gain - mean) ** 2 for gain in gains)
    error = math.sqrt(squares / max(1, count - 1) / count)
    return mean >= -max(tolerance, 2 * error)


def _without_one(
    program: Program, must_read: frozenset[str], must_move: set[str]
) -> list[tuple[Program, str]]:
    """All valid programs with one statement less, each once, with that statement's text."""
    found: dict[str, tuple[Program, str]] = {}
    for index, _, changed in versions(program):
        live = liveness.analyse(changed)
        moving = {s.target for s in changed.statements} & set(live.states)
        if must_read <= live.read and must_move <= moving:
            said = program.statements[index].text()
            found.setdefault(structural_hash(changed, live), (changed, said))
    found.pop(structural_hash(program), None)
    return list(found.values())


def versions(program: Program, factors: bool = False) -> Iterator[tuple[int, str, Program]]:
    """A statement's place, what stands there instead ("": nothing), the valid program that is left.

    A statement may be left out in several ways; `update = m + wd`, say, leaves m or wd.

    Args:
        program: One of valid types, without statements that do not matter.
        factors: Whether a product may leave either factor, an average either of its two, a
            quotient what is divided.
    """
    for index, statement in enumerate(program.statements):
        before, after = program.statements[:index], program.statements[index + 1 :]
        for instead in _instead(statement, factors):
            changed = Program((*before, *instead, *after))
            if not types.is_valid(changed):
                continue
            changed = rewriting.without_copies(changed)
            if _size(changed) < _size(program) and types.is_valid(changed):
                yield index, "".join(one.text() for one in instead), changed


_PARTS = {"mul": 2, "interpolate": 2, "div": 1}
"""How many of the first arguments may be left of a function, see `versions`."""


def _size(program: Program) -> int:
    """Statements that compute something."""
    return sum(s.function != "copy" for s in program.statements)


def _instead(statement: Statement, factors: bool) -> list[tuple[Statement, ...]]:
    """What may stand in a statement's place: nothing, or its argument, or one of its terms."""
    operation = OPERATIONS[statement.function]
    passed = statement.arguments[:1]
    if statement.function in ("add", "sub"):
        passed = statement.arguments
    elif factors and statement.function in _PARTS:
        parts = statement.arguments[: _PARTS[statement.function]]
        passed = tuple(a for a in parts if isinstance(a, str))
    elif operation.arity != 1 and statement.function != "clip_by_global_norm":
        passed = ()
    if operation.result == "scalar":
        passed = ()
    return [(), *((Statement(statement.target, "copy", (a,)),) for a in passed)]


def round_constants(program: Program, measure: Measure, tolerance: float) -> list[Removal]:
    """Rounds each constant to as few digits as training does not miss; see `fewest_digits`.

    Args:
        program: What is left by then; with it the rounded programs are compared.
        measure: Trains programs; see `Measure`.
        tolerance: Nats that all rounding together may lose, >= 0.
    """
    removals: list[Removal] = []
    start = measure([program])[0]
    for index in range(len(program.statements)):
        current = removals[-1].program if removals else program
        statement = current.statements[index]
        rounded = tuple(a if isinstance(a, str) else fewest_digits(a) for a in statement.arguments)
        if rounded == statement.arguments:
            continue
        lines = list(current.statements)
        lines[index] = statement._replace(arguments=rounded)
        changed = Program(tuple(lines))
        gains = measure([changed])[0]
        if is_tolerable([a - b for a, b in zip(gains, start, strict=True)], tolerance):
            said = f"{statement.text()} -> {lines[index].text()}"
            removals.append(Removal(changed, said, _mean(gains)))
    return removals


def _mean(gains: Sequence[float]) -> float:
    return math.fsum(gains) / len(gains)


def fewest_digits(number: float) -> float:
    """The number with the fewest significant digits that is near enough; see `MOST_CHANGE`."""
    most = min(MOST_CHANGE * abs(number), MOST_CHANGE_TO_ONE * abs(1 - abs(number)))
    for digits in range(1, 17):
        rounded = float(f"{number:.{digits}g}")
        if abs(rounded - number) <= most:
            return rounded
    return number
