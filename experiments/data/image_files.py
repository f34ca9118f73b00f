"""Image data at the scale of ImageNet, read from files by background processes.

The batches of a step, and the augmentation of each image in them, are a function of the seed and
the step alone: not of the number of loading processes, of the ranks, or of where a run resumed.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from experiments.config import ConfigError
from experiments.data import imagenet_variants
from experiments.data import more_labels as more_labels_file
from experiments.data.fingerprint import of_images
from experiments.data.image_classes import require_imagenet
from experiments.data.image_loading import ImageBatches, Request, load
from experiments.data.image_paths import RULES, VARIANTS, reader_kind
from experiments.data.image_readers import LabelledImages
from experiments.data.image_splits import ImageSplits
from experiments.data.image_transforms import eval_transform, train_transform
from experiments.data.imagenet_variants import EvalImages
from experiments.data.loading_processes import num_loading
from experiments.data.locate import check_values, expanded
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig

_HOLDOUT_SEED = 0  # the same images are held out in every run


class ImageFiles:
    """A training split, a validation split, and further test sets, all read lazily.

    Class numbers are those of the training split everywhere; ImageNet's are ImageNet's.

    Args:
        name: For the ledger's `data` column, and first part of the splits' names.
        num_classes: Classes of the data; checked when it is first read.
        num_train: Training images on disk; checked when they are first read.
        root: Folder of the data; None: has to be given before anything is read.
        reader: '' (class folders or tars), wds (WebDataset shards), hfds (a Hugging Face data
            set on disk), hfds/ORG/NAME (in the Hugging Face cache), torch/NAME (torchvision).
        train_split: Folder, split or pattern of shards to train on.
        val_split: Folder, split or pattern of shards to validate on.
        test_split: The same to report, as the split `test`: measured once, at the end, beside the
            one that is tuned on. None: none.
        input_size: Side of the images that the model sees, in pixels.
        num_workers: Loading processes per training process; 0: load in the process itself; None: by
            the cores, see `num_loading`.
        num_holdout: Training images set aside as the split `minival`, evaluated in place of the
            validation images, so that tuning never looks at these.
        real_labels: Whether to evaluate the validation images with the ReaL labels too.
        eval_roots: Folders of v2, a, r, sketch, objectnet; None leaves one out.
        cache_dir: Where indexes of tar files are kept; None: the user's cache folder.
        decoder: What decodes and resizes: pil | tensor; see `experiments.data.decoders`.
        more_labels: Text file with further labels of training images; see
            `experiments.data.more_labels`. None: each image has one.
        more_labels_sha256: Of that file.
    """

    honours: ClassVar[frozenset[str]] = frozenset(
        {
            *("randaug_layers", "randaug_magnitude", "crop_scale_min", "horizontal_flip"),
            "train_crop",
            *("eval_crop_fraction", "interpolation", "mean", "std"),
        }
    )
    """Settings of the task that change what this source gives."""

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
        test_split: str | None = None,
        input_size: int = 224,
        num_workers: int | None = None,
        num_holdout: int = 0,
        real_labels: bool = False,
        eval_roots: Mapping[str, str | None] | None = None,
        cache_dir: str | None = None,
        decoder: str = "pil",
        more_labels: str | None = None,
        more_labels_sha256: str | None = None,
    ) -> None:
        given = {key: value for key, value in locals().items() if key in RULES}
        check_values(given, RULES)
        self.name = name
        self.num_classes = num_classes
        self.num_train = num_train - num_holdout
        self.input_size = input_size
        where = expanded(root), reader, train_split, val_split, expanded(cache_dir), test_split
        self._splits = ImageSplits(name, num_classes, *where)
        self._num_workers, self._decoder = num_workers, decoder
        more_labels_file.check_file(more_labels, more_labels_sha256)
        self._more_labels = expanded(more_labels)
        self._num_holdout = num_holdout
        self._variants = {k: v for k, v in (eval_roots or {}).items() if v is not None}
        self._opened: dict[str, EvalImages | None] = {}
        self._check(real_labels, eval_roots or {})
        same_images = [f"{name}_val", f"{name}_real"] if real_labels else [f"{name}_val"]
        groups = [same_images, *([f"{name}_{key}"] for key in self._variants)]
        self.eval_groups = [["minival"]] if num_holdout else groups
        self.last_groups = [] if test_split is None else [["test"]]

    def _check(self, real_labels: bool, eval_roots: Mapping[str, str | None]) -> None:
        reader_kind(self._splits.reader)
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
        if self.num_train < 1:
            total = self.num_train + self._num_holdout
            raise ConfigError(
                f"data.num_holdout={self._num_holdout}: must be less than data.num_train={total}"
            )

    def train_batches(
        self, plan: BatchPlan, start: int, end: int, settings: ImageTaskConfig
    ) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """For each step from `start` to `end`: this process's micro-batches of uint8 images."""
        images, rows, _ = self._train
        self._say(plan.rank)
        transform = train_transform(self.input_size, settings)
        batches = ImageBatches(
            images, rows, self._train_labels[rows], transform, plan, self._decoder
        )
        per_step = len(plan.micro_numbers())
        workers = num_loading(self._num_workers, (end - start) * per_step)
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
        opened = {split: self._open(split) for split in group}
        self._say(rank)
        splits = {split: shown for split, shown in opened.items() if shown is not None}
        if not splits:
            return
        shown = next(iter(splits.values()))  # the splits of a group have the same images
        transform = eval_transform(self.input_size, settings, shown.border)
        batches = ImageBatches(
            shown.images, shown.rows, shown.targets, transform, decoder=self._decoder
        )
        mine = np.arange(rank, len(shown.rows), world_size)
        chunks = [mine[first : first + batch_size] for first in range(0, len(mine), batch_size)]
        loaded = load(
            batches, [(0, c) for c in chunks], num_loading(self._num_workers, len(chunks))
        )
        for chunk, (images, _) in zip(chunks, loaded, strict=True):
            yield images, {s: torch.from_numpy(e.targets[chunk]) for s, e in splits.items()}

    def example_batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Images and labels on the meta device; nothing is read."""
        pixels = (size, 3, self.input_size, self.input_size)
        labels = (size,) if self._more_labels is None else (size, 2)  # two or more
        images = torch.empty(pixels, dtype=torch.uint8, device="meta")
        return images, torch.empty(labels, dtype=torch.int64, device="meta")

    def visible_classes(self, split: str) -> Tensor | None:
        """Classes that a split knows, int64; None: all."""
        key = split.removeprefix(f"{self.name}_")
        if key not in self._variants:
            return None
        known = imagenet_variants.known_classes(key)
        if known is None and (shown := self._open(split)) is not None:
            known = shown.visible
        return None if known is None else torch.from_numpy(known)

    @property
    def class_names(self) -> list[str] | None:
        """By class number; None where the data has numbers only."""
        splits = self._splits
        return (splits.training if self._num_holdout else splits.validation).class_names

    @cached_property
    def fingerprint(self) -> str:
        """Which images these are: a hash of names, sizes, labels and classes of each split.

        The same wherever the data lies. Reads the indexes of all splits, and no image; of more
        than 10,000 images that many evenly spread sizes are taken.
        """
        train, rows, held_out = self._train
        splits = {"train": (train, rows)}
        if not self._num_holdout:
            firsts = [group[0] for group in self.eval_groups]
            opened = {split: self._open(split) for split in firsts}
            splits |= {split: (e.images, e.rows) for split, e in opened.items() if e is not None}
        else:
            splits["minival"] = train, held_out
        if self.last_groups:
            splits["test"] = self._splits.test, np.arange(len(self._splits.test.labels))
        return of_images(splits)

    @cached_property
    def _train(self) -> tuple[LabelledImages, np.ndarray, np.ndarray]:
        """Reader, rows to train on, rows held out."""
        images, where = self._splits.training, self._splits.root or self._splits.reader
        total = self.num_train + self._num_holdout
        if len(images.labels) != total:
            raise ConfigError(
                f"data.num_train={total}, but {where} holds "
                f"{len(images.labels)} training images: complete the copy, or set "
                f"data.num_train={len(images.labels)}"
            )
        self._splits.check_apart(validates=not self._num_holdout)
        if not self._num_holdout:
            return images, np.arange(total), np.arange(0)
        order = np.random.RandomState(_HOLDOUT_SEED).permutation(total)
        left, held_out = np.sort(order[self._num_holdout :]), np.sort(order[: self._num_holdout])
        self._splits.note_held_out(left)
        return images, left, held_out

    @cached_property
    def _train_labels(self) -> np.ndarray:
        """(N,) int64; (N, K), filled up with -1, where further labels are given."""
        images, _, _ = self._train
        if self._more_labels is None:
            return images.labels
        labels, num_unknown = more_labels_file.read(self._more_labels, images, self.num_classes)
        if num_unknown:
            self._splits.notices.append(
                f"{self._more_labels}: {num_unknown} lines are of no training image"
            )
        return labels

    def _open(self, split: str) -> EvalImages | None:
        """Opens a split at its first use; None, with a notice, where it cannot be evaluated."""
        if split not in self._opened:
            self._opened[split] = self._open_anew(split)
            if self._opened[split] is None:
                self._splits.notices.append(
                    f"{split} is left out: this copy of the validation images has lost their names "
                    "(ILSVRC2012_val_00000001), and their order cannot be trusted"
                )
        return self._opened[split]

    def _open_anew(self, split: str) -> EvalImages | None:
        if split == "train":
            images, rows, _ = self._train
            return EvalImages(images, rows, self._train_labels[rows])
        if split == "minival":
            images, _, held_out = self._train
            return EvalImages(images, held_out, self._train_labels[held_out])
        if split == "test":
            return self._whole(self._splits.test, str(self._splits.test_split))
        key = split.removeprefix(f"{self.name}_")
        images, where = self._splits.validation, self._splits.where(self._splits.val_split)
        if key in self._variants:
            require_imagenet(images, f"data.eval_roots.{key}", where)
            shown = imagenet_variants.open_variant(key, str(expanded(self._variants[key])))
            self._splits.note_left_out(shown.images.left_out, str(self._variants[key]))
            return shown
        if key == "real":
            require_imagenet(images, "data.real_labels=true", where)
            return imagenet_variants.real_labels(images, self.num_classes)
        return self._whole(images, self._splits.val_split)

    def _whole(self, images: LabelledImages, split: str) -> EvalImages:
        self._splits.note_twins(images, split)
        return EvalImages(images, np.arange(len(images.labels)), images.labels)

    def _say(self, rank: int) -> None:
        """Says what was noticed while opening, once, in the first process."""
        notices, self._splits.notices = self._splits.notices, []
        for notice in notices if rank == 0 else ():
            warnings.warn(notice, stacklevel=3)


def _train_requests(plan: BatchPlan, start: int, end: int) -> Iterator[Request]:
    for step in range(start, end):
        for numbers in plan.micro_batches(step):
            yield plan.epoch_of(step), numbers
