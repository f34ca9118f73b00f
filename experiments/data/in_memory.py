"""Image data small enough to be held in memory as tensors: batches by index, no processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from experiments.config import ConfigError
from experiments.data.fingerprint import of_tensors
from experiments.data.order import BatchPlan, derive
from experiments.models.class_loss import NO_LABEL
from experiments.settings.image import ImageTaskConfig

MADE_TOGETHER = 512
"""Examples whose batches are made at once, or those of a step where it has more."""


class InMemoryImages:
    """Splits of (images, labels) in memory.

    Args:
        name: For the ledger's `data` column.
        splits: Name to images (N, C, H, W) float32, already normalised, and labels (N,) int64; or
            (N, K) int64, filled up with -1, where an image may have several. "train" is trained
            on; the others are evaluated.
        num_classes: Labels run from 0 to num_classes - 1.
        background: Pixel value of what lies around an image, after normalisation.

    Raises:
        ConfigError: no training split, or labels that do not fit the images or the classes.
    """

    honours: ClassVar[frozenset[str]] = frozenset(
        {"horizontal_flip", "max_shift", "max_rotation", "max_zoom"}
    )
    """Settings of the task that change what this source gives."""

    def __init__(
        self,
        name: str,
        splits: Mapping[str, tuple[Tensor, Tensor]],
        num_classes: int,
        background: float = 0.0,
    ) -> None:
        self.name = name
        self.splits = dict(splits)
        self.num_classes = num_classes
        self.background = background
        _check(name, self.splits, num_classes)
        self.num_train = len(self.splits["train"][1])
        self.eval_groups = [[split] for split in self.splits if split != "train"]

    def train_batches(
        self, plan: BatchPlan, start: int, end: int, settings: ImageTaskConfig
    ) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """For each step from `start` to `end`: this process's micro-batches of images, labels."""
        images, labels = self.splits["train"]
        for steps in _made_together(plan, start, end):
            parts = [indices for step in steps for indices in plan.micro_batches(step)]
            chosen = torch.from_numpy(np.concatenate(parts))
            draws = _draws(plan.seed, plan.epoch_of(steps[0]), plan.num_examples)
            x = augment(images[chosen], draws[chosen], settings, self.background)
            sizes = [len(indices) for indices in parts]
            pairs = list(zip(x.split(sizes), labels[chosen].split(sizes), strict=True))
            each = len(parts) // len(steps)
            for place, step in enumerate(steps):
                if start <= step < end:
                    yield pairs[place * each : (place + 1) * each]

    def eval_batches(
        self,
        group: Sequence[str],
        batch_size: int,
        rank: int,
        world_size: int,
        settings: ImageTaskConfig,
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Each example of a split once over all processes."""
        (split,) = group
        images, labels = (tensor[rank::world_size] for tensor in self.splits[split])
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            if len(y):  # of nothing the one piece is empty
                yield x, {split: y}

    def example_batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Images and labels on the meta device."""
        images, labels = (tensor[:1].to("meta") for tensor in self.splits["train"])
        shapes = (images.shape[1:], labels.shape[1:])
        return images.expand(size, *shapes[0]), labels.expand(size, *shapes[1])

    def visible_classes(self, split: str) -> None:
        """Every split knows every class."""
        return None

    @cached_property
    def fingerprint(self) -> str:
        """Which examples these are: a hash of every pixel and label of every split."""
        return of_tensors(self.splits)


def _check(name: str, splits: Mapping[str, tuple[Tensor, Tensor]], num_classes: int) -> None:
    if "train" not in splits:
        raise ConfigError(f"data {name} has no split 'train', only {', '.join(splits)}: name it so")
    shape = splits["train"][0].shape[1:]
    for split, (images, labels) in splits.items():
        if images.dim() != 4 or images.shape[1:] != shape or not images.is_floating_point():
            raise ConfigError(
                f"data {name}, {split}: images must be floats (N, C, H, W), alike in all splits; "
                f"these are {images.dtype} {tuple(images.shape)}"
            )
        is_alike = labels.shape[:1] == images.shape[:1] and labels.dim() in (1, 2)
        if labels.dtype != torch.int64 or not is_alike or not labels.numel():
            raise ConfigError(
                f"data {name}, {split}: labels must be int64, one per image (or K, filled up with "
                f"-1), for one image or more; these are {labels.dtype} {tuple(labels.shape)}"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < (0 if labels.dim() == 1 else NO_LABEL) or high >= num_classes:
            raise ConfigError(
                f"data {name}, {split}: labels run from {low} to {high}, but num_classes="
                f"{num_classes} allows 0 to {num_classes - 1}: mend one of them"
            )


def augment(images: Tensor, draws: Tensor, settings: ImageTaskConfig, background: float) -> Tensor:
    """Flips, shifts, turns and zooms each image by its own draws.

    Args:
        images: (N, C, H, W).
        draws: (N, 5) in [0, 1).
        settings: `horizontal_flip`, `max_shift`, `max_rotation`, `max_zoom`.
        background: Pixel value that comes in from outside.

    Returns:
        (N, C, H, W); the input itself where nothing is to be done.
    """
    if settings.horizontal_flip > 0:
        flip = draws[:, 0] < settings.horizontal_flip
        images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    if settings.max_shift == settings.max_rotation == settings.max_zoom == 0:
        return images
    height, width = images.shape[2:]
    draws = 2 * draws - 1
    angle, size = settings.max_rotation * draws[:, 1], 1 + settings.max_zoom * draws[:, 2]
    # Rows of the map from output to input coordinates, both in [-1, 1] over the image.
    x_row = [size * angle.cos(), -size * angle.sin(), 2 * settings.max_shift / width * draws[:, 3]]
    y_row = [size * angle.sin(), size * angle.cos(), 2 * settings.max_shift / height * draws[:, 4]]
    maps = torch.stack([torch.stack(x_row, 1), torch.stack(y_row, 1)], 1)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images - background, grid, align_corners=False) + background


def _made_together(plan: BatchPlan, start: int, end: int) -> Iterator[range]:
    """Steps of an epoch whose batches are made at once, which takes less than each on its own.

    Where they begin does not depend on `start`, so that a batch is what it is in whatever run.
    """
    size, per_epoch = max(1, MADE_TOGETHER // plan.batch_size), plan.steps_per_epoch
    step = start
    while step < end:
        first = plan.epoch_of(step) * per_epoch
        first += (step - first) // size * size
        step = min(first + size, (plan.epoch_of(step) + 1) * per_epoch)
        yield range(first, step)


@lru_cache(maxsize=2)
def _draws(seed: int, epoch: int, num_examples: int) -> Tensor:
    """Five numbers in [0, 1) for each example of the training set; (num_examples, 5) float32."""
    generator = np.random.RandomState(derive(seed, "augment", epoch) % 2**32)
    return torch.from_numpy(generator.rand(num_examples, 5).astype(np.float32))
