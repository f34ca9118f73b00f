"""Images in class folders."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.config import ConfigError
from experiments.data.image_names import (
    is_hidden,
    is_image,
    left_out_in_words,
    natural_key,
    suffix_of,
)
from experiments.data.locate import DataMissing


def remarks_on(images: object) -> list[str]:
    """What is odd about the folders of a split; nothing where it does not lie in folders."""
    return getattr(images, "remarks", [])


def _remarks(of_images: list[str], empty: list[str]) -> list[str]:
    found = []
    nested = [path for path in of_images if path.rpartition("/")[0] in set(of_images)]
    if nested:
        outer, _, inner = nested[0].rpartition("/")
        found.append(
            f"{nested[0]} lies in the folder of the class '{outer.rpartition('/')[2]}', and is a "
            f"class '{inner}' of its own"
        )
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        found.append(f"no image lies in the folder {empty[0]}{more}")
    return found


class FolderImages:
    """Class folders, at any depth; the innermost folder's name is the class.

    Images are in natural order of their paths, classes in natural order of their names. Hidden
    files and folders are no part of the data; files that are no images are counted in `left_out`.

    Raises:
        DataMissing: a folder that cannot be listed.
        ConfigError: images outside of class folders, several copies of the data, or no image.
    """

    def __init__(self, folder: Path | str) -> None:
        self._root = str(folder)
        self.left_out: Counter[str] = Counter()
        self._empty: list[str] = []  # folders in which nothing lies that is an image
        paths = sorted(self._walk(self._root, "", ()), key=natural_key)
        if not paths or any("/" not in path for path in paths):
            more = f"; {left_out_in_words(self.left_out)}" if self.left_out else ""
            raise ConfigError(f"{folder} should hold one folder of images per class{more}")
        of_images = [path.rpartition("/")[0] for path in paths]
        classes = [path.rpartition("/")[2] for path in of_images]
        names = sorted(set(classes), key=natural_key)
        if len(set(of_images)) != len(names):
            raise ConfigError(
                f"{folder} holds {len(set(of_images))} image folders of {len(names)} "
                "different names, perhaps several copies of the data: name the folder that holds "
                "one"
            )
        self.remarks = _remarks(sorted(set(of_images)), sorted(self._empty))
        numbers = {name: number for number, name in enumerate(names)}
        self.class_names: list[str] | None = names
        self.labels = np.array([numbers[name] for name in classes], dtype=np.int64)
        self._paths = np.array([os.fsencode(path) for path in paths], dtype=bytes)

    def _walk(self, folder: str, inside: str, above: tuple[tuple[int, int], ...]) -> list[str]:
        """Paths of images, relative to the root; a link back to a folder above is not followed."""
        try:
            itself = os.stat(folder)
            entries = list(os.scandir(folder))
        except OSError as error:
            raise DataMissing(
                f"cannot list {folder} ({error.strerror}): mend its rights"
            ) from error
        if (itself.st_dev, itself.st_ino) in above:
            return []
        above = (*above, (itself.st_dev, itself.st_ino))
        found = []
        for entry in entries:
            path = f"{inside}{entry.name}"
            if is_hidden(entry.name):
                continue
            if os.path.isdir(entry) if entry.is_symlink() else entry.is_dir():
                below = self._walk(entry.path, f"{path}/", above)
                found += below
                if not below and not entry.is_symlink():
                    self._empty.append(path)
            elif is_image(entry.name) and (entry.is_symlink() or entry.is_file()):
                found.append(path)  # a broken link is named when it is opened
            else:
                self.left_out[suffix_of(entry.name)] += 1
        return found

    def open(self, index: int) -> Image.Image:
        return Image.open(self.name(index))

    def name(self, index: int) -> str:
        return os.path.join(self._root, os.fsdecode(self._paths[index]))

    def file_name(self, index: int) -> str:
        return os.path.basename(os.fsdecode(self._paths[index]))

    def num_bytes(self, index: int) -> int:
        try:
            return os.stat(self.name(index)).st_size
        except OSError:
            return -1
