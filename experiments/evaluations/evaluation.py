"""An evaluation: a name, when it is due, and a function that measures a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from experiments.data.order import derive
from experiments.distributed import World
from experiments.headline import Direction


@dataclass(frozen=True)
class Measurement:
    """One number of an evaluation."""

    split: str  # e.g. val, test, imagenet_v2
    metric: str  # e.g. top1, loss
    value: float
    unit: str  # e.g. %, nats
    n: int  # examples behind the value
    better: Direction | None = None  # None: neither
    error: float | None = None  # standard error of the value over these examples, if known
    instrument: str | None = None  # what it was measured with, as JSON: only like can be compared
    picture: str | None = None  # of what was measured: a file in the run's folder


@dataclass(frozen=True)
class Context:
    """What an evaluation may know beside the model.

    Random numbers must come from `seed` and an example's number alone (`generator`): then every
    checkpoint is measured alike, while training and afterwards, at any number of processes.
    """

    world: World
    seed: int
    batch_size: int  # examples per forward pass and process
    step: int  # optimizer steps done
    weights: str = "raw"  # raw | ema: which of the run's weights the model has
    folder: Path | None = (
        None  # of the run, for what is worth keeping (`keep_in`); None: nothing is
    )

    def keep_in(self, evaluation: str) -> Path | None:
        """Folder of one evaluation of these weights; made by whoever writes to it."""
        if self.folder is None:
            return None
        return self.folder / "evaluations" / evaluation / f"step{self.step}_{self.weights}"

    def generator(self, number: int) -> torch.Generator:
        """Random numbers of one example, on the CPU.

        Args:
            number: Of the example in its split.
        """
        return torch.Generator().manual_seed(derive(self.seed, "example", number))


@dataclass(frozen=True)
class Evaluation:
    """What can be measured of a model.

    `measure` gets the model in evaluation mode, without gradients, and must take each example once
    over all processes.
    """

    name: str
    measure: Callable[[nn.Module, Context], Iterable[Measurement]]
    when: Literal["every", "last", "asked"] = "every"  # every time, at the last step, job=evaluate
