"""Where CIFAR-100 and Oxford-IIIT Pet lie. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.data.locate import DataMissing, expanded
from experiments.ranges import NAME, PATH, Range, check_all, choice, count, optional

NUM_CLASSES = {"cifar100": 100, "oxford_pet": 37}
_FILES = {
    "cifar100": ("test", "meta"),
    "oxford_pet": ("annotations/test.txt", "images"),
}
_FOLDERS = {"cifar100": "cifar-100-python", "oxford_pet": "oxford-iiit-pet"}
_SOURCES = {
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar.html (python version)",
    "oxford_pet": "https://www.robots.ox.ac.uk/~vgg/data/pets (images and annotations)",
}
RANGES: dict[str, Range] = {
    "name": NAME,
    "kind": choice(*NUM_CLASSES),
    "root": optional(PATH),
    "input_size": count(1, 100_000),
    "num_workers": optional(count(0, 1024)),
}
"""Settings of `ZeroShotImages`."""


def check_zero_shot(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a section of a test set.

    Raises:
        DataMissing: files that are not there.
        ConfigError: a value that cannot be.
    """
    check_all(section, RANGES, "data")
    find_files(section["kind"], expanded(section.get("root")))


def find_files(kind: str, root: str | None) -> list[Path]:
    """The files of a set, in its own folder or in the root.

    Raises:
        DataMissing: says where to get them.
    """
    for folder in (Path(root or "", _FOLDERS[kind]), Path(root or "")):
        found = [folder / name for name in _FILES[kind]]
        if root and all(path.exists() for path in found):
            return found
    listed = " and ".join(_FILES[kind])
    raise DataMissing(
        f"data.root={root}: neither {_FOLDERS[kind]} in it nor itself has {listed}; get them from "
        f"{_SOURCES[kind]}"
    )
