"""How a way of searching is talked to: it is asked for candidates and told what they are worth.

Nothing here reads a clock or a file. What candidate number i is depends on the seed, on i, and on
what had been told when it was asked for; so a log of asks and tells replays a search.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Protocol

from experiments.search.language import Program
from experiments.search.edits import Edit

INITIAL, CHILD, RECHECK = "initial", "child", "recheck"


@dataclass(frozen=True)
class Candidate:
    """A program to judge."""

    number: int  # 0, 1, 2, ... in the order of asking
    kind: str  # initial | child | recheck (an incumbent, on new data)
    program: Program
    parent: int | None = None  # number of the candidate it was made from
    edit: Edit | None = None  # how
    num_tries: int = 1  # mutants drawn until one was valid
    era: int = 0  # restarts before it was asked for


@dataclass(frozen=True)
class Verdict:
    """What a candidate is worth."""

    fitness: float  # higher is better; -inf: dead or diverged
    key: str | None = None  # functional hash; None if it was not hashed


@dataclass
class Individual:
    """A judged program. Rechecks change its fitness."""

    number: int
    program: Program
    fitness: float
    key: str | None


class Strategy(Protocol):
    """Evolution, random search, tuning of constants."""

    num_asked: int
    num_told: int

    def ask(self) -> Candidate:
        """The next candidate."""
        ...

    def adopt(self, candidate: Candidate) -> None:
        """Takes a candidate from a log, as if it had just been asked for."""
        ...

    def tell(self, number: int, verdict: Verdict) -> None:
        """What a candidate in flight is worth."""
        ...

    def best(self, count: int) -> list[Individual]:
        """The best distinct programs told so far, the best first."""
        ...

    def digest(self) -> str:
        """A hash of all that the next candidates depend on."""
        ...


@dataclass
class Archive:
    """The best distinct programs, by functional hash."""

    size: int = 64
    _kept: dict[str, Individual] = field(default_factory=dict)

    def add(self, individual: Individual) -> None:
        """Takes a judged program; a double of a kept one is passed over."""
        key = individual.key
        if key is None or key in self._kept or not math.isfinite(individual.fitness):
            return
        self._kept[key] = individual
        if len(self._kept) > 2 * self.size:
            self._kept = {one.key or "": one for one in self.best(self.size)}

    def correct(self, key: str, fitness: float) -> None:
        """A recheck has changed what a program is worth."""
        if key in self._kept:
            self._kept[key].fitness = fitness

    def best(self, count: int) -> list[Individual]:
        """The best first; of equals the older."""
        return sorted(self._kept.values(), key=lambda one: (-one.fitness, one.number))[:count]


def generator_of(seed: int, number: int) -> random.Random:
    """The random numbers that make candidate `number`: independent of all others."""
    return random.Random(f"{seed}:{number}")
