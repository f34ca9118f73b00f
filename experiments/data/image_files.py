"""Image data at the scale of ImageNet, read from files by background processes.

The batches of a step, and the augmentation of each image in them, are a function of the seed and
the step alone: not of the number of loading processes, of the ranks, or of where a run resumed.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from experiments.config import ConfigError
from experiments.data import imagenet_variants
from experiments.data.image_loading import ImageBatches, Request, load
from experiments.data.image_readers import LabelledImages, open_split
from experiments.data.image_transforms import eval_transform, train_transform
from experiments.data.imagenet_variants import EvalImages
from experiments.data.locate import VARIANTS, check_root, reader_kind
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig

_HOLDOUT_SEED = 0  # the same images are held out in every run


class ImageFiles:
    """A training split, a validation split, and further test sets, all read lazily.

    Args:
        name: For the ledger's `data` column, and first part of the splits' names.
        num_classes: Classes of the data; checked when it is first read.
        num_train: Training images on disk; checked when they are first read.
        root: Folder of the data; None: has to be given before anything is read.
        reader: '' (class folders or tars), wds (WebDataset shards), hfds (a Hugging Face data
            set on disk), hfds/ORG/NAME (in the Hugging Face cache), torch/NAME (torchvision).
        train_split: Folder, split or pattern of shards to train on.
        val_split: Folder, split or pattern of shards to validate on.
        input_size: Side of the images that the model sees, in pixels.
        num_workers: Loading processes per training process; 0: load in the process itself.
        num_holdout: Training images set aside as the split `minival`; then it is the only split
            evaluated, so that tuning never looks at the validation images.
        real_labels: Whether to evaluate the validation images with the ReaL labels too.
        eval_roots: Folders of v2, a, r, sketch, objectnet; None leaves one out.
        cache_dir: Where indexes of tar files are kept; None: the user's cache folder.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        num_train: int,
        root: str | None = None,
        *,
        reader: str = "",
        train_split: str = "train",
        val_split: str = "validation",
        input_size: int = 224,
        num_workers: int = 8,
        num_holdout: int = 0,
        real_labels: bool = False,
        eval_roots: Mapping[str, str | None] | None = None,
        cache_dir: str | None = None,
    ) -> None:
        self.name = name
        self.num_classes = num_classes
        self.num_train = num_train - num_holdout
        self.input_size = input_size
        self._reader, self._root, self._cache_dir = reader, root, cache_dir
        self._train_split, self._val_split = train_split, val_split
        self._num_workers = num_workers
        self._num_holdout = num_holdout
        self._variants = {k: v for k, v in (eval_roots or {}).items() if v is not None}
        self._opened: dict[str, EvalImages | None] = {}
        self._check(real_labels, eval_roots or {})
        same_images = [f"{name}_val", f"{name}_real"] if real_labels else [f"{name}_val"]
        groups = [same_images, *([f"{name}_{key}"] for key in self._variants)]
        self.eval_groups = [["minival"]] if num_holdout else groups

    def _check(self, real_labels: bool, eval_roots: Mapping[str, str | None]) -> None:
        reader_kind(self._reader)
        for key in eval_roots:
            if key not in VARIANTS:
                near = difflib.get_close_matches(key, VARIANTS, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ConfigError(f"data.eval_roots.{key}: choose from {', '.join(VARIANTS)}{hint}")
        if self.num_classes != imagenet_variants.NUM_CLASSES and (real_labels or self._variants):
            raise ConfigError(
                f"data.num_classes={self.num_classes}: ReaL and the other ImageNet test sets need "
                "1000 classes; set data.real_labels=false and each of data.eval_roots to null"
            )
        if self._num_workers < 0 or self._num_holdout < 0 or self.num_train < 1:
            raise ConfigError(
                f"data.num_workers={self._num_workers}, data.num_holdout={self._num_holdout}: "
                "must be 0 or more, and fewer than data.num_train held out"
            )

    def train_batches(
        self, plan: BatchPlan, start: int, end: int, settings: ImageTaskConfig
    ) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """For each step from `start` to `end`: this process's micro-batches of uint8 images."""
        images, rows, _ = self._train
        transform = train_transform(self.input_size, settings)
        batches = ImageBatches(images, rows, images.labels[rows], transform, plan)
        per_step = len(plan.micro_numbers())
        workers = min(self._num_workers, (end - start) * per_step)
        loaded = load(batches, _train_requests(plan, start, end), workers)
        for _ in range(start, end):
            yield [next(loaded) for _ in range(per_step)]

    def eval_batches(
        self,
        group: Sequence[str],
        batch_size: int,
        rank: int,
        world_size: int,
        settings: ImageTaskConfig,
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Each example once over all processes, without padding; labels of each split."""
        opened = {split: self._open(split, rank) for split in group}
        splits = {split: shown for split, shown in opened.items() if shown is not None}
        if not splits:
            return
        shown = next(iter(splits.values()))  # the splits of a group have the same images
        transform = eval_transform(self.input_size, settings, shown.border)
        batches = ImageBatches(shown.images, shown.rows, shown.targets, transform)
        mine = np.arange(rank, len(shown.rows), world_size)
        chunks = [mine[first : first + batch_size] for first in range(0, len(mine), batch_size)]
        loaded = load(batches, [(0, c) for c in chunks], min(self._num_workers, len(chunks)))
        for chunk, (images, _) in zip(chunks, loaded, strict=True):
            yield images, {s: torch.from_numpy(e.targets[chunk]) for s, e in splits.items()}

    def example_batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Images and labels on the meta device; nothing is read."""
        shape = (size, 3, self.input_size, self.input_size)
        images = torch.empty(shape, dtype=torch.uint8, device="meta")
        return images, torch.empty(size, dtype=torch.int64, device="meta")

    def visible_classes(self, split: str) -> Tensor | None:
        """Classes that a split knows, int64; None: all."""
        key = split.removeprefix(f"{self.name}_")
        if key not in self._variants:
            return None
        known = imagenet_variants.known_classes(key)
        if known is None and (shown := self._open(split)) is not None:
            known = shown.visible
        return None if known is None else torch.from_numpy(known)

    @cached_property
    def _train(self) -> tuple[LabelledImages, np.ndarray, np.ndarray]:
        """Reader, rows to train on, rows held out."""
        images = self._read(self._train_split)
        total = self.num_train + self._num_holdout
        if len(images.labels) != total:
            raise ConfigError(
                f"data.num_train={total}, but {self._root or self._reader} holds "
                f"{len(images.labels)} training images: complete the copy, or set "
                f"data.num_train={len(images.labels)}"
            )
        order = np.random.RandomState(_HOLDOUT_SEED).permutation(total)
        return images, np.sort(order[self._num_holdout :]), np.sort(order[: self._num_holdout])

    def _open(self, split: str, rank: int = 0) -> EvalImages | None:
        """Opens a split at its first use; None, with a notice, where it cannot be evaluated."""
        if split not in self._opened:
            self._opened[split] = self._open_anew(split)
            if self._opened[split] is None and rank == 0:
                warnings.warn(
                    f"{split} is left out: this copy of the validation images has lost their names "
                    "(ILSVRC2012_val_00000001), and their order cannot be trusted",
                    stacklevel=2,
                )
        return self._opened[split]

    def _open_anew(self, split: str) -> EvalImages | None:
        if split == "minival":
            images, _, held_out = self._train
            return EvalImages(images, held_out, images.labels[held_out])
        key = split.removeprefix(f"{self.name}_")
        if key in self._variants:
            return imagenet_variants.open_variant(key, str(self._variants[key]))
        images = self._validation
        if key == "real":
            return imagenet_variants.real_labels(images, self.num_classes)
        return EvalImages(images, np.arange(len(images.labels)), images.labels)

    @cached_property
    def _validation(self) -> LabelledImages:
        return self._read(self._val_split)

    def _read(self, split: str) -> LabelledImages:
        check_root(self._root, self._reader, [split], self.name)
        images = open_split(self._reader, self._root, split, self._cache_dir)
        check_classes(images, self.num_classes, f"{self._root or self._reader} ({split})")
        return images


def _train_requests(plan: BatchPlan, start: int, end: int) -> Iterator[Request]:
    for step in range(start, end):
        for numbers in plan.micro_batches(step):
            yield plan.epoch_of(step), numbers


def check_classes(images: LabelledImages, num_classes: int, where: str) -> None:
    """Checks that class numbers mean what the configuration and ImageNet's order say.

    Args:
        images: A split.
        num_classes: As configured.
        where: Names the split in messages.

    Raises:
        ConfigError: another number of classes, or folders that are not ImageNet's in its order.
    """
    names = images.class_names
    found = len(names) if names is not None else int(images.labels.max(initial=-1)) + 1
    if found != num_classes:
        raise ConfigError(
            f"data.num_classes={num_classes}, but {where} holds {found} classes: complete the "
            f"copy, or set data.num_classes={found}"
        )
    if names is None or num_classes != imagenet_variants.NUM_CLASSES:
        return
    if all(re.fullmatch(r"n\d{8}", name) for name in names):
        wrong = [n for n, s in zip(names, imagenet_variants.synsets(), strict=True) if n != s]
        if wrong:
            raise ConfigError(f"{where}: class folder '{wrong[0]}' is not one of ImageNet-1k's")
