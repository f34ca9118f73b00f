"""The training and the validation split of a data set in files, their classes numbered alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from experiments.data.image_classes import number_like_training, number_training_classes, synsets
from experiments.data.image_names import left_out_in_words
from experiments.data.image_paths import check_root
from experiments.data.image_readers import LabelledImages, open_split


@dataclass
class ImageSplits:
    """Reads a split at its first use, and checks it.

    Raises:
        DataMissing: nothing there for a split.
        ConfigError: something there that cannot be read, or classes that are not the others.
    """

    name: str  # of the data
    num_classes: int  # as configured
    root: str | None
    reader: str
    train_split: str
    val_split: str
    cache_dir: str | None
    notices: list[str] = field(default_factory=list)  # what the user should know, not said yet

    @cached_property
    def training(self) -> LabelledImages:
        """Its numbering of classes is that of all splits."""
        images, where = self._read(self.train_split), self.where(self.train_split)
        number_training_classes(images, self.num_classes, where)
        if names := images.class_names:
            self._note_lacking(np.setdiff1d(np.arange(len(names)), images.labels).tolist(), names)
        if "validation" in self.__dict__:  # read first, as ImageNet's
            self._number_like(self.validation, images.class_names)
        return images

    @cached_property
    def validation(self) -> LabelledImages:
        """ImageNet's classes have one order, so there the training split may stay unread."""
        images = self._read(self.val_split)
        is_imagenet = set(images.class_names or ()) == set(synsets())
        may_wait = is_imagenet and "training" not in self.__dict__
        self._number_like(images, synsets() if may_wait else self.training.class_names)
        return images

    def _number_like(self, images: LabelledImages, names: list[str] | None) -> None:
        where = self.where(self.val_split)
        if lacking := number_like_training(images, names, self.num_classes, where):
            self.notices.append(
                f"{where} has no image of {len(lacking)} of {self.num_classes} classes, the first "
                f"is '{lacking[0]}'"
            )

    def _note_lacking(self, lacking: Sequence[int], names: Sequence[str]) -> None:
        if lacking:
            self.notices.append(
                f"{self.where(self.train_split)} has no image of {len(lacking)} of "
                f"{self.num_classes} classes, the first is '{names[lacking[0]]}'"
            )

    def where(self, split: str) -> str:
        """For messages."""
        return f"{self.root or self.reader} ({split})"

    def _read(self, split: str) -> LabelledImages:
        check_root(self.root, self.reader, [split], self.name)
        images = open_split(self.reader, self.root, split, self.cache_dir)
        self.note_left_out(images.left_out, self.where(split))
        return images

    def note_left_out(self, left_out: Mapping[str, int], where: str) -> None:
        """Notes files that are no images."""
        if left_out:
            self.notices.append(f"{where}: {left_out_in_words(left_out)}")
