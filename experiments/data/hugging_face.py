"""Images of a Hugging Face data set."""

from __future__ import annotations

import io
import os
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.config import ConfigError, UserError
from experiments.data.image_names import synonyms
from experiments.data.locate import DataMissing


class HuggingFaceImages:
    """A Hugging Face data set: of `save_to_disk`, a folder of parquet files, or from the hub.

    Raises:
        DataMissing: nothing there for this split.
        ConfigError: something there that cannot be read as labelled images.
    """

    left_out: Counter[str] = Counter()

    def __init__(self, source: str, split: str, cache_dir: str | None) -> None:
        self._source = f"{source} ({split})"
        try:
            self._read(_load(source, split, cache_dir))
        except UserError:
            raise
        except Exception as error:  # a damaged copy raises any error of datasets, arrow or json
            text = " ".join(str(error).split())
            raise DataMissing(
                f"cannot read the split '{split}' of {source} ({text}): get it again"
            ) from error

    def _read(self, data: Any) -> None:
        import datasets

        if not len(data):
            raise ConfigError(f"{self._source} holds no images: name another split")
        data.data.validate(full=True)  # reading by damaged offsets would kill the process
        self._key = _column(data, "image", ("image", "jpg", "png", "webp"), datasets.Image)
        label = _column(data, "label", ("label", "cls"), datasets.ClassLabel)
        names = getattr(data.features[label], "names", None)
        self.class_names = None if names is None else [str(name) for name in names]
        labels = np.asarray(data.select_columns([label]).with_format("numpy")[:][label])
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ConfigError(
                f"{self._source}: the column '{label}' does not hold one class number per image: "
                "cast it with cast_column('label', ClassLabel(names=...))"
            )
        self.labels = labels.astype(np.int64)
        self._data = data.cast_column(self._key, datasets.Image(decode=False))

    def open(self, index: int) -> Image.Image:
        image = self._row(index)
        if image is None or not (image["bytes"] or image["path"]):
            raise OSError("the row has no image")
        return Image.open(io.BytesIO(image["bytes"]) if image["bytes"] else image["path"])

    def name(self, index: int) -> str:
        return f"{self._source}: row {index} {self.file_name(index)}".rstrip()

    def file_name(self, index: int) -> str:
        return os.path.basename(self._paths[index] or "")

    def num_bytes(self, index: int) -> int:
        image = self._row(index) or {}
        return len(image.get("bytes") or b"")

    def _row(self, index: int) -> dict[str, Any] | None:
        try:
            return self._data[index][self._key]
        except Exception as error:  # arrow believes damaged lengths: even SystemError comes
            raise OSError(" ".join(str(error).split())) from error

    @cached_property
    def _paths(self) -> list[str | None]:
        """Read from the arrow table, which leaves the images themselves on disk."""
        table = self._data.select_columns([self._key]).with_format("arrow")[:]
        return [
            path for chunk in table[self._key].chunks for path in chunk.field("path").to_pylist()
        ]


def _load(source: str, split: str, cache_dir: str | None) -> Any:
    import datasets

    folder = Path(source)
    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return datasets.load_dataset(source, split=split, cache_dir=cache_dir)
    data = datasets.load_from_disk(source)
    if not isinstance(data, datasets.DatasetDict):
        raise ConfigError(f"{source} is a single split: save a DatasetDict of train and validation")
    found = [name for name in synonyms(split) if name in data]
    if not found:
        raise DataMissing(
            f"{source} has no split '{split}', only {', '.join(map(str, data))}: set "
            "data.train_split and data.val_split"
        )
    return data[found[0]]


def row_in_both(source: str, splits: tuple[str, str], cache_dir: str | None) -> str:
    """The first row that two slices share, as `train[:80%]` and `train[75%:]`; "" if none.

    Raises:
        ConfigError: one that datasets does not understand.
    """
    import datasets

    infos = datasets.load_dataset(source, split=splits[0], cache_dir=cache_dir).info.splits or {}
    sizes = {name: info.num_examples for name, info in infos.items()}
    try:
        slices = [datasets.ReadInstruction.from_spec(split).to_absolute(sizes) for split in splits]
    except ValueError as error:
        raise ConfigError(f"{source} has no split as {' or '.join(splits)}: {error}") from error
    for one in slices[0]:
        for other in slices[1]:
            first = max(one.from_, other.from_)
            if one.splitname == other.splitname and first < min(one.to, other.to):
                return f"{one.splitname}[{first}]"
    return ""


def _column(data: Any, what: str, names: tuple[str, ...], feature: type) -> str:
    """The column of a usual name, or else the only one of a type."""
    usual = [name for name in names if name in data.features]
    typed = [name for name, kind in data.features.items() if isinstance(kind, feature)]
    if not usual and len(typed) != 1:
        raise ConfigError(f"no {what} column among {', '.join(data.features)}: call it '{what}'")
    return usual[0] if usual else typed[0]
