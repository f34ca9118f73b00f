"""The splits of a data set in files, their classes numbered alike."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from experiments.config import ConfigError
from experiments.data.hugging_face import row_in_both
from experiments.data.image_classes import number_like_training, number_training_classes, synsets
from experiments.data.image_folders import remarks_on
from experiments.data.image_names import left_out_in_words
from experiments.data.image_orientation import turned
from experiments.data.image_paths import (
    check_root,
    hfds_path,
    place_in_both,
    places_of,
    reader_kind,
)
from experiments.data.image_readers import LabelledImages, open_split
from experiments.data.image_twins import are_few, copies, empty, repeated, twins
from experiments.data.locate import DataMissing

_SEEN = "what is measured there is not of unseen images alone"


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
    test_split: str | None = None
    notices: list[str] = field(default_factory=list)  # what the user should know, not said yet
    _repeated: list[list[int]] = field(default_factory=list)  # rows of one training image each

    @cached_property
    def training(self) -> LabelledImages:
        """Its numbering of classes is that of all splits."""
        images, where = self._read(self.train_split), self.where(self.train_split)
        number_training_classes(images, self.num_classes, where)
        self._note_lacking(images, where)
        self._note_contradictions(images, where)
        for split, held_out in (("validation", self.val_split), ("test", self.test_split)):
            if split in self.__dict__:  # read first, as ImageNet's
                self._number_like_training(self.__dict__[split], images.class_names, str(held_out))
        return images

    @cached_property
    def validation(self) -> LabelledImages:
        return self._held_out(self.val_split)

    @cached_property
    def test(self) -> LabelledImages:
        return self._held_out(str(self.test_split))

    def _held_out(self, split: str) -> LabelledImages:
        """ImageNet's classes have one order, so there the training split may stay unread."""
        images = self._read(split)
        is_imagenet = set(images.class_names or ()) == set(synsets())
        may_wait = is_imagenet and self.num_classes == len(synsets())
        may_wait = may_wait and "training" not in self.__dict__
        names = synsets() if may_wait else self.training.class_names
        self._number_like_training(images, names, split)
        self._note_lacking(images, self.where(split))
        return images

    def check_apart(self, validates: bool = True) -> None:
        """Refuses to measure on what is trained on, or to report what is tuned on.

        Args:
            validates: Whether the validation split is measured at all.

        Raises:
            ConfigError: names what is in two splits.
        """
        aside = ", or set training images aside by data.num_holdout"
        if validates:
            self._check_apart("val_split", self.val_split, self.train_split, "trained", aside)
        if self.test_split is not None:
            self._check_apart("test_split", self.test_split, self.train_split, "trained")
            if validates:
                self._check_apart("test_split", self.test_split, self.val_split, "validated")

    def _check_apart(self, key: str, split: str, other: str, done: str, aside: str = "") -> None:
        places: list[set[str]] = []
        with suppress(DataMissing):  # said where it is asked for
            places = [places_of(self.reader, self.root, one) for one in (split, other)]
        both, slices = place_in_both(*places) if places else "", (other, split)
        if reader_kind(self.reader) == "hfds" and not both and set("[+") & set("".join(slices)):
            source = hfds_path(self.reader, self.root) or ""
            both = row_in_both(source, slices, self.cache_dir)
        if both:
            raise ConfigError(
                f"data.{key}={split}: {both} is {done} on, too: name another split{aside}"
            )

    def note_twins(self, images: LabelledImages, split: str) -> None:
        """Notices images of a split that are in another one, where that is open.

        Not where both are named alike: a set that is only evaluated has nothing to train on.
        """
        for name, other_split in (("training", self.train_split), ("validation", self.val_split)):
            other = self.__dict__.get(name)
            if other is None or other is images or other_split == split:
                continue
            if are_few(other, images):
                self._note_copies(other, images, split, other_split)
                continue
            same, looked_at = twins(other, images)
            if same:
                self.notices.append(
                    f"{self.where(split)}: {len(same)} of {looked_at} images that have class and "
                    f"file name of one in {other_split} are that image, the first is {same[0]}: "
                    f"{_SEEN}"
                )

    def _note_copies(
        self, other: LabelledImages, images: LabelledImages, split: str, other_split: str
    ) -> None:
        pairs = copies(other, images)
        if not pairs:
            return
        there, here = pairs[0]
        crossed = sum(other.labels[a] != images.labels[b] for a, b in pairs)
        under = f", {crossed} of them under another class" if crossed else ""
        self.notices.append(
            f"{self.where(split)}: {len(pairs)} of {len(images.labels)} images are in {other_split}"
            f", too{under}, the first is {images.name(here)} (there {other.name(there)}): {_SEEN}"
        )

    def _number_like_training(
        self, images: LabelledImages, names: list[str] | None, split: str
    ) -> None:
        number_like_training(images, names, self.num_classes, self.where(split))

    def note_held_out(self, rows: np.ndarray) -> None:
        """Notices classes of which all images are set aside, and copies that are not.

        Args:
            rows: Of the training split that are left to train on.
        """
        images, left = self.training, set(rows.tolist())
        groups = [[row for row in same if row not in left] for same in self._repeated]
        pairs = zip(groups, self._repeated, strict=True)
        if seen := [row for aside, same in pairs if len(aside) < len(same) for row in aside]:
            self.notices.append(
                f"data.num_holdout: {len(seen)} of {len(images.labels) - len(rows)} images that "
                f"are set aside are trained on, too, byte for byte, the first is "
                f"{images.name(seen[0])}: {_SEEN}"
            )
        gone = np.setdiff1d(images.labels, images.labels[rows])
        if len(gone):
            name = images.class_names[gone[0]] if images.class_names else str(gone[0])
            self.notices.append(
                f"data.num_holdout sets aside every image of {len(gone)} of {self.num_classes} "
                f"classes, the first is '{name}': nothing of them is trained on"
            )

    def _note_contradictions(self, images: LabelledImages, where: str) -> None:
        """Notices training images under two classes; in a large set they are not looked for."""
        labels = images.labels
        self._repeated = repeated(images) if are_few(images, images) else []
        pairs = [
            (same[0], row)
            for same in self._repeated
            for row in same[1:]
            if labels[row] != labels[same[0]]
        ]
        if pairs:
            first, second = map(images.name, pairs[0])
            self.notices.append(
                f"{where}: {len(pairs)} of {len(labels)} images are there under another "
                f"class, too, byte for byte, the first is "
                f"{second} (also {first}): keep each under one class"
            )

    def _note_turned(self, images: LabelledImages, where: str) -> None:
        found, looked_at = turned(images)
        if found:
            self.notices.append(
                f"{where}: {len(found)} of {looked_at} images that were looked at are to be shown "
                f"turned or mirrored by their EXIF orientation, which is not applied, the first is "
                f"{found[0]}: where it matters, store them upright"
            )

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
        self._check_whole(images, self.where(split))
        self.note_left_out(images.left_out, self.where(split))
        self.notices += [f"{self.where(split)}: {remark}" for remark in remarks_on(images)]
        self._note_turned(images, self.where(split))
        return images

    def _check_whole(self, images: LabelledImages, where: str) -> None:
        """Refuses empty files, as a full disk leaves them: else an epoch would stop at one."""
        if reader_kind(self.reader) == "hfds":  # whose sizes are known by reading them
            return
        if rows := empty(images):
            raise ConfigError(
                f"{where}: {len(rows)} of {len(images.labels)} images are empty files, the first "
                f"is {images.name(rows[0])}: restore or remove them"
            )

    def note_left_out(self, left_out: Mapping[str, int], where: str) -> None:
        """Notes files that are no images."""
        if left_out:
            self.notices.append(f"{where}: {left_out_in_words(left_out)}")
