"""Several labels an image: a text file says which classes an image has besides that of its folder.

    n00004475_12.JPEG<TAB>n00001740 n00002137
    n00005787_7.JPEG<TAB>n00001740

One line an image, by its file name (in shards: its key); classes by their names, or by their
numbers where the data has numbers only. Sets like JFT have such labels; `task.loss=sigmoid`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.config import ConfigError
from experiments.data.image_readers import LabelledImages
from experiments.models.class_loss import NO_LABEL


def read(path: str, images: LabelledImages, num_classes: int) -> tuple[np.ndarray, int]:
    """The labels of each image of a split.

    Args:
        path: Of the text file.
        images: The split; its own label comes first.
        num_classes: As configured.

    Returns:
        (N, K) int64, filled up with -1, and the number of lines that are of no image.

    Raises:
        ConfigError: a line that cannot be read, an unknown class, or a file name that two images
            have.
    """
    numbers = {name: number for number, name in enumerate(images.class_names or [])}
    names = np.array([os.fsencode(images.file_name(n)) for n in range(len(images.labels))])
    order = np.argsort(names, kind="stable")
    found: dict[int, list[int]] = {}
    num_unknown = 0
    for number, name, classes in _lines(path):
        wanted = os.fsencode(name)
        place = np.searchsorted(names, wanted, sorter=order)
        row = int(order[place]) if place < len(order) else -1
        if row < 0 or names[row] != wanted:
            num_unknown += 1
            continue
        if place + 1 < len(order) and names[order[place + 1]] == names[row]:
            raise ConfigError(
                f"{path}, line {number}: two images are called {name}: give each its own name"
            )
        if row in found:
            raise ConfigError(f"{path}, line {number}: {name} has a line before: make one of them")
        own = int(images.labels[row])
        more = [_class(word, numbers, num_classes, f"{path}, line {number}") for word in classes]
        found[row] = [label for label in dict.fromkeys(more) if label != own]
    if num_unknown and not found:
        raise ConfigError(
            f"data.more_labels={path}: none of its {num_unknown} lines is of a training image: "
            f"write names as {images.file_name(0)!r}"
        )
    width = 1 + max(map(len, found.values()), default=0)
    labels = np.full((len(names), width), NO_LABEL, dtype=np.int64)
    labels[:, 0] = images.labels
    for row, more in found.items():
        labels[row, 1 : 1 + len(more)] = more
    return labels, num_unknown


def _lines(path: str) -> Iterator[tuple[int, str, list[str]]]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, 1):
                name, tab, classes = line.rstrip("\n").partition("\t")
                if not tab or not name or not classes.split():
                    raise ConfigError(
                        f"{path}, line {number}: write FILE NAME, a tab, and classes with spaces "
                        "between"
                    )
                yield number, name, classes.split()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"data.more_labels={path}: cannot be read ({error})") from error


def _class(word: str, numbers: dict[str, int], num_classes: int, where: str) -> int:
    number = numbers.get(word, -1)
    if not numbers and word.isdecimal() and int(word) < num_classes:
        number = int(word)
    if number < 0:
        known = "a class of the training split" if numbers else f"a number below {num_classes}"
        raise ConfigError(f"{where}: '{word}' must be {known}")
    return number


def check_file(path: str | None, sha256: str | None) -> None:
    """That the file is the one that is asked for: its content is part of which run this is.

    Raises:
        ConfigError: tells its SHA-256.
    """
    if path is None:
        if sha256 is not None:
            raise ConfigError("data.more_labels_sha256 is set, but not data.more_labels")
        return
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"data.more_labels={path}: {error.strerror}: name a text file") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ConfigError(
            f"data.more_labels={path} has another content: set data.more_labels_sha256={found}"
        )
