"""Two queues of a device that is not there: each runs as late, or as soon, as events allow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Event:
    """Happens when its queue reaches it."""

    has_happened: bool = False


class FakeStreams:
    """What `prefetching.Streams` asks for.

    Args:
        order: Which queue goes first where both could: "copies" or "computations".
        heeds: Kinds of events that are waited for: "copied" (before computing) and "free" (before
            copying). Leaving one out is the fault that it is there to prevent.
    """

    def __init__(self, order: str, heeds: Sequence[str] = ("copied", "free")) -> None:
        self.order, self.heeds = order, heeds
        self.queues: dict[str, deque[Any]] = {"copies": deque(), "computations": deque()}
        self.num_allocations = 0

    def empty_like(self, tensor: Tensor, layout: torch.memory_format) -> Tensor:
        self.num_allocations += 1
        return torch.full_like(tensor, 99, memory_format=layout)

    def copy(self, targets: Sequence[Tensor], sources: Sequence[Tensor], after: Event) -> Event:
        event = Event()
        queue = self.queues["copies"]
        if "free" in self.heeds:
            queue.append(after)
        for target, source in zip(targets, sources, strict=True):
            queue.append(lambda t=target, s=source: t.copy_(s))
        queue.append(lambda: setattr(event, "has_happened", True))
        return event

    def wait(self, event: Event) -> None:
        if "copied" in self.heeds:
            self.queues["computations"].append(event)

    def mark(self) -> Event:
        event = Event()
        self.compute(lambda: setattr(event, "has_happened", True))
        return event

    def compute(self, work: Callable[[], Any]) -> None:
        """Queues a computation; the host goes on."""
        self.queues["computations"].append(work)

    def run(self) -> None:
        """Runs both queues to their end.

        Raises:
            AssertionError: where each waits for the other.
        """
        names = sorted(self.queues, key=lambda name: name != self.order)
        while any(self.queues.values()):
            assert any(self._go_on(self.queues[name]) for name in names), "both queues wait"

    def _go_on(self, queue: deque[Any]) -> bool:
        """One piece of work; False where there is none, or it has to wait."""
        if not queue or (isinstance(queue[0], Event) and not queue[0].has_happened):
            return False
        work = queue.popleft()
        if not isinstance(work, Event):
            work()
        return True


class PromptStreams(FakeStreams):
    """Runs everything at once: a GPU without delay, for whole runs."""

    def __init__(self) -> None:
        super().__init__("copies")

    def copy(self, targets: Sequence[Tensor], sources: Sequence[Tensor], after: Event) -> Event:
        event = super().copy(targets, sources, after)
        self.run()
        return event

    def mark(self) -> Event:
        event = super().mark()
        self.run()
        return event
