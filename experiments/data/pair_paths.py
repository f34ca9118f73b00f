"""Checks `data` sections of image-text pairs. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.config import ConfigError
from experiments.data.locate import DataMissing, expanded
from experiments.data.shard_paths import find_shards
from experiments.data.text_paths import TOKENIZER, check_tokenizer
from experiments.ranges import NAME, PATH, Range, check_all, choice, count, optional

PAIRS: dict[str, Range] = {
    **TOKENIZER,
    "name": NAME,
    "num_train": count(1),
    "root": optional(PATH),
    "reader": choice("shards", "karpathy"),
    "annotations": optional(PATH),
    "train_split": PATH,
    "val_split": optional(PATH),
    "input_size": count(1, 100_000),
    "num_tokens": count(1, 100_000),
    "num_workers": optional(count(0, 1024)),
    "cache_dir": optional(PATH),
}
"""Settings of `ImageTextPairs`."""
KARPATHY: dict[str, Range] = {
    "name": NAME,
    "root": optional(PATH),
    "annotations": optional(PATH),
    "split": choice("train", "val", "test"),
    "input_size": count(1, 100_000),
    "num_workers": optional(count(0, 1024)),
}
"""Settings of `KarpathyCaptions`."""


def check_pairs(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for pairs in files.

    Raises:
        DataMissing: a folder, shards, annotations or a tokenizer that are not there.
        ConfigError: a value that cannot be.
    """
    check_all(section, PAIRS, "data")
    name, root = section.get("name", "the pairs"), expanded(section.get("root"))
    try:
        _check_folder(root)
        splits = [section.get("train_split", "train"), section.get("val_split")]
        if section.get("reader", "shards") == "karpathy":
            find_annotations(str(root), expanded(section.get("annotations")))
            check_splits(splits)
            found = [{str(split)} for split in splits]
        else:
            wanted = [find_shards(str(root), split) for split in filter(None, splits)]
            found = [{str(path.resolve()) for path in shards} for shards in wanted]
        if both := sorted(set.intersection(*found) if found[1:] else ()):
            raise ConfigError(
                f"data.val_split={splits[1]}: {both[0]} is trained on, too: name another split "
                "there, or leave it out of data.train_split"
            )
    except DataMissing as error:
        raise DataMissing(
            f"{error}; download {name} with img2dataset (output_format=webdataset), or take the "
            "images and dataset_*.json of COCO or Flickr30k with data.reader=karpathy, and set "
            f"data.root=/path/to/{name}; or try experiment={proxy}, which needs no download"
        ) from None
    check_tokenizer(section)


def check_karpathy(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a section of captioned images to search in.

    Raises:
        DataMissing: a folder or annotations that are not there.
        ConfigError: a value that cannot be.
    """
    check_all(section, KARPATHY, "data")
    root = expanded(section.get("root"))
    _check_folder(root)
    find_annotations(str(root), expanded(section.get("annotations")))


def check_splits(splits: list[Any]) -> None:
    """Refuses splits that Karpathy's files do not have.

    Raises:
        ConfigError: names those that there are.
    """
    for split in splits:
        if split not in (None, "train", "val", "test"):
            raise ConfigError(f"data: the split {split!r}: choose train, val or test")


def find_annotations(root: str, annotations: str | None) -> Path:
    """Karpathy's file.

    Raises:
        DataMissing: says where to get it.
    """
    found = [Path(annotations)] if annotations else sorted(Path(root).glob("dataset_*.json"))
    if len(found) == 1 and found[0].is_file():
        return found[0]
    problem = f"{annotations} is no file" if annotations else f"{root} has no dataset_*.json"
    if len(found) > 1:
        problem = f"{root} has {len(found)} files dataset_*.json: name one"
    raise DataMissing(
        f"{problem}; get Karpathy's splits (caption_datasets.zip, https://cs.stanford.edu/"
        "people/karpathy/deepimagesent) and set data.annotations=/path/to/it"
    )


def _check_folder(root: str | None) -> None:
    if not root:
        raise DataMissing("data.root is not set")
    if not Path(root).is_dir():
        raise DataMissing(f"data.root={root} is not a folder")
