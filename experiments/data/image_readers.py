"""Images and labels of a split by number, from class folders, Hugging Face sets or torchvision.

Every reader knows its labels without opening an image, and keeps its names in one array, so that
loading processes share the memory. Tar files are read by `image_archives`.
"""

from __future__ import annotations

import io
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from experiments.config import ConfigError
from experiments.data.image_archives import (
    IMAGE_SUFFIXES,
    open_class_tars,
    open_shards,
)
from experiments.data.locate import (
    DataMissing,
    find_shards,
    find_split,
    hfds_path,
    reader_kind,
    synonyms,
)


class LabelledImages(Protocol):
    """What every reader gives."""

    labels: np.ndarray  # (N,) int64

    @property
    def class_names(self) -> list[str] | None:
        """By class number; None where the data has numbers only."""
        ...

    def open(self, index: int) -> Image.Image:
        """The image, perhaps not decoded yet."""
        ...

    def name(self, index: int) -> str:
        """Where the image lies, for messages."""
        ...

    def file_name(self, index: int) -> str:
        """The image's original file name, or what is left of it."""
        ...


def open_split(
    reader: str, root: str | None, split: str, cache_dir: str | None = None
) -> LabelledImages:
    """Opens a split with the reader that a `reader` setting names.

    Args:
        reader: '' (class folders or tars), wds, hfds, hfds//abs/path, hfds/org/name, torch/NAME.
        root: Folder of the data; what `locate.check_root` accepts.
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
    if place.is_file():
        return open_class_tars([place], cache_dir)
    tars = sorted(place.glob("*.tar"))
    return open_class_tars(tars, cache_dir) if tars else FolderImages(place)


class FolderImages:
    """Class folders, at any depth; the innermost folder's name is the class."""

    def __init__(self, folder: Path | str) -> None:
        from timm.data.readers.reader_image_folder import find_images_and_targets

        suffixes = [f".{suffix}" for suffix in IMAGE_SUFFIXES]
        found, numbers = find_images_and_targets(str(folder), types=suffixes)
        self.labels = np.array([number for _, number in found], dtype=np.int64)
        self.class_names = list(numbers)
        self._root = str(folder)
        paths = [os.fsencode(os.path.relpath(path, folder)) for path, _ in found]
        self._paths = np.array(paths, dtype=bytes)
        if not found or "" in numbers:
            raise ConfigError(f"{folder} should hold one folder of images per class")
        folders = {os.path.dirname(path) for path in paths}
        if len(folders) != len(numbers):
            raise ConfigError(
                f"{folder} holds {len(folders)} image folders of {len(numbers)} different names, "
                "perhaps several copies of the data: name the folder that holds one"
            )

    def open(self, index: int) -> Image.Image:
        return Image.open(self.name(index))

    def name(self, index: int) -> str:
        return os.path.join(self._root, os.fsdecode(self._paths[index]))

    def file_name(self, index: int) -> str:
        return os.path.basename(os.fsdecode(self._paths[index]))


class HuggingFaceImages:
    """A Hugging Face data set: of `save_to_disk`, a folder of parquet files, or from the hub."""

    def __init__(self, source: str, split: str, cache_dir: str | None) -> None:
        import datasets

        data = _load_hugging_face(source, split, cache_dir)
        self._key = _column(data, "image", ("image", "jpg", "png", "webp"), datasets.Image)
        label = _column(data, "label", ("label", "cls"), datasets.ClassLabel)
        self.class_names = getattr(data.features[label], "names", None)
        labels = data.select_columns([label]).with_format("numpy")[:][label]
        self.labels = np.asarray(labels, dtype=np.int64)
        self._data = data.cast_column(self._key, datasets.Image(decode=False))
        self._source = f"{source} ({split})"

    def open(self, index: int) -> Image.Image:
        image = self._data[index][self._key]
        return Image.open(io.BytesIO(image["bytes"]) if image["bytes"] else image["path"])

    def name(self, index: int) -> str:
        return f"{self._source}: row {index} {self.file_name(index)}".rstrip()

    def file_name(self, index: int) -> str:
        return os.path.basename(self._paths[index] or "")

    @cached_property
    def _paths(self) -> list[str | None]:
        """Read from the arrow table, which leaves the images themselves on disk."""
        table = self._data.select_columns([self._key]).with_format("arrow")[:]
        return [
            path for chunk in table[self._key].chunks for path in chunk.field("path").to_pylist()
        ]


def _load_hugging_face(source: str, split: str, cache_dir: str | None) -> Any:
    import datasets

    try:
        folder = Path(source)
        if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
            return datasets.load_dataset(source, split=split, cache_dir=cache_dir)
        data = datasets.load_from_disk(source)
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise DataMissing(f"cannot read the split '{split}' of {source}: {text}") from error
    if not isinstance(data, datasets.DatasetDict):
        raise ConfigError(f"{source} is a single split: save a DatasetDict of train and validation")
    found = [name for name in synonyms(split) if name in data]
    if not found:
        raise DataMissing(f"{source} has no split '{split}', only {', '.join(map(str, data))}")
    return data[found[0]]


def _column(data: Any, what: str, names: tuple[str, ...], feature: type) -> str:
    """The column of a usual name, or else the only one of a type."""
    usual = [name for name in names if name in data.features]
    typed = [name for name, kind in data.features.items() if isinstance(kind, feature)]
    if not usual and len(typed) != 1:
        raise ConfigError(f"no {what} column among {', '.join(data.features)}: call it '{what}'")
    return usual[0] if usual else typed[0]


class TorchvisionImages:
    """A torchvision data set, opened by timm (`torch/imagenet`, `torch/cifar10`)."""

    def __init__(self, reader: str, root: str, split: str) -> None:
        from timm.data.dataset_factory import create_dataset

        try:
            self._data: Any = create_dataset(reader, root=root, split=split, download=False)
        except (RuntimeError, OSError, AssertionError) as error:
            text = " ".join(str(error).split())
            raise DataMissing(f"data.reader={reader} at data.root={root}: {text}") from error
        if not hasattr(self._data, "targets"):
            raise ConfigError(f"data.reader={reader} has no list of labels: use class folders")
        self.labels = np.asarray(self._data.targets, dtype=np.int64)
        names = getattr(self._data, "wnids", None) or getattr(self._data, "classes", None)
        self.class_names = None if names is None else [str(name) for name in names]
        self._source = f"{reader} ({split})"

    def open(self, index: int) -> Image.Image:
        return self._data[index][0]

    def name(self, index: int) -> str:
        return f"{self._source}: image {index} {self.file_name(index)}".rstrip()

    def file_name(self, index: int) -> str:
        samples = getattr(self._data, "samples", None)
        return os.path.basename(samples[index][0]) if samples else ""
