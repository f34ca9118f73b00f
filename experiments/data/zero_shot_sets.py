"""CIFAR-100 and Oxford-IIIT Pet, as their authors pack them: test images with labels and names."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from torch import Tensor

from experiments.config import UserError
from experiments.data.image_loading import ImageBatches, load
from experiments.data.image_transforms import eval_transform
from experiments.data.karpathy import FileImages
from experiments.data.loading_processes import num_loading
from experiments.data.locate import expanded
from experiments.data.zero_shot_paths import NUM_CLASSES, RANGES, find_files
from experiments.ranges import check_all


class ZeroShotImages:
    """A test set that is only evaluated.

    Args:
        name: Of the split.
        kind: cifar100 (folder cifar-100-python) | oxford_pet (folders images and annotations).
        root: Folder of the data; null: the set is left out.
        input_size: Side of the images that the model sees, in pixels.
        num_workers: Loading processes; None: by the cores, see `num_loading`.
    """

    honours: ClassVar[frozenset[str]] = frozenset({"crop", "interpolation", "mean", "std"})

    def __init__(
        self,
        name: str,
        kind: str,
        root: str | None = None,
        *,
        input_size: int = 224,
        num_workers: int | None = None,
    ) -> None:
        check_all({k: v for k, v in locals().items() if k in RANGES}, RANGES, "data")
        self.name, self.kind, self.input_size = name, kind, input_size
        self._root, self._num_workers = expanded(root), num_workers
        self.num_classes = NUM_CLASSES[kind]
        self.eval_groups = [[name]]

    @cached_property
    def _images(self) -> Any:
        files = find_files(self.kind, self._root)
        return _Cifar100(*files) if self.kind == "cifar100" else _pets(*files)

    def check_files(self) -> None:
        """That every image is there, before anything is trained.

        Raises:
            UserError: names the first that is not.
        """
        if isinstance(self._images, FileImages):
            self._images.check_there(self.name)

    @property
    def class_names(self) -> list[str]:
        """In the order of the labels, in small letters."""
        return self._images.class_names

    def eval_batches(
        self, group: Sequence[str], batch_size: int, rank: int, world_size: int, settings: Any
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Each image once over all processes."""
        (split,) = group
        images = self._images
        rows = np.arange(len(images.labels))
        transform = eval_transform(self.input_size, settings)
        batches = ImageBatches(images, rows, images.labels, transform)
        mine = rows[rank::world_size]
        chunks = [mine[first : first + batch_size] for first in range(0, len(mine), batch_size)]
        for pixels, labels in load(
            batches, [(0, c) for c in chunks], num_loading(self._num_workers, len(chunks))
        ):
            yield pixels, {split: labels}

    def visible_classes(self, split: str) -> Tensor | None:
        """Every class is known."""
        return None


class _Cifar100:
    """The python version of CIFAR-100; see `image_readers.LabelledImages`."""

    left_out: Counter[str] = Counter()

    def __init__(self, test: Path, meta: Path) -> None:
        content, names = _plain(test), _plain(meta)
        try:
            self._pixels = np.asarray(content[b"data"], np.uint8).reshape(-1, 3, 32, 32)
            self.labels = np.asarray(content[b"fine_labels"], np.int64)
            listed = names[b"fine_label_names"]
            self.class_names = [n.decode() if isinstance(n, bytes) else str(n) for n in listed]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{test} is not CIFAR-100 ({error}): get it again") from error
        if len(self._pixels) != len(self.labels) or len(self.class_names) != 100:
            raise UserError(f"{test} is not complete: get it again")

    def open(self, index: int) -> Image.Image:
        return Image.fromarray(self._pixels[index].transpose(1, 2, 0))

    def name(self, index: int) -> str:
        return f"CIFAR-100, test image {index}"

    def file_name(self, index: int) -> str:
        return str(index)

    def num_bytes(self, index: int) -> int:
        return self._pixels[index].nbytes


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays, lists and bytes; whatever else a file would build is refused."""

    _KNOWN: ClassVar[dict[str, tuple[str, ...]]] = {
        "numpy": ("ndarray", "dtype"),
        "numpy.core.multiarray": ("_reconstruct",),
        "numpy._core.multiarray": ("_reconstruct",),
        "_codecs": ("encode",),
    }

    def find_class(self, module: str, name: str) -> Any:
        if name not in self._KNOWN.get(module, ()):
            raise pickle.UnpicklingError(f"it would call {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _plain(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _ArraysOnly(file, encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises any error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read {path} ({reason}): get it again") from error


def _pets(listing: Path, folder: Path) -> FileImages:
    """The test images: lines `Abyssinian_201 1 1 1`, the second number is the class, from 1."""
    rows = []
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {listing} ({error}): get it again") from error
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts or line.startswith("#"):
            continue
        if len(parts) != 4 or not parts[1].isdigit() or not 1 <= int(parts[1]) <= 37:
            raise UserError(f"{listing}, line {number}: must be a name and three numbers")
        rows.append((parts[0], int(parts[1]) - 1))
    named = {label: name.rpartition("_")[0].replace("_", " ").lower() for name, label in rows}
    if len(named) != NUM_CLASSES["oxford_pet"]:
        raise UserError(f"{listing} names {len(named)} of 37 breeds: get it again")
    names = [named[label] for label in sorted(named)]
    pets = FileImages(folder, [f"{name}.jpg" for name, _ in rows], names)
    pets.labels = np.array([label for _, label in rows], np.int64)
    return pets
