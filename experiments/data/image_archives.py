"""Random access to images in tar files: WebDataset shards, and tars of class folders.

Each tar is read through once to note where every image begins; the notes are kept in a cache.
Then any image is one read at a known offset, which is safe with any number of processes, and an
epoch can be shuffled and resumed exactly, unlike with a stream of shards. The package webdataset
had such an index (`wids`), but version 1.0 does not ship it any more.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

from PIL import Image

from experiments.config import ConfigError
from experiments.data.archive_index import (
    ArchiveIndex,
    Entry,
    Scanned,
    cache_file,
    one_at_a_time,
    read_cached,
    write_cached,
)
from experiments.data.image_names import is_image, suffix_of
from experiments.data.shard_samples import shard_entries
from experiments.data.tar_members import members

_LARGE = 2**32  # bytes of tar files that are not read through without a word


class ArchiveImages:
    """Images and labels of a split that lies in tar files."""

    def __init__(self, tars: list[Path], index: ArchiveIndex) -> None:
        self.labels = index.labels
        self.class_names = [str(name) for name in index.class_names] or None
        self.left_out = Counter(
            dict(zip(index.left_suffixes.tolist(), index.left_counts.tolist(), strict=True))
        )
        self._tars = tars
        self._index = index

    def open(self, index: int) -> Image.Image:
        """The image, not decoded yet."""
        return Image.open(io.BytesIO(self.content(index)))

    def content(self, index: int) -> bytes:
        """The file as it lies in its tar."""
        tar = _open_tar(str(self._tar(index)))
        size, offset = self.num_bytes(index), int(self._index.offsets[index])
        # pread moves no file position, so processes may share the handle across a fork.
        return os.pread(tar.file.fileno(), size, offset)

    def name(self, index: int) -> str:
        """For messages."""
        return f"{self._tar(index)}: {self.file_name(index)}"

    def file_name(self, index: int) -> str:
        """The original file name where the tar tells it, otherwise the key in the tar."""
        return os.fsdecode(self._index.names[index])

    def num_bytes(self, index: int) -> int:
        return int(self._index.sizes[index])

    def digest(self) -> str:
        """Of the names and sizes of all, hex; the same wherever the tars lie."""
        told = hashlib.sha256()
        for name, size in zip(self._index.names.tolist(), self._index.sizes.tolist(), strict=True):
            told.update(b"%s\0%d\n" % (name, size))
        return told.hexdigest()

    def _tar(self, index: int) -> Path:
        return self._tars[self._index.tar_numbers[index]]


class _OpenTar:
    """Closes its file once nobody reads it any more, or when Python ends."""

    def __init__(self, path: str) -> None:
        self.file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by finalize
        weakref.finalize(self, self.file.close)


@lru_cache(maxsize=256)
def _open_tar(path: str) -> _OpenTar:
    return _OpenTar(path)


def open_shards(shards: dict[Path, int | None], cache_dir: str | None) -> ArchiveImages:
    """WebDataset shards: `KEY.jpg` (or another image) with `KEY.cls`, or `label` in `KEY.json`.

    Args:
        shards: Tar files, with the number of examples each should hold where that is known.
        cache_dir: Where the index is kept; None: the user's cache folder.

    Raises:
        ConfigError: a shard that is damaged, incomplete or has images without a label.
    """
    tars = list(shards)
    images = open_entries(tars, cache_dir, _shards)
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

    Raises:
        ConfigError: a tar that is damaged, or that holds no image.
    """
    return open_entries(tars, cache_dir, _class_tars)


def open_entries(
    tars: list[Path], cache_dir: str | None, entries_of: Callable[[Path], Scanned]
) -> ArchiveImages:
    """What a function finds in each tar, noted once.

    Args:
        tars: Tar files of one split.
        cache_dir: Where the index is kept; None: the user's cache folder.
        entries_of: A tar to its entries; its name is part of the index's.

    Raises:
        ConfigError: a tar that is damaged, or in which nothing is found.
    """
    try:
        cached = cache_file(tars, entries_of.__name__, cache_dir)
        index = read_cached(cached)
        if index is None:
            with one_at_a_time(cached):
                index = read_cached(cached)
                if index is None:
                    index = _read_through(tars, entries_of)
                    write_cached(index, cached)
    except OSError as error:
        raise ConfigError(
            f"cannot read {error.filename}: {error.strerror}; get it again"
        ) from error
    if not len(index.labels):
        more = f" among {len(tars)} tars" if len(tars) > 1 else ""
        raise ConfigError(f"{tars[0]}{more} holds no images: name the tars that do")
    return ArchiveImages(tars, index)


def _read_through(tars: list[Path], entries_of: Callable[[Path], Scanned]) -> ArchiveIndex:
    if sum(tar.stat().st_size for tar in tars) > _LARGE:
        note = f"noting where the images of {len(tars)} tar files begin (once, some minutes) ..."
        print(note, file=sys.stderr, flush=True)
    with ThreadPoolExecutor(max_workers=8) as pool:
        return ArchiveIndex.of(list(pool.map(partial(_scan, entries_of), tars)))


def _scan(entries_of: Callable[[Path], Scanned], tar: Path) -> Scanned:
    try:
        return entries_of(tar)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{tar} is not a complete, uncompressed tar file ({reason}): get it again"
        ) from error


def _shards(path: Path) -> Scanned:
    with tarfile.open(path, "r:") as tar:
        return shard_entries(tar, str(path))


def _class_tars(path: Path) -> Scanned:
    left_out: Counter[str] = Counter()
    with tarfile.open(path, "r:") as tar:
        return list(_class_members(tar, path.stem, 0, str(path), left_out)), left_out


def _class_members(
    tar: tarfile.TarFile, parent: str, start: int, where: str, left_out: Counter[str]
) -> Iterator[Entry]:
    """Images of a tar that begins at byte `start` of its file, and of the tars inside it.

    Raises:
        ConfigError: as of class folders, for images beside them, or several folders of a class.
    """
    places: dict[str, str] = {}  # of each class
    for member in members(tar, where):
        path = os.path.normpath(member.name)
        folder, name = os.path.split(path)
        offset = start + member.offset_data
        if suffix_of(name) == "tar":
            inside, stem = f"{where}: {member.name}", os.path.splitext(name)[0]
            with tarfile.open(fileobj=tar.extractfile(member), mode="r:") as inner:
                for entry in _class_members(inner, stem, offset, inside, left_out):
                    _check_place(places, str(entry.label), path, where)
                    yield entry
        elif is_image(name):
            label = os.path.basename(folder) or parent
            _check_place(places, label, folder, where)
            yield Entry(name, label, offset, member.size)
        else:
            left_out[suffix_of(name)] += 1


def _check_place(places: dict[str, str], label: str, place: str, where: str) -> None:
    if places.get(label) == place:
        return
    if label in places:
        raise ConfigError(
            f"{where} holds images of the class '{label}' in {places[label] or 'no folder'} and in "
            f"{place or 'no folder'}, perhaps several copies of the data: write a tar of one"
        )
    places[label] = place
    if len(places) > 1 and "" in (place, next(iter(places.values()))):
        beside = next(label for label, place in places.items() if not place)
        raise ConfigError(
            f"{where} holds images in no folder beside others, which would be the class "
            f"'{beside}': write a tar of class folders alone"
        )
