"""Regularized evolution: a tournament picks a parent, its mutant joins, the oldest leaves.

Source: arXiv:1802.01548 (the method), arXiv:2302.06675, section 2.2 (population 1,000, tournament
of 2, warm start from AdamW, restarts once the search stalls).
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from dataclasses import dataclass

from experiments.search.language import Program
from experiments.search.mutation import Mutator
from experiments.search.strategy import (
    CHILD,
    INITIAL,
    RECHECK,
    Archive,
    Candidate,
    Individual,
    Verdict,
    generator_of,
)


@dataclass(frozen=True)
class EvolutionSettings:
    """Sizes of the method."""

    seed: int = 0
    population: int = 1000
    tournament: int = 2
    patience: int = 0  # candidates without a better one until a restart; 0: never
    restart_from: str = "initial"  # initial | best
    recheck_every: int = 0  # candidates between two rechecks of the incumbents; 0: never
    num_incumbents: int = 8  # best programs that are judged anew on the next data


class Evolution:
    """Ask, tell. Candidate 0 is the initial program, which first fills the whole population."""

    def __init__(self, settings: EvolutionSettings, initial: Program, mutator: Mutator) -> None:
        self.settings = settings
        self._initial, self._mutator = initial, mutator
        self._population: deque[Individual] = deque(maxlen=settings.population)
        self._in_flight: dict[int, Candidate] = {}
        self._founder = Individual(0, initial, -math.inf, None)
        self._archive = Archive()
        self._rechecks: deque[Individual] = deque()
        self._era, self._best_of_era, self._improved_at = 0, -math.inf, 0
        self.num_asked = self.num_told = self.num_children = 0
        self._fill(self._founder)

    @property
    def num_restarts(self) -> int:
        """How often the search has begun anew."""
        return self._era

    def ask(self) -> Candidate:
        """The initial program, then children, now and then an incumbent on new data."""
        number = self.num_asked
        if number == 0:
            candidate = Candidate(0, INITIAL, self._initial)
        else:
            candidate = self._recheck(number) or self._child(number)
        self.adopt(candidate)
        return candidate

    def adopt(self, candidate: Candidate) -> None:
        """See `Strategy`."""
        assert candidate.number == self.num_asked, "candidates come in the order of asking"
        if candidate.kind == RECHECK:
            self._rechecks.popleft()
        self.num_asked += 1
        self._in_flight[candidate.number] = candidate
        every = self.settings.recheck_every
        if every and self.num_asked % every == 0:
            self._rechecks.extend(self._archive.best(self.settings.num_incumbents))

    def tell(self, number: int, verdict: Verdict) -> None:
        """See `Strategy`; of a recheck, the fitness is the mean over all that is known."""
        candidate = self._in_flight.pop(number)
        self.num_told += 1
        judged = Individual(number, candidate.program, verdict.fitness, verdict.key)
        if candidate.kind == RECHECK:
            self._correct(verdict)
        else:
            self._archive.add(judged)
        if candidate.kind == INITIAL:
            self._founder.fitness, self._founder.key = verdict.fitness, verdict.key
            self._best_of_era = verdict.fitness
        elif candidate.kind == CHILD and candidate.era == self._era:
            self._population.append(judged)
            if judged.fitness > self._best_of_era:
                self._best_of_era, self._improved_at = judged.fitness, self.num_told
        if self.settings.patience and self.num_told - self._improved_at > self.settings.patience:
            self._restart()

    def best(self, count: int) -> list[Individual]:
        """See `Strategy`."""
        return self._archive.best(count)

    def population(self) -> list[Individual]:
        """The oldest first."""
        return list(self._population)

    def digest(self) -> str:
        """SHA-256 over the population (number, program, fitness), what is in flight, the era."""
        told = hashlib.sha256(f"{self.num_asked} {self.num_told} {self._era}".encode())
        for one in self._population:
            told.update(f"{one.number} {one.program.id} {one.fitness!r}\n".encode())
        for candidate in self._in_flight.values():
            told.update(f"{candidate.number} {candidate.program.id}\n".encode())
        return told.hexdigest()

    def _recheck(self, number: int) -> Candidate | None:
        if not self._rechecks:
            return None
        incumbent = self._rechecks[0]
        return Candidate(number, RECHECK, incumbent.program, incumbent.number, era=self._era)

    def _child(self, number: int) -> Candidate:
        random = generator_of(self.settings.seed, number)
        size = len(self._population)
        drawn = [self._population[random.randrange(size)] for _ in range(self.settings.tournament)]
        parent = max(drawn, key=lambda one: one.fitness)
        edit, num_tries = self._mutator.mutate(parent.program, random)
        program = edit.apply(parent.program)
        return Candidate(number, CHILD, program, parent.number, edit, num_tries, self._era)

    def _correct(self, verdict: Verdict) -> None:
        assert verdict.key is not None, "a recheck is of a program that was hashed"
        self._archive.correct(verdict.key, verdict.fitness)
        for one in [*self._population, self._founder]:
            if one.key == verdict.key:
                one.fitness = verdict.fitness

    def _restart(self) -> None:
        """Begins anew from one program; children of the era before no longer join."""
        self._era += 1
        best = self._archive.best(1)
        from_best = self.settings.restart_from == "best" and best
        self._fill(best[0] if from_best else self._founder)
        self._best_of_era, self._improved_at = self._population[0].fitness, self.num_told

    def _fill(self, founder: Individual) -> None:
        """Makes the whole population of one program."""
        self._population.clear()
        self._population.extend([founder] * self.settings.population)
