"""What a proxy is: a small real task that many copies of one model train on side by side.

Every array has a leading axis of K lanes (programs x learning rates x seeds). A lane's numbers do
not depend, bit for bit, on the other lanes: matrices are multiplied by `torch.bmm`, whose result
for one matrix does not depend on the batch as long as every matrix begins on a boundary of 64
bytes; so each parameter holds a multiple of 16 numbers. Use one thread (`one_thread`): with more,
sums would be split by their number.

| tier | what | used for |
|---|---|---|
| T0 | one proxy, one seed, several learning rates, search's part of the data | the search |
| T1 | every family, fresh seeds, fresh part of the data | the funnel's first gate |
| T2 | T1 with 10 times the steps | the second |
| T3 | the suite's own proxies through run.py, with the exported optimizer | the last |
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 16  # float32 numbers in 64 bytes
SEARCH, FRESH = "search", "fresh"
"""Parts of the held-out data: what the search may see, and what only final numbers may see."""


@dataclass(frozen=True)
class Parameter:
    """One weight tensor of a model."""

    name: str
    shape: tuple[int, ...]
    std: float  # of its normal initial values; 0: zeros
    mean: float = 0.0

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """Where each parameter lies in a lane's flat row of D weights."""

    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        for one in self.parameters:
            if one.size % ALIGNMENT:
                raise ValueError(f"{one.name} has {one.size} numbers: not a multiple of 16")

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Numbers in each parameter."""
        return tuple(one.size for one in self.parameters)

    @cached_property
    def size(self) -> int:
        """D: numbers in all."""
        return sum(self.sizes)

    def views(self, flat: Tensor) -> list[Tensor]:
        """The parameters in rows of flat weights (K, D), each as (K, *shape), without copying."""
        parts = flat.split(self.sizes, dim=1)
        return [
            part.unflatten(1, one.shape) for part, one in zip(parts, self.parameters, strict=True)
        ]

    def initial(self, seed: int) -> Tensor:
        """The initial weights of a seed, (D,)."""
        generator = np.random.Generator(np.random.Philox(key=[seed, 0x1417]))
        drawn = [
            one.mean + one.std * generator.standard_normal(one.size, dtype=np.float32)
            for one in self.parameters
        ]
        return torch.from_numpy(np.concatenate(drawn).astype(np.float32))


@dataclass(frozen=True)
class Batch:
    """Examples of one step; the leading axis has one entry per seed, or per lane."""

    inputs: Tensor
    targets: Tensor

    def of(self, lanes: Tensor) -> Batch:
        """The examples of each lane.

        Args:
            lanes: (K,) position of each lane's seed.
        """
        return Batch(self.inputs[lanes], self.targets[lanes])


class Proxy(Protocol):
    """A family: data, model, loss. All losses are nats per prediction."""

    name: str
    layout: Layout

    def training(self, stream: int, num_steps: int) -> Sequence[Batch]:
        """The batches of one stream of training data; each array has the shape (1, ...)."""
        ...

    def validation(self, window: int, part: str) -> Batch:
        """Held-out examples, (1, ...).

        Args:
            window: Which of them; windows follow one another and begin again at the end.
            part: `SEARCH` or `FRESH`; the two share no example.
        """
        ...

    def loss_and_gradient(self, weights: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss (K,) and its gradient (K, D) at weights (K, D)."""
        ...

    def loss(self, weights: Tensor, batch: Batch) -> Tensor:
        """Mean loss (K,), without a gradient."""
        ...


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss of each lane, and its gradient with respect to the logits.

    Args:
        logits: (K, N, C).
        targets: (K, N) classes.

    Returns:
        (K,) and (K, N, C); the logits are overwritten by the latter.
    """
    top = logits.amax(-1, keepdim=True)
    logits.sub_(top)
    right = logits.gather(-1, targets[..., None])[..., 0]
    logits.exp_()
    total = logits.sum(-1, keepdim=True)
    losses = (total[..., 0].log() - right).mean(1)
    logits.div_(total)
    logits.scatter_add_(
        -1, targets[..., None], logits.new_full((1,), -1.0).expand_as(targets[..., None])
    )
    return losses, logits.div_(targets.shape[1])


def relu_back(slope: Tensor, output: Tensor) -> Tensor:
    """The gradient before a ReLU, from that behind it and the ReLU's output."""
    return torch.ops.aten.threshold_backward(slope, output, 0)


def positions(stream: int, num_steps: int, batch_size: int, high: int) -> np.ndarray:
    """Which examples a stream of training data takes: (num_steps, batch_size) of 0..high-1."""
    generator = np.random.Generator(np.random.Philox(key=[stream, 0xDA7A]))
    return generator.integers(0, high, (num_steps, batch_size))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums are then not split by the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
