"""Workers that do nothing on a clock that only counts: how busy would so many be kept?

No time passes. The durations are drawn from a log-normal distribution, per batch.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence

from experiments.search.evaluation import Job, Outcome
from experiments.search.executors.executor import Answer


class Simulated:
    """`num_workers` workers; `ahead` batches lie ready beside those that are worked on."""

    def __init__(
        self,
        num_workers: int,
        seed: int = 0,
        fast_s: float = 0.05,
        slow_s: float = 0.5,
        ahead: int = 0,
    ) -> None:
        """Begins at time 0.

        Args:
            num_workers: How many batches are worked on at once.
            seed: Of the durations.
            fast_s: 2.5 % of the batches are quicker.
            slow_s: 2.5 % are slower.
            ahead: Batches that wait for a worker.
        """
        self.num_workers, self._ahead = num_workers, ahead
        self._random = random.Random(seed)
        self._centre = (math.log(fast_s) + math.log(slow_s)) / 2
        self._spread = (math.log(slow_s) - math.log(fast_s)) / 2 / 1.96
        self._busy: list[tuple[float, int, Sequence[Job]]] = []
        self._waiting: list[tuple[int, Sequence[Job]]] = []
        self.now_s = 0.0
        self.worked_s = 0.0

    def room(self) -> int:
        """See `Executor`."""
        return self.num_workers + self._ahead - len(self._busy) - len(self._waiting)

    def submit(self, ticket: int, jobs: Sequence[Job]) -> None:
        """See `Executor`."""
        self._waiting.append((ticket, jobs))
        self._start()

    def collect(self) -> list[Answer]:
        """The next batch that is done; the clock jumps there."""
        done_at, ticket, jobs = heapq.heappop(self._busy)
        self.now_s = done_at
        self._start()
        return [(ticket, [_outcome(job) for job in jobs])]

    def close(self) -> None:
        """Nothing to end."""

    @property
    def utilisation(self) -> float:
        """Share of the workers' time that was work, up to now."""
        return self.worked_s / (self.num_workers * self.now_s)

    def _start(self) -> None:
        while self._waiting and len(self._busy) < self.num_workers:
            ticket, jobs = self._waiting.pop(0)
            seconds = self._random.lognormvariate(self._centre, self._spread)
            self.worked_s += seconds
            heapq.heappush(self._busy, (self.now_s + seconds, ticket, jobs))


def _outcome(job: Job) -> Outcome:
    """A fitness that depends on the program alone."""
    fitness = int(job.program.id, 16) / 16**12
    return Outcome(fitness, (1.0 - fitness,), (None,), 1)
