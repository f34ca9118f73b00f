"""The training and the validation split of a data set in files, their classes numbered alike."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from experiments.config import ConfigError
from experiments.data.hugging_face import row_in_both
from experiments.data.image_classes import number_like_training, number_training_classes, synsets
from experiments.data.image_names import left_out_in_words
from experiments.data.image_paths import check_root, hfds_path, places_of, reader_kind
from experiments.data.image_readers import LabelledImages, open_split
from experiments.data.locate import DataMissing


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
        self._note_lacking(images, where)
        if "validation" in self.__dict__:  # read first, as ImageNet's
            self._number_like_training(self.validation, images.class_names)
        return images

    @cached_property
    def validation(self) -> LabelledImages:
        """ImageNet's classes have one order, so there the training split may stay unread."""
        images = self._read(self.val_split)
        is_imagenet = set(images.class_names or ()) == set(synsets())
        may_wait = is_imagenet and "training" not in self.__dict__
        names = synsets() if may_wait else self.training.class_names
        self._number_like_training(images, names)
        self._note_lacking(images, self.where(self.val_split))
        return images

    def check_apart(self) -> None:
        """Refuses to validate on what is trained on.

        Raises:
            ConfigError: names what is in both splits.
        """
        train = places_of(self.reader, self.root, self.train_split)
        held_out: set[str] = set()
        with suppress(DataMissing):  # said where it is asked for
            held_out = places_of(self.reader, self.root, self.val_split)
        both = sorted(train & held_out)
        slices = self.train_split, self.val_split
        if reader_kind(self.reader) == "hfds" and not both and set("[+") & set("".join(slices)):
            source = hfds_path(self.reader, self.root) or ""
            both = list(filter(None, [row_in_both(source, slices, self.cache_dir)]))
        if both:
            raise ConfigError(
                f"data.val_split={self.val_split}: {both[0]} is trained on, too: name another "
                "split, or set training images aside by data.num_holdout"
            )

    def _number_like_training(self, images: LabelledImages, names: list[str] | None) -> None:
        number_like_training(images, names, self.num_classes, self.where(self.val_split))

    def _note_lacking(self, images: LabelledImages, where: str) -> None:
        lacking = np.setdiff1d(np.arange(self.num_classes), images.labels)
        if len(lacking):
            names = images.class_names or [str(number) for number in range(self.num_classes)]
            self.notices.append(
                f"{where} has no image of {len(lacking)} of {self.num_classes} classes, the first "
                f"is '{names[lacking[0]]}'"
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
