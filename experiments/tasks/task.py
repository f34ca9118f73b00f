"""The contract between the runner and whatever is learnt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from experiments.data.order import BatchPlan
from experiments.distributed import World

Batch = tuple[Tensor, ...]
"""One micro-batch: tensors on the CPU as they come from the data, then on the run's device."""


@dataclass(frozen=True)
class Measurement:
    """One number of an evaluation."""

    split: str  # e.g. val, test, imagenet_v2
    metric: str  # e.g. top1, loss
    value: float
    unit: str  # e.g. %, nats
    n: int  # examples behind the value


class Task(Protocol):
    """What the runner needs to know of a task; nothing else. See CONTRIBUTING.md."""

    @property
    def data_name(self) -> str:
        """The data set that is really used, for the ledger."""
        ...

    @property
    def num_train(self) -> int:
        """Number of training examples."""
        ...

    def build_model(self) -> nn.Module:
        """A new model on the CPU, initialised from torch's global generator."""
        ...

    def batches(self, plan: BatchPlan, start: int, end: int) -> Iterator[list[Batch]]:
        """For each step from `start` to `end`: the micro-batches of this process.

        Must be a pure function of the plan and the step, so that a run can be resumed anywhere.
        """
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of a micro-batch, a scalar to differentiate.

        Random numbers come from the global generators, which the runner sets per micro-batch.
        """
        ...

    def evaluate(self, model: nn.Module, batch_size: int, world: World) -> Iterator[Measurement]:
        """Measures a model in evaluation mode, each example once over all processes."""
        ...
