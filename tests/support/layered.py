"""A small model with all that shards can get wrong, and a task whose micro-batches weigh unlike."""

from __future__ import annotations

from typing import Any

import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.distributed import World
from experiments.tasks.task import Loss

WIDTH = 13  # odd: shards of two processes are unequal


class Block(nn.Module):
    """The repeated part."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.inner = nn.Linear(WIDTH, 3 * WIDTH)
        self.outer = nn.Linear(3 * WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        return rows + self.dropout(self.outer(functional.gelu(self.inner(self.norm(rows)))))


class Net(nn.Module):
    """Blocks, tied weights, a scalar parameter, running statistics, a buffer that is not saved."""

    places: Tensor

    def __init__(self, num_blocks: int = 3, dropout: float = 0.1, batch_norm: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(48, WIDTH)
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(num_blocks))
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.mix_again = nn.Linear(WIDTH, WIDTH)
        self.mix_again.weight = self.mix.weight
        self.norm = nn.BatchNorm1d(WIDTH) if batch_norm else nn.Identity()
        self.temperature = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("places", torch.linspace(-1, 1, WIDTH), persistent=False)
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, images: Tensor) -> Tensor:
        rows = self.mix(self.embed(images.flatten(1)) + self.places)
        for block in self.blocks:
            rows = block(rows)
        rows = self.mix_again(rows)
        if isinstance(self.norm, nn.BatchNorm1d):  # a buffer that training reads
            rows = rows + self.norm.running_mean
        return self.head(self.norm(rows)) * self.temperature.exp()


class Choosy(Net):
    """Looks at its numbers while it is built, so it cannot be built without memory."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.first = float(self.embed.weight[0, 0])


class Task(tiny.Task):
    """Examples weigh by their class."""

    def loss(self, model: nn.Module, batch: Any, world: World) -> Loss:
        _, labels = batch
        return Loss(super().loss(model, batch, world).mean, weight=1.0 + labels.float().sum())
