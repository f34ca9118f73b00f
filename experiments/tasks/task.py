"""The contract between the runner and whatever is learnt.

A task owns its data, its model, its loss, what is measured and which number decides. The runner
owns positions, seeds (those of evaluations, too), micro-batches, ranks, precision, clipping, the
schedule, averages, checkpoints, the ledger, and when an evaluation is due.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from experiments.build import build
from experiments.config import ConfigError, RunConfig
from experiments.data.order import BatchPlan, derive, seed_all
from experiments.distributed import World
from experiments.evaluations.evaluation import Context as Context
from experiments.evaluations.evaluation import Evaluation as Evaluation
from experiments.evaluations.evaluation import Measurement as Measurement
from experiments.headline import Headline

Batch = tuple[Tensor, ...]
"""One micro-batch: tensors with the examples in front, on the CPU as they come from the data, then
on the run's device."""
Coupling = Literal["none", "micro-batch", "global batch"]


@dataclass(frozen=True)
class Loss:
    """The loss of a micro-batch.

    Where nothing in it counts, the weight is 0 and the mean may be anything, NaN too, as long as
    its gradient is finite (as `cross_entropy`'s is where it ignores all; a hand-written
    `sum / count` must keep the count above 0).
    """

    mean: Tensor  # scalar, to differentiate
    weight: Tensor | None = (
        None  # scalar: what the mean is over, e.g. scored tokens; None: examples
    )

    def counted(self) -> Tensor:
        """The mean, and 0 where nothing counts: 0 times NaN would be NaN."""
        if self.weight is None:
            return self.mean
        return torch.where(self.weight != 0, self.mean, torch.zeros_like(self.mean))


class Task(Protocol):
    """What the runner needs to know of a task; nothing else. See CONTRIBUTING.md.

    Inherit from it, and what has a body here need not be written.
    """

    headline: Headline
    """The number that decides."""
    example: str = "example"
    """What one of `num_train` is: image, sequence of 64 characters, pair."""
    loss_unit: str = "nats"
    """Unit of the training loss."""
    coupling: Coupling = "none"
    """Whether examples meet in the loss. "none": each adds its own term (Mixup's random partners
    count as noise). "micro-batch": the loss is about what a micro-batch holds (negatives), so its
    size is part of it. "global batch": all examples of a step meet; several micro-batches then need
    `encode` and `couple` (`GlobalTask`)."""
    why_not_stacked: str = ""
    """Why several runs cannot be trained as one (`launcher=vectorised`); empty: they can."""
    why_not_sharded: str = ""
    """Why the model cannot be in shards (`launch.strategy=fsdp`): where training uses parts of it
    outside of its forward pass, they are not whole there. Empty: it can."""

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

    def example_batch(self, size: int) -> Batch:
        """A micro-batch with the right shapes and types on the meta device, without its data."""
        ...

    def batches(self, plan: BatchPlan, start: int, end: int) -> Iterator[list[Batch]]:
        """For each step from `start` to `end`: the micro-batches of this process.

        Must be a pure function of the plan and the step, so that a run can be resumed anywhere.
        """
        ...

    def loss(self, model: nn.Module, batch: Batch, world: World) -> Loss:
        """Loss of a micro-batch. The runner weighs those of all micro-batches and processes.

        Random numbers come from the global generators, which the runner sets per micro-batch.
        """
        ...

    def evaluations(self) -> Sequence[Evaluation]:
        """What can be measured, each with a name and when it is due."""
        ...

    def adapt(self, state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        """Foreign weights (`start_from`) in this model's shapes; what it cannot fit stays as it is.

        Args:
            state: Names as in the model, without those that are left out.
            model: As built.
        """
        return state


class GlobalTask(Protocol):
    """A task whose loss couples the global batch and can be had from embeddings alone.

    Then a step may have several micro-batches (see `experiments.global_batch`).
    """

    def encode(self, model: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
        """The embeddings of a micro-batch, tensors with the examples in front."""
        ...

    def couple(self, model: nn.Module, encoded: tuple[Tensor, ...], world: World) -> Loss:
        """The loss of this process's embeddings among those of all processes."""
        ...


_NEEDED = ("headline", "data_name", "num_train", "build_model", "batches", "loss", "evaluations")
_DEFAULTS = ("example", "loss_unit", "coupling", "why_not_stacked", "adapt")


def build_task(config: RunConfig) -> Task:
    """The task of a configuration, with its data.

    Data that draw from the global generators are the same in each run, process and evaluation,
    whatever was drawn before: a worker trains many runs, and a resumed run must find its data.

    Raises:
        ConfigError: as `build` and `check_task`.
    """
    seed_all(derive("task"))
    return check_task(build(config.task, "task", data=config.data, model=config.model))


def check_task(task: Any) -> Task:
    """The task itself, if it is one.

    Raises:
        ConfigError: names what it lacks.
    """
    lacking = [name for name in (*_NEEDED, *_DEFAULTS) if not hasattr(task, name)]
    if lacking:
        needed = [name for name in lacking if name in _NEEDED]
        remedy = (
            f"it lacks {', '.join(needed)}"
            if needed
            else f"it lacks {', '.join(lacking)}: inherit from experiments.tasks.task.Task"
        )
        raise ConfigError(f"task: {type(task).__name__} is no task: {remedy}")
    if task.coupling not in ("none", "micro-batch", "global batch"):
        raise ConfigError(
            f"task: {type(task).__name__}.coupling={task.coupling!r}: must be 'none', "
            "'micro-batch' or 'global batch'"
        )
    _check_evaluations(task)
    return task


def _check_evaluations(task: Any) -> None:
    """That each can be asked for by its name, on a command line, and has its time."""
    names: set[str] = set()
    for evaluation in task.evaluations():
        said = f"task: the evaluation {evaluation.name!r} of {type(task).__name__}"
        if not evaluation.name or set(evaluation.name) & set(",'\""):
            raise ConfigError(f"{said}: its name must be words, without commas and quotes")
        if evaluation.name in names:
            raise ConfigError(f"{said} is there twice: each needs a name of its own")
        if evaluation.when not in ("every", "last", "asked"):
            raise ConfigError(f"{said}: when={evaluation.when!r} must be every, last or asked")
        names.add(evaluation.name)
