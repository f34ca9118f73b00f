"""A task so small that a whole run takes a fraction of a second; it can kill its own process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.checks import check
from experiments.config import RunConfig, from_dict
from experiments.data.in_memory import InMemoryImages
from experiments.distributed import World
from experiments.tasks.image import ImageClassification
from experiments.tasks.task import Loss

KILL_VARIABLE = "TINY_KILL_AT_CALL"


def images(name: str = "tiny", num_train: int = 96, num_eval: int = 37) -> InMemoryImages:
    """Noisy images whose class is where the bright column is; 4 classes, 1x6x8 pixels."""
    generator = torch.Generator().manual_seed(0)

    def split(number: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(0, 4, (number,), generator=generator)
        pixels = torch.randn(number, 1, 6, 8, generator=generator)
        pixels[torch.arange(number), 0, :, 2 * labels] += 1.5
        return pixels, labels

    splits = {"train": split(num_train), "val": split(num_eval), "test": split(num_eval + 4)}
    return InMemoryImages(name, splits, num_classes=4)


class Net(nn.Module):
    """Convolution, norm, dropout, linear: everything with state or noise, in 500 numbers."""

    def __init__(self, width: int = 6, dropout: float = 0.2, batch_norm: bool = True) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(width) if batch_norm else nn.GroupNorm(2, width)
        self.body = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), norm, nn.GELU())
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(width * 48, 4))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


class ColourNet(nn.Module):
    """For RGB images of any size."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.GELU())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).mean((2, 3)))


class Task(ImageClassification):
    """Kills its process without warning in the n-th call of `loss`, if told so."""

    calls = 0

    def loss(self, model: nn.Module, batch: Any, world: World) -> Loss:
        self.calls += 1
        if self.calls == int(os.environ.get(KILL_VARIABLE, "0")):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(model, batch, world)


def config(results_dir: Path, **changes: Any) -> RunConfig:
    """A checked configuration; `changes` have dotted keys with __ for the dots."""
    plain: dict[str, Any] = {
        "experiment": "tiny",
        "optimizer_name": "lion",
        "scale": "proxy",
        "task": {"_target_": "tiny.Task", "horizontal_flip": 0.0, "max_shift": 1},
        "data": {"_target_": "tiny.images"},
        "model": {"_target_": "tiny.Net"},
        "optimizer": {"_target_": "lion.Lion", "_partial_": True, "lr": 3e-3, "weight_decay": 0.1},
        "train": {"epochs": 4.0, "batch_size": 16, "ema_decay": 0.9, "grad_clip_norm": 1.0},
        "schedule": {"warmup_fraction": 0.1},
        "eval": {"every_epochs": 1.0},
        "checkpoint": {"every_steps": 5, "every_seconds": None},
        "launch": {"device": "cpu", "num_threads": 1, "log_every_steps": 4, "progress": False},
        "results_dir": str(results_dir),
    }
    for key, value in changes.items():
        *path, last = key.split("__")
        section = plain
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    result = from_dict(plain)
    check(result)
    return result
