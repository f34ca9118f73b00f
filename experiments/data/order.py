"""Which examples and which random numbers belong to which step.

Everything random is a pure function of the run's seed and a position: the order of an epoch, the
augmentation of an example, the dropout of a micro-batch. So a run can be resumed at any step,
with any number of loading processes, and the same examples reach the same step at any world size.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch

from experiments.config import ConfigError
from experiments.data.giant_order import shuffled

GIANT = 50_000_000
"""Examples from which on the order of an epoch is computed piece by piece, and never held whole."""


def derive(*position: int | str) -> int:
    """A 63-bit seed that is a pure function of a position, e.g. `derive(seed, "init")`."""
    digest = hashlib.blake2b(repr(position).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_all(seed: int) -> None:
    """Sets the global generators of Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if _is_only_cpu():  # torch.manual_seed asks every kind of device each time: 0.1 ms a step
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


@cache
def _is_only_cpu() -> bool:
    """Whether this machine has no accelerator whose generators there would be to set."""
    return not torch.accelerator.is_available()


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """A permutation of the training set; shape (num_examples,), int64.

    `RandomState` is used because its streams are frozen across numpy versions.
    """
    return np.random.RandomState(derive(seed, "order", epoch) % 2**32).permutation(num_examples)


def epoch_slice(seed: int, epoch: int, num_examples: int, start: int, end: int) -> np.ndarray:
    """Example numbers at the positions [start, end) of an epoch; (end - start,) int64.

    The slice of `epoch_order` for up to `GIANT` examples, of another shuffled order beyond.
    """
    if num_examples <= GIANT:
        return epoch_order(seed, epoch, num_examples)[start:end]
    return shuffled(np.arange(start, end), num_examples, derive(seed, "order", epoch))


@dataclass(frozen=True)
class BatchPlan:
    """Cuts epochs into global batches, and these into micro-batches for each process.

    An epoch's last examples that do not fill a global batch are left out; each epoch is shuffled
    anew, so no example is left out for good.
    """

    seed: int
    num_examples: int  # of the training set
    batch_size: int  # global
    micro_batch_size: int  # per forward pass
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.num_examples < self.batch_size:
            raise ConfigError(
                f"train.batch_size={self.batch_size} is larger than the training set: set "
                f"{_that_fits(self)}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch."""
        return self.num_examples // self.batch_size

    def micro_numbers(self) -> range:
        """Numbers, within a global batch, of the micro-batches that this process takes."""
        per_rank = self.batch_size // self.micro_batch_size // self.world_size
        return range(self.rank * per_rank, (self.rank + 1) * per_rank)

    def epoch_of(self, step: int) -> int:
        """0-based epoch of a 0-based step."""
        return step // self.steps_per_epoch

    def micro_batches(self, step: int) -> list[np.ndarray]:
        """Example numbers of each micro-batch of this process at a step; each (micro,) int64."""
        epoch, within = divmod(step, self.steps_per_epoch)
        size, first = self.micro_batch_size, within * self.batch_size
        mine = self.micro_numbers()
        begin, end = first + mine.start * size, first + mine.stop * size
        share = epoch_slice(self.seed, epoch, self.num_examples, begin, end)
        return [share[k * size : (k + 1) * size] for k in range(len(mine))]

    def noise_seed(self, step: int, micro_number: int) -> int:
        """Seed of everything random inside one forward and backward pass."""
        return derive(self.seed, "noise", step, micro_number)

    def example_seed(self, epoch: int, index: int) -> int:
        """Seed of the augmentation of one example in one epoch."""
        return derive(self.seed, "example", epoch, index)


def _that_fits(plan: BatchPlan) -> str:
    """The settings whose batch is the largest that the training set fills."""
    most, shares = plan.num_examples, plan.world_size * plan.micro_batch_size
    if most < plan.world_size:
        return f"launch.num_processes={most} and train.batch_size={most}"
    unit = shares if shares <= most else plan.world_size
    of_any = " or less" if unit == 1 else ""
    whole = " and train.micro_batch_size=null" if unit < shares < plan.batch_size else ""
    return f"train.batch_size={most // unit * unit}{of_any}{whole}"
