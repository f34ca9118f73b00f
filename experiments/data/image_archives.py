"""Random access to images in tar files: WebDataset shards, and tars of class folders.

Each tar is read through once to note where every image begins; the notes are kept in a cache.
Then any image is one read at a known offset, which is safe with any number of processes, and an
epoch can be shuffled and resumed exactly, unlike with a stream of shards. The package webdataset
had such an index (`wids`), but version 1.0 does not ship it any more.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image

from experiments.config import ConfigError
from experiments.data.archive_index import (
    ArchiveIndex,
    Entry,
    one_at_a_time,
    read_cached,
    write_cached,
)

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
_LARGE = 2**32  # bytes of tar files that are not read through without a word


class ArchiveImages:
    """Images and labels of a split that lies in tar files."""

    def __init__(self, tars: list[Path], index: ArchiveIndex) -> None:
        self.labels = index.labels
        self.class_names = [str(name) for name in index.class_names] or None
        self._tars = tars
        self._index = index

    def open(self, index: int) -> Image.Image:
        """The image, not decoded yet."""
        file = _open_file(str(self._tar(index)))
        size, offset = int(self._index.sizes[index]), int(self._index.offsets[index])
        # pread moves no file position, so processes may share the handle across a fork.
        return Image.open(io.BytesIO(os.pread(file.fileno(), size, offset)))

    def name(self, index: int) -> str:
        """For messages."""
        return f"{self._tar(index)}: {self.file_name(index)}"

    def file_name(self, index: int) -> str:
        """The original file name where the tar tells it, otherwise the key in the tar."""
        return os.fsdecode(self._index.names[index])

    def _tar(self, index: int) -> Path:
        return self._tars[self._index.tar_numbers[index]]


@lru_cache(maxsize=256)
def _open_file(path: str) -> IO[bytes]:
    return open(path, "rb", buffering=0)


def open_shards(shards: dict[Path, int | None], cache_dir: str | None) -> ArchiveImages:
    """WebDataset shards: `KEY.jpg` (jpeg, png, webp) with `KEY.cls`, or `label` in `KEY.json`.

    Args:
        shards: Tar files, with the number of examples each should hold where that is known.
        cache_dir: Where the index is kept; None: the user's cache folder.

    Raises:
        ConfigError: a shard that is damaged, incomplete or has images without a label.
    """
    tars = list(shards)
    images = _open(tars, cache_dir, _shard_entries)
    for number, (tar, promised) in enumerate(shards.items()):
        held = int((images._index.tar_numbers == number).sum())
        if promised is not None and held != promised:
            raise ConfigError(
                f"{tar} holds {held} images, but _info.json promises {promised}: get it again"
            )
    return images


def open_class_tars(tars: list[Path], cache_dir: str | None) -> ArchiveImages:
    """Tars of class folders, or of one tar per class (ILSVRC2012_img_train.tar).

    Args:
        tars: Tar files of one split.
        cache_dir: Where the index is kept; None: the user's cache folder.
    """
    return _open(tars, cache_dir, _class_entries)


def _open(
    tars: list[Path], cache_dir: str | None, entries_of: Callable[[Path], list[Entry]]
) -> ArchiveImages:
    index = read_cached(tars, entries_of.__name__, cache_dir)
    if index is None:
        with one_at_a_time(tars, entries_of.__name__, cache_dir):
            index = read_cached(tars, entries_of.__name__, cache_dir)
            if index is None:
                index = _read_through(tars, entries_of)
                write_cached(index, tars, entries_of.__name__, cache_dir)
    return ArchiveImages(tars, index)


def _read_through(tars: list[Path], entries_of: Callable[[Path], list[Entry]]) -> ArchiveIndex:
    if sum(tar.stat().st_size for tar in tars) > _LARGE:
        note = f"noting where the images of {len(tars)} tar files begin (once, some minutes) ..."
        print(note, file=sys.stderr, flush=True)
    with ThreadPoolExecutor(max_workers=8) as pool:
        return ArchiveIndex.of(list(pool.map(partial(_scan, entries_of), tars)))


def _scan(entries_of: Callable[[Path], list[Entry]], tar: Path) -> list[Entry]:
    try:
        return entries_of(tar)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ConfigError(
            f"{tar} is not a complete, uncompressed tar file ({error}): get it again"
        ) from error


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Files of a tar, without keeping them all in memory."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        if member.isfile():
            yield member


class _Sample(NamedTuple):
    images: list[tuple[int, int]]  # offset and size
    texts: dict[str, bytes]  # of cls and json


def _shard_entries(path: Path) -> list[Entry]:
    samples: dict[str, _Sample] = {}
    with tarfile.open(path, "r:") as tar:
        for member in _members(tar):
            folder, _, base = member.name.rpartition("/")
            stem, _, suffix = base.partition(".")
            sample = samples.setdefault(f"{folder}/{stem}".lstrip("/"), _Sample([], {}))
            if suffix.lower() in IMAGE_SUFFIXES:
                sample.images.append((member.offset_data, member.size))
            elif suffix in ("cls", "json"):
                sample.texts[suffix] = tar.extractfile(member).read()  # pyright: ignore[reportOptionalMemberAccess]
    return [_shard_entry(path, key, sample) for key, sample in samples.items() if sample.images]


def _shard_entry(path: Path, key: str, sample: _Sample) -> Entry:
    facts = json.loads(sample.texts.get("json", b"{}"))
    label = sample.texts.get("cls", facts.get("label"))
    if label is None or len(sample.images) != 1:
        raise ConfigError(
            f"{path}: {key} needs one image and a label: KEY.jpg with KEY.cls, or 'label' in "
            "KEY.json"
        )
    return Entry(str(facts.get("filename", key)), int(label), *sample.images[0])


def _class_entries(path: Path) -> list[Entry]:
    with tarfile.open(path, "r:") as tar:
        return list(_class_members(tar, path.stem, 0))


def _class_members(tar: tarfile.TarFile, parent: str, start: int) -> Iterator[Entry]:
    """Images of a tar that begins at byte `start` of its file, and of the tars inside it."""
    for member in _members(tar):
        folder, name = os.path.split(member.name)
        stem, suffix = os.path.splitext(name)
        offset = start + member.offset_data
        if suffix == ".tar":
            with tarfile.open(fileobj=tar.extractfile(member), mode="r:") as inner:
                yield from _class_members(inner, stem, offset)
        elif suffix[1:].lower() in IMAGE_SUFFIXES:
            yield Entry(name, os.path.basename(folder) or parent, offset, member.size)
