"""Image data small enough to be held in memory as tensors: batches by index, no processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from experiments.config import ImageTaskConfig
from experiments.data.order import BatchPlan, derive


class InMemoryImages:
    """Splits of (images, labels) in memory.

    Args:
        name: For the ledger's `data` column.
        splits: Name to images (N, C, H, W) float32, already normalised, and labels (N,) int64.
            "train" is trained on; the others are evaluated.
        num_classes: Labels run from 0 to num_classes - 1.
    """

    def __init__(
        self, name: str, splits: Mapping[str, tuple[Tensor, Tensor]], num_classes: int
    ) -> None:
        self.name = name
        self.splits = dict(splits)
        self.num_classes = num_classes
        self.num_train = len(self.splits["train"][1])
        self.eval_splits = [split for split in self.splits if split != "train"]

    def train_batches(
        self, plan: BatchPlan, start: int, end: int, settings: ImageTaskConfig
    ) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """For each step from `start` to `end`: this process's micro-batches of images, labels."""
        images, labels = self.splits["train"]
        for step in range(start, end):
            epoch = plan.epoch_of(step)
            batch = []
            for indices in plan.micro_batches(step):
                chosen = torch.from_numpy(indices)
                x = augment(images[chosen], indices, settings, plan, epoch)
                batch.append((x, labels[chosen]))
            yield batch

    def eval_batches(
        self, split: str, batch_size: int, rank: int, world_size: int, settings: ImageTaskConfig
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Each example of a split once over all processes."""
        images, labels = self.splits[split]
        mine = slice(rank, None, world_size)
        yield from zip(images[mine].split(batch_size), labels[mine].split(batch_size), strict=True)

    def visible_classes(self, split: str) -> None:
        """Every split knows every class."""
        return None


def augment(
    images: Tensor, indices: np.ndarray, settings: ImageTaskConfig, plan: BatchPlan, epoch: int
) -> Tensor:
    """Flips and shifts each image by its own draw, a function of (seed, epoch, example).

    Args:
        images: (N, C, H, W).
        indices: Example numbers of the images, (N,).
        settings: `horizontal_flip` (probability) and `max_shift` (pixels, zero padded).
        plan: Gives the seed and the size of the training set.
        epoch: 0-based.

    Returns:
        (N, C, H, W), a new tensor where anything is done.
    """
    if settings.horizontal_flip > 0:
        draws = _draws(plan.seed, "flip", epoch, plan.num_examples)[indices, 0]
        flip = torch.from_numpy(draws < settings.horizontal_flip)
        images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    if settings.max_shift > 0:
        draws = _draws(plan.seed, "shift", epoch, plan.num_examples)[indices]
        reach = 2 * settings.max_shift + 1
        images = _crop(
            images, torch.from_numpy((draws * reach).astype(np.int64)), settings.max_shift
        )
    return images


def _crop(images: Tensor, corners: Tensor, max_shift: int) -> Tensor:
    """Pads with zeros and cuts out windows at `corners` (N, 2), on axes longer than 1."""
    number, _, height, width = images.shape
    pad_y = max_shift if height > 1 else 0
    pad_x = max_shift if width > 1 else 0
    padded = functional.pad(images, (pad_x, pad_x, pad_y, pad_y))
    rows = torch.arange(height) + (corners[:, :1] if pad_y else 0)
    columns = torch.arange(width) + (corners[:, 1:] if pad_x else 0)
    rows, columns = rows.expand(number, height), columns.expand(number, width)
    which = torch.arange(number)[:, None, None]
    cut = padded[which, :, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
    return cut.permute(0, 3, 1, 2).contiguous()


@lru_cache(maxsize=4)
def _draws(seed: int, what: str, epoch: int, num_examples: int) -> np.ndarray:
    """Two numbers in [0, 1) for each example of the training set; (num_examples, 2)."""
    return np.random.RandomState(derive(seed, what, epoch) % 2**32).rand(num_examples, 2)
