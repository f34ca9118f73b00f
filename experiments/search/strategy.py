"""How a way of searching is talked to: it is asked for candidates and told what they are worth.

Nothing here reads a clock or a file. What candidate number i is depends on the seed, on i, and on
what had been told when it was asked for; so a log of asks and tells replays a search.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from experiments.search.edits import Edit
from experiments.search.language import Program

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


class Searcher:
    """What all strategies do alike: count, keep the best, and have them judged on new data.

    A subclass says which candidate comes next (`_propose`), and what a verdict changes (`_accept`,
    `_correct`).
    """

    def __init__(self, recheck_every: int = 0, num_incumbents: int = 8) -> None:
        """Begins.

        Args:
            recheck_every: Candidates between two rechecks of the incumbents; 0: never.
            num_incumbents: How many of the best are judged anew.
        """
        self.num_asked = self.num_told = 0
        self._recheck_every, self._num_incumbents = recheck_every, num_incumbents
        self._archive = Archive()
        self._in_flight: dict[int, Candidate] = {}
        self._rechecks: deque[Individual] = deque()
        self._era = 0

    def ask(self) -> Candidate:
        """The next candidate: now and then an incumbent on new data."""
        number = self.num_asked
        if self._rechecks:
            incumbent = self._rechecks[0]
            parent = incumbent.number
            candidate = Candidate(number, RECHECK, incumbent.program, parent, era=self._era)
        else:
            candidate = self._propose(number)
        self.adopt(candidate)
        return candidate

    def adopt(self, candidate: Candidate) -> None:
        """Takes a candidate from a log, as if it had just been asked for."""
        assert candidate.number == self.num_asked, "candidates come in the order of asking"
        if candidate.kind == RECHECK:
            self._rechecks.popleft()
        self.num_asked += 1
        self._in_flight[candidate.number] = candidate
        if self._recheck_every and self.num_asked % self._recheck_every == 0:
            self._rechecks.extend(self._archive.best(self._num_incumbents))

    def tell(self, number: int, verdict: Verdict) -> None:
        """What a candidate in flight is worth; of a recheck: the mean over all that is known."""
        candidate = self._in_flight.pop(number)
        self.num_told += 1
        if candidate.kind == RECHECK:
            assert verdict.key is not None, "a recheck is of a program that was hashed"
            self._archive.correct(verdict.key, verdict.fitness)
            self._correct(verdict.key, verdict.fitness)
            return
        judged = Individual(number, candidate.program, verdict.fitness, verdict.key)
        self._archive.add(judged)
        self._accept(candidate, judged)

    def best(self, count: int) -> list[Individual]:
        """The best distinct programs told so far, the best first."""
        return self._archive.best(count)

    def digest(self) -> str:
        """SHA-256 over (number, program, fitness) of who is kept, what is in flight, the era."""
        told = hashlib.sha256(f"{self.num_asked} {self.num_told} {self._era}\n".encode())
        for one in self._kept():
            told.update(f"{one.number} {one.program.id} {one.fitness!r}\n".encode())
        for candidate in self._in_flight.values():
            told.update(f"{candidate.number} {candidate.program.id}\n".encode())
        return told.hexdigest()

    def _propose(self, number: int) -> Candidate:
        raise NotImplementedError

    def _accept(self, candidate: Candidate, judged: Individual) -> None:
        raise NotImplementedError

    def _correct(self, key: str, fitness: float) -> None:
        """A recheck has changed what a program is worth; the archive knows already."""

    def _kept(self) -> list[Individual]:
        """Those that the next candidates depend on."""
        return self._archive.best(self._archive.size)


def generator_of(seed: int, number: int) -> random.Random:
    """The random numbers that make candidate `number`: independent of all others."""
    return random.Random(f"{seed}:{number}")
