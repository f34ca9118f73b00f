"""What the loop of a run keeps count of: losses between two reports, and time."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from experiments.distributed import World


class LossWindow:
    """The losses since the last report, kept on the device so that no step waits for them.

    `settle` brings them together over all processes; only then are they read.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._values = torch.zeros(size, device=device)
        self._count = 0
        self._settled = 0

    @property
    def is_full(self) -> bool:
        """True when it is time to report."""
        return self._count == len(self._values)

    def add(self, loss: Tensor) -> None:
        """Takes this process's mean loss of one step."""
        self._values[self._count] = loss
        self._count += 1

    @property
    def room(self) -> int:
        """Losses that it still takes before it is full."""
        return len(self._values) - self._count

    def extend(self, losses: Tensor) -> None:
        """Takes this process's mean losses of several steps, (n,); at most `room`."""
        self._values[self._count : self._count + len(losses)] = losses
        self._count += len(losses)

    def latest(self) -> float:
        """This process's last loss."""
        return float(self._values[self._count - 1])

    def settle(self, world: World, step: int) -> int | None:
        """Averages what is new over the processes.

        Args:
            world: The processes; all must call.
            step: Steps done.

        Returns:
            The first step (counted from 1) whose loss is not finite, if there is one.
        """
        new = self._values[self._settled : self._count]
        if len(new):
            world.sum(new).div_(world.size)
        self._settled = self._count
        bad = (~torch.isfinite(self._values[: self._count])).nonzero()
        return step - self._count + 1 + int(bad[0]) if len(bad) else None

    def mean(self) -> float:
        """Mean over the window; settle first."""
        return float(self._values[: self._count].double().mean())

    def clear(self) -> None:
        """Starts the next window."""
        self._count = self._settled = 0

    def state(self) -> list[float]:
        """For a checkpoint; settle first."""
        return self._values[: self._count].tolist()

    def load(self, state: list[float]) -> None:
        """From a checkpoint; a larger window than today's keeps its newest losses."""
        kept = state[-(len(self._values) - 1) :] if len(self._values) > 1 else []
        self._values[: len(kept)] = torch.tensor(kept)
        self._count = self._settled = len(kept)


class Stopwatch:
    """Seconds spent on training, evaluating and saving, over all sessions of a run."""

    def __init__(self) -> None:
        self.seconds = {"train": 0.0, "evaluate": 0.0, "save": 0.0}
        self._mark = time.perf_counter()
        self._rate_from: tuple[float, int] | None = None

    def start(self) -> None:
        """Time up to here belongs to nothing."""
        self._mark = time.perf_counter()

    def lap(self, what: str) -> float:
        """Books the time since the last lap; returns it."""
        now = time.perf_counter()
        spent, self._mark = now - self._mark, now
        self.seconds[what] += spent
        return spent

    def load(self, seconds: dict[str, float]) -> None:
        """From a checkpoint.

        Raises:
            KeyError, TypeError, ValueError: where they are not a number for each.
        """
        self.seconds = {name: float(seconds[name]) for name in self.seconds}

    def laps_per_second(self, count: int) -> float:
        """Rate at which `count` has grown since it was last asked for."""
        now = time.perf_counter()
        before, self._rate_from = self._rate_from, (now, count)
        if before is None or now <= before[0]:
            return 0.0
        return (count - before[1]) / (now - before[0])
