"""Small searches, judged by a fitness that needs no training, or trained for some steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.search import library
from experiments.search.controller import Controller
from experiments.search.evaluation import Job, Outcome, Tier
from experiments.search.events import Event
from experiments.search.evolution import Evolution, EvolutionSettings
from experiments.search.executors.executor import Answer, Executor
from experiments.search.mutation import Mutator
from experiments.search.replay import restore
from experiments.search.state import Budget, Rules, State

INITIAL = "adamw_early"
ROTATE = 100


def rules(num_candidates: int = 300, **more: Any) -> Rules:
    """Of a search on 20 steps of the perceptron."""
    tier = Tier("mlp", 20, lrs=(0.004, 0.016), reference=library.load(INITIAL).text())
    options: dict[str, Any] = {"window": 32, "batch_size": 8, "rotate_every": ROTATE, **more}
    return Rules(tier, Budget(num_candidates), **options)


def state(seed: int = 0, mutator: Mutator | None = None, **more: Any) -> State:
    """An empty search by a small evolution."""
    options = {"population": 30, "recheck_every": ROTATE, "num_incumbents": 4, **more}
    settings = EvolutionSettings(seed=seed, **options)
    return State(Evolution(settings, library.load(INITIAL), mutator or Mutator()))


def search(
    of: Rules, executor: Executor, known: Sequence[Event] = (), start: State | None = None
) -> tuple[State, list[Event]]:
    """Runs from where `known` ends; the state and the whole log."""
    begun = start or state()
    log = list(known)
    restore(of, begun, known, library.load(INITIAL))
    Controller(of, begun, executor, log.append).run()
    return begun, log


class Pretended:
    """Judges at once, by the program's text, the last batch first if `reverse`."""

    def __init__(self, num_workers: int = 1, reverse: bool = False) -> None:
        self.num_workers, self.reverse = num_workers, reverse
        self.held: list[tuple[int, Sequence[Job]]] = []

    def room(self) -> int:
        return self.num_workers - len(self.held)

    def submit(self, ticket: int, jobs: Sequence[Job]) -> None:
        self.held.append((ticket, jobs))

    def collect(self) -> list[Answer]:
        ticket, jobs = self.held.pop(-1 if self.reverse else 0)
        return [(ticket, [outcome(job) for job in jobs])]

    def close(self) -> None:
        pass


def outcome(job: Job) -> Outcome:
    """A fitness that depends on program and round alone."""
    fitness = int(job.program.id, 16) / 16**12 - 0.01 * job.round_number
    return Outcome(fitness, (1.0 - fitness, 2.0), (None, 10), 30)
