"""Regularized evolution: a tournament picks a parent, its mutant joins, the oldest leaves.

Source: arXiv:1802.01548 (the method), arXiv:2302.06675, section 2.2 (population 1,000, tournament
of 2, warm start from AdamW, restarts once the search stalls).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from experiments.search.language import Program
from experiments.search.mutation import Mutator
from experiments.search.strategy import (
    CHILD,
    INITIAL,
    Candidate,
    Individual,
    Searcher,
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


class Evolution(Searcher):
    """Candidate 0 is the initial program, which first fills the whole population."""

    def __init__(self, settings: EvolutionSettings, initial: Program, mutator: Mutator) -> None:
        super().__init__(settings.recheck_every, settings.num_incumbents)
        self.settings = settings
        self._initial, self._mutator = initial, mutator
        self._population: deque[Individual] = deque(maxlen=settings.population)
        self._founder = Individual(0, initial, -math.inf, None)
        self._best_of_era, self._improved_at = -math.inf, 0
        self._fill(self._founder)

    @property
    def num_restarts(self) -> int:
        """How often the search has begun anew."""
        return self._era

    def population(self) -> list[Individual]:
        """The oldest first."""
        return list(self._population)

    def _propose(self, number: int) -> Candidate:
        if number == 0:
            return Candidate(0, INITIAL, self._initial)
        random = generator_of(self.settings.seed, number)
        size = len(self._population)
        drawn = [self._population[random.randrange(size)] for _ in range(self.settings.tournament)]
        parent = max(drawn, key=lambda one: one.fitness)
        edit, num_tries = self._mutator.mutate(parent.program, random)
        program = edit.apply(parent.program)
        return Candidate(number, CHILD, program, parent.number, edit, num_tries, self._era)

    def _accept(self, candidate: Candidate, judged: Individual) -> None:
        if candidate.kind == INITIAL:
            self._founder.fitness, self._founder.key = judged.fitness, judged.key
            self._best_of_era = judged.fitness
        elif candidate.era == self._era:
            self._population.append(judged)
            if judged.fitness > self._best_of_era:
                self._best_of_era, self._improved_at = judged.fitness, self.num_told
        if self.settings.patience and self.num_told - self._improved_at > self.settings.patience:
            self._restart()

    def _correct(self, key: str, fitness: float) -> None:
        for one in [*self._population, self._founder]:
            if one.key == key:
                one.fitness = fitness

    def _kept(self) -> list[Individual]:
        return self.population()

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
