"""Images and labels of a split by number: which reader opens what, and torchvision's data sets.

Every reader knows its labels without opening an image, and keeps its names in one array, so that
loading processes share the memory.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from experiments.config import ConfigError
from experiments.data.hugging_face import HuggingFaceImages
from experiments.data.image_archives import open_class_tars, open_shards
from experiments.data.image_folders import FolderImages
from experiments.data.image_names import compressed_tars, is_hidden, is_image, synonyms
from experiments.data.image_paths import class_tars_in, find_split, hfds_path, reader_kind
from experiments.data.locate import DataMissing
from experiments.data.shard_paths import find_shards


class LabelledImages(Protocol):
    """What every reader gives."""

    labels: np.ndarray  # (N,) int64
    class_names: list[str] | None  # by class number; None where the data has numbers only
    left_out: Counter[str]  # files that are no images, by suffix

    def open(self, index: int) -> Image.Image:
        """The image, perhaps not decoded yet."""
        ...

    def name(self, index: int) -> str:
        """Where the image lies, for messages."""
        ...

    def file_name(self, index: int) -> str:
        """The image's original file name, or what is left of it."""
        ...

    def num_bytes(self, index: int) -> int:
        """Size of the encoded image; -1 where it is not known."""
        ...


def open_split(
    reader: str, root: str | None, split: str, cache_dir: str | None = None
) -> LabelledImages:
    """Opens a split with the reader that a `reader` setting names.

    Args:
        reader: '' (class folders or tars), wds, hfds, hfds//abs/path, hfds/org/name, torch/NAME.
        root: Folder of the data; what `image_paths.check_root` accepts.
        split: Name of the split; common synonyms (val, validation) are tried.
        cache_dir: Where an index of tar files, or converted Hugging Face data, is kept.

    Raises:
        DataMissing: nothing there for this split.
        ConfigError: something there that cannot be read as labelled images.
    """
    kind = reader_kind(reader)
    if kind == "hfds":
        return HuggingFaceImages(hfds_path(reader, root) or "", split, cache_dir)
    if root is None:
        raise DataMissing("data.root is not set")
    if kind == "torch":
        return TorchvisionImages(reader, root, split)
    if kind == "wds":
        return open_shards(find_shards(root, split), cache_dir)
    place = find_split(root, split)
    tars = class_tars_in(place)
    if not tars:
        return FolderImages(place)
    if place.is_dir():
        _refuse_beside(place)
    return open_class_tars(tars, cache_dir)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise DataMissing(f"cannot list {folder} ({error.strerror}): mend its rights") from error


def _refuse_beside(place: Path) -> None:
    """Images that lie neither in a tar nor, as class folders, beside the tar that they are from.

    Raises:
        ConfigError: names the first such tar or folder.
    """
    entries = {path.name: path for path in place.glob("*") if not is_hidden(path.name)}
    for name in compressed_tars(entries):
        raise ConfigError(f"{place / name} is compressed, so it would be left out: decompress it")
    for name, path in sorted(entries.items()):
        if path.is_dir() and f"{name}.tar" not in entries and any(map(is_image, _names(path))):
            raise ConfigError(
                f"{place} holds tars, and images in {name} beside them, which would be left out: "
                "give each kind a folder of its own"
            )


_TORCH_SPLITS = (*synonyms("train"), *synonyms("validation"), "test")


class TorchvisionImages:
    """A torchvision data set, opened by timm (`torch/imagenet`, `torch/cifar10`)."""

    left_out: Counter[str] = Counter()

    def __init__(self, reader: str, root: str, split: str) -> None:
        from timm.data.dataset_factory import create_dataset

        if split not in _TORCH_SPLITS:  # timm would take the test images for it
            raise ConfigError(f"the split '{split}': choose one of {', '.join(_TORCH_SPLITS)}")
        try:
            self._data: Any = create_dataset(reader, root=root, split=split, download=False)
        except Exception as error:  # a damaged copy raises any error of torchvision or pickle
            text = " ".join(str(error).split())
            raise DataMissing(
                f"data.reader={reader} at data.root={root}: {text}; get it again there, or choose "
                "another data.reader"
            ) from error
        if not hasattr(self._data, "targets"):
            raise ConfigError(f"data.reader={reader} has no list of labels: use class folders")
        samples: list[tuple[str, int]] = getattr(self._data, "samples", [])
        self._samples = [s for s in samples if not is_hidden(os.path.basename(s[0]))]
        targets = [target for _, target in self._samples] if samples else self._data.targets
        self.labels = np.asarray(targets, dtype=np.int64)
        names = getattr(self._data, "wnids", None) or getattr(self._data, "classes", None)
        self.class_names = None if names is None else [str(name) for name in names]
        self._source = f"{reader} ({split})"

    def open(self, index: int) -> Image.Image:
        return Image.open(self._samples[index][0]) if self._samples else self._data[index][0]

    def name(self, index: int) -> str:
        return f"{self._source}: image {index} {self.file_name(index)}".rstrip()

    def file_name(self, index: int) -> str:
        return os.path.basename(self._samples[index][0]) if self._samples else ""

    def num_bytes(self, index: int) -> int:
        try:
            return os.stat(self._samples[index][0]).st_size if self._samples else -1
        except OSError:
            return -1
