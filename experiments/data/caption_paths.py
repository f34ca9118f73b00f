"""Checks a `data` section of captioned images. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.config import ConfigError
from experiments.data.locate import DataMissing, Rule, check_values, exists, expanded
from experiments.data.shard_paths import find_shards

RULES = {
    "name": Rule(str),
    "num_train": Rule(int, 1),
    "root": Rule(str, optional=True),
    "encoder": Rule(str, optional=True),
    "input_size": Rule(int, 1),
    "num_tokens": Rule(int, 1),
    "embed_dim": Rule(int, 1),
    "encoder_sha256": Rule(str, may_be_empty=True),
    "cache_dir": Rule(str, optional=True),
}
"""Settings of `CaptionedImages`."""
SHARD_RULES = {
    **RULES,
    "train_split": Rule(str),
    "val_split": Rule(str),
    "val_root": Rule(str, optional=True),
    "num_workers": Rule(int, 0),
}
"""Settings of `CaptionedShards`."""


def check(section: Mapping[str, Any], proxy: str) -> None:
    """Checks values and paths.

    Args:
        section: Keyword arguments of `CaptionedImages`.
        proxy: Experiment page that runs without this data.

    Raises:
        DataMissing: the first path that is not there, and what to do.
        ConfigError: a value that cannot be.
    """
    check_values(section, RULES)
    for split in ("train", "val"):
        _check_there(section, "root", f"{split}/captions.jsonl", proxy)
    _check_there(section, "encoder", "config.json", proxy)


def check_shards(section: Mapping[str, Any], proxy: str) -> None:
    """Checks values and paths of `CaptionedShards`.

    Raises:
        DataMissing: the first folder or shard that is not there, and what to do.
        ConfigError: a value that cannot be.
    """
    check_values(section, SHARD_RULES)
    root = expanded(section.get("root"))
    places = {"root": ("train", root), "val_root": ("val", expanded(section.get("val_root")))}
    seen: set[Path] = set()
    for key, (split, place) in places.items():
        try:
            if not (place or root):
                raise DataMissing(f"data.{key} is not set")
            if not exists(str(place or root)):
                raise DataMissing(f"data.{key if place else 'root'}={place or root} does not exist")
            found = find_shards(str(place or root), section.get(f"{split}_split", split))
        except DataMissing as error:
            raise DataMissing(
                f"{error}; make image-text pairs with img2dataset (output_format=webdataset), and "
                f"set data.{key}=/path/to/them; or try experiment={proxy}, which needs no download"
            ) from None
        paths = {path.resolve() for path in found}
        if both := sorted(seen & paths):
            raise ConfigError(
                f"data.val_split: {both[0].name} is trained on, too: name other shards there, or "
                "leave it out of data.train_split"
            )
        seen |= paths
    _check_there(section, "encoder", "config.json", proxy)


def _check_there(section: Mapping[str, Any], key: str, file: str, proxy: str) -> None:
    given = expanded(section.get(key))
    if not given:
        raise DataMissing(
            f"data.{key} is not set: a folder with {file}; or try experiment={proxy}, which "
            "needs no download"
        )
    if not (Path(given) / file).is_file():
        raise DataMissing(f"data.{key}={given}: there is no {file} in it")
