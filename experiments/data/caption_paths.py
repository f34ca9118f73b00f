"""Checks a `data` section of captioned images. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.data.locate import DataMissing, Rule, check_values, expanded

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
    for key, file in (("root", "train/captions.jsonl"), ("encoder", "config.json")):
        given = expanded(section.get(key))
        if not given:
            raise DataMissing(
                f"data.{key} is not set: a folder with {file}; or try experiment={proxy}, which "
                "needs no download"
            )
        if not (Path(given) / file).is_file():
            raise DataMissing(f"data.{key}={given}: there is no {file} in it")
