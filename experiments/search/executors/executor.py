"""What an executor is, and the one that judges in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from experiments.search.evaluation import Job, Outcome, judge

Answer = tuple[int, list[Outcome]]
"""Ticket of a batch, and an outcome for each of its jobs."""

MAX_TRIES = 3
"""How often a batch is given out whose workers die."""


class Executor(Protocol):
    """Takes batches, gives outcomes in any order, loses none."""

    def room(self) -> int:
        """How many batches it would start on, or hold ready, at once."""
        ...

    def submit(self, ticket: int, jobs: Sequence[Job]) -> None:
        """Takes a batch."""
        ...

    def collect(self) -> list[Answer]:
        """Waits until at least one batch is done, or a short while.

        Raises:
            InterpreterError: a statement failed: a fault of ours.
            UserError: the workers of a batch died again and again.
        """
        ...

    def close(self) -> None:
        """Ends the workers."""
        ...


class Inline:
    """Judges in this process, a batch at a time."""

    def __init__(self) -> None:
        self._held: list[tuple[int, Sequence[Job]]] = []

    def room(self) -> int:
        """See `Executor`."""
        return 1 - len(self._held)

    def submit(self, ticket: int, jobs: Sequence[Job]) -> None:
        """See `Executor`."""
        self._held.append((ticket, jobs))

    def collect(self) -> list[Answer]:
        """See `Executor`."""
        held, self._held = self._held, []
        return [(ticket, judge(jobs)) for ticket, jobs in held]

    def close(self) -> None:
        """Nothing to end."""
