"""The index of images in tar files: its arrays, and the cache that holds them between runs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.image_names import natural_key
from experiments.files import replacing

_FORMAT = 3


class Entry(NamedTuple):
    """One image of a tar file."""

    name: str
    label: int | str  # class number, or the name of a class folder
    offset: int  # bytes from the beginning of the file
    size: int  # bytes


Scanned = tuple[list[Entry], Counter[str]]
"""Images of a tar, and how many files of which suffix were left out."""


@dataclass(frozen=True)
class ArchiveIndex:
    """Where the images of a split lie; arrays of one row per image, so that forks share them."""

    tar_numbers: np.ndarray  # int32
    offsets: np.ndarray  # int64, bytes
    sizes: np.ndarray  # int64, bytes
    labels: np.ndarray  # int64
    names: np.ndarray  # bytes
    class_names: np.ndarray  # empty where the tars hold class numbers; in natural order
    left_suffixes: np.ndarray  # of the files that were left out
    left_counts: np.ndarray  # int64, of these suffixes

    @classmethod
    def of(cls, scanned: list[Scanned]) -> ArchiveIndex:
        """Puts the entries of each tar one after another."""
        entries = [entry for entries, _ in scanned for entry in entries]
        left_out = sum((left for _, left in scanned), Counter[str]())
        labels = np.array([entry.label for entry in entries])
        class_names = np.array([], dtype=str)
        if labels.dtype.kind == "U":
            found, labels = np.unique(labels, return_inverse=True)
            order = np.array(sorted(range(len(found)), key=lambda n: natural_key(found[n])))
            class_names, labels = found[order], np.argsort(order)[labels]
        return cls(
            tar_numbers=np.repeat(
                np.arange(len(scanned), dtype=np.int32), [len(found) for found, _ in scanned]
            ),
            offsets=np.array([entry.offset for entry in entries], dtype=np.int64),
            sizes=np.array([entry.size for entry in entries], dtype=np.int64),
            labels=labels.astype(np.int64),
            names=np.array([os.fsencode(entry.name) for entry in entries], dtype=bytes),
            class_names=class_names,
            left_suffixes=np.array(list(left_out), dtype=str),
            left_counts=np.array(list(left_out.values()), dtype=np.int64),
        )


def cache_file(tars: list[Path], kind: str, cache_dir: str | None) -> Path:
    """Where an index is kept: another file after a change of place, size or time of any tar.

    The name alone is no place: tars of two splits, copied by what keeps whole seconds only, may
    have name, size and time in common. Asked before the tars are read: what replaces one meanwhile
    is then read by the next run.
    """
    facts = [(str(tar.resolve()), tar.stat().st_size, tar.stat().st_mtime_ns) for tar in tars]
    digest = hashlib.sha256(json.dumps([_FORMAT, kind, facts]).encode()).hexdigest()[:20]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.expanduser(cache_dir or os.path.join(home, "lion_experiments"))
    return Path(folder, f"tar_index_{digest}.npz")


@contextmanager
def one_at_a_time(cached: Path) -> Iterator[None]:
    """Lets one process make an index while the others of a job wait for it in the cache."""
    path = cached.with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")  # noqa: SIM115 (closed below)
    except OSError:  # nowhere to keep an index: every process makes its own
        yield
        return
    with file:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def read_cached(cached: Path) -> ArchiveIndex | None:
    """The index that was noted in a `cache_file`; None: it has to be made."""
    try:
        with np.load(cached, allow_pickle=False) as arrays:
            return ArchiveIndex(**arrays)
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write_cached(index: ArchiveIndex, cached: Path) -> None:
    """Keeps an index for the next run; a cache that cannot be written is no reason to stop."""
    with suppress(OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cached) as draft, draft.open("wb") as file:
            np.savez(file, **asdict(index))
