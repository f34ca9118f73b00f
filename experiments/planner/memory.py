"""Bytes a device holds, by part, and how many devices it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MOST_DEVICES = 4096
GB = 10**9


@dataclass(frozen=True)
class Activations:
    """Most bytes beside weights and gradients, by the examples of a micro-batch.

    That is the largest of several moments, each a line: for few examples it may be one that does
    not depend on them, e.g. the gradient of an embedding. So it is counted at several sizes, and
    straight in between, which is not too little.
    """

    points: tuple[tuple[int, float], ...]  # size, bytes: two or more, the smallest size first

    @classmethod
    def through(cls, counted: Mapping[int, int]) -> Activations:
        """Through what was counted, bytes by size."""
        return cls(tuple(sorted(counted.items())))

    @property
    def each(self) -> float:
        """Bytes of one example more, where there are many."""
        return self._slope(len(self.points) - 1)

    def at(self, size: int) -> int:
        """Bytes of a micro-batch."""
        above = (n for n, (known, _) in enumerate(self.points) if known >= size and n)
        place = next(above, len(self.points) - 1)
        known, value = self.points[place - 1]
        return round(value + self._slope(place) * (size - known))

    def _slope(self, place: int) -> float:
        (low, small), (high, large) = self.points[place - 1 : place + 1]
        return max(0.0, (large - small) / (high - low))


@dataclass(frozen=True)
class Parts:
    """What training holds, in bytes; but activations and batch do not depend on the micro-batch."""

    weights: int  # buffers, too
    gradients: int
    optimizer_state: int
    ema: int  # averaged weights
    shown: int  # weights that are used in place of those trained: in a checkpoint alone
    cast_weights: int  # copies in 16 bits
    optimizer_step: int  # of the step itself, when the activations are gone
    rest: int  # weights that lie in no block: in shards, what is whole all through a step
    block: int  # weights of the largest block, which sharding gathers at its turn; 0: no blocks
    activations: Activations
    batch: Activations
    frees_casts: bool = False  # in shards: checkpointing casts again what backward needs

    @property
    def checkpoint(self) -> int:
        """What a checkpoint holds; in shards, each process writes its part."""
        return self.weights + self.optimizer_state + self.ema + self.shown

    def on_device(self, strategy: str, num_devices: int, size: int) -> dict[str, int]:
        """Bytes of each part on one of some devices.

        A sum of parts: their peaks need not fall together, so it is an upper bound.

        Args:
            strategy: A name in `STRATEGIES`.
            num_devices: That share the run.
            size: Examples of a micro-batch.
        """
        share = STRATEGIES[strategy]
        gathered, cast = 0, self.cast_weights
        if strategy == "fsdp" and num_devices > 1:
            # What lies in no block stays gathered. One block computes while the next one comes, and
            # gradients are made whole: of a block, or of what lies in none.
            gathered = min(self.rest + 2 * self.block, self.weights) + max(self.rest, self.block)
            if self.frees_casts:  # all but those of one block, and of what lies in none
                cast = min(cast, (self.rest + self.block) // 2)

        def part(name: str) -> int:
            total = getattr(self, name)
            return math.ceil(total / num_devices) if name in share else total

        found = {n: part(n) for n in ("weights", "gradients", "optimizer_state", "ema")}
        step = part("optimizer_step")
        activations, batch = self.activations.at(size), self.batch.at(size)
        found |= {"cast_weights": cast, "gathered": gathered}
        found |= {"activations": activations, "batch": batch}
        found["total"] = sum(found.values()) + max(0, step - cast - gathered - activations)
        return found


STRATEGIES: dict[str, tuple[str, ...]] = {
    "ddp": (),
    "zero1": ("optimizer_state", "ema", "optimizer_step"),
    "zero2": ("optimizer_state", "ema", "optimizer_step", "gradients"),
    "fsdp": ("optimizer_state", "ema", "optimizer_step", "gradients", "weights"),
}
"""Ways to share a run: which parts are split over the devices.

Source: arXiv:1910.02054 (ZeRO stages 1 to 3; fsdp is stage 3).
"""


def micro_batch(batch_size: int, asked: int | None, num_devices: int) -> int | None:
    """Examples of a forward pass and device; None where the batch does not divide."""
    if batch_size % num_devices:
        return None
    share = batch_size // num_devices
    if asked is None:
        return share
    return max(size for size in range(1, min(asked, share) + 1) if share % size == 0)


def devices_to_fit(
    parts: Parts, strategy: str, capacity: float, batch_size: int, asked: int | None
) -> int | None:
    """The smallest number of devices that holds the run; None: not with `MOST_DEVICES`.

    Args:
        parts: Of the run.
        strategy: A name in `STRATEGIES`.
        capacity: Bytes of a device that can be used.
        batch_size: Of a step, over all devices.
        asked: Examples of a micro-batch, at most; None: a device takes its share at once.
    """
    for number in range(1, min(MOST_DEVICES, batch_size) + 1):
        size = micro_batch(batch_size, asked, number)
        if size and parts.on_device(strategy, number, size)["total"] <= capacity:
            return number
    return None


def largest_micro_batch(parts: Parts, capacity: float, batch_size: int) -> int:
    """The most examples of a micro-batch that one device holds; 0: not even one."""
    return _last(1, batch_size, lambda n: parts.on_device("ddp", 1, n)["total"] <= capacity)


def _last(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The largest number for which something holds that stops holding once."""
    if not holds(low):
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
