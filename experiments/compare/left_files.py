"""Which files one run of a program leaves and the next one reads: it may go on from them.

No file is opened: one that was read has another time of access, where the file system keeps it (a
mount with `noatime` does not). A run that reads back what it has itself written is none of these.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections import Counter, deque
from pathlib import Path

MOST_ENTRIES = 20_000
"""Of folders, the shallow ones first; what lies beyond is not looked at."""
MOST_IN_FOLDER = 1_000
"""A folder that holds more holds data."""
_NO_WEIGHTS = {".log", ".lock", ".db", ".sqlite", ".sqlite3", ".pyc", ".py"}
_NO_OUTPUT = {"__pycache__", "node_modules", "site-packages"}
Stamp = tuple[int, int, int]


class LeftFiles:
    """What lies in the folders of a program, as far as its runs change it."""

    def __init__(self, command: str, folder: Path, own: Path, num_workers: int = 1) -> None:
        """
        Args:
            command: Of the program; a folder that it names is looked into, too.
            folder: Where it is called.
            own: Of the comparison, which is left out, with all beside it.
            num_workers: Runs at a time.
        """
        top = folder.resolve()
        named = _named(command, top)
        self._folders = [str(top), *sorted(str(one) for one in named if top not in one.parents)]
        self._top, self._own = top, {str(own.resolve()), str(own.resolve().parent)} - {str(top)}
        self._is_alone = num_workers == 1
        self._seen, self._is_whole = self._scanned()
        self._watched: dict[str, tuple[Stamp, int]] = {}
        self._num_written, self._read = Counter[str](), set[str]()

    def begin(self) -> None:
        """Before a run."""
        self._note_written()
        self._watched = {path: self._seen[path] for path in self._num_written if path in self._seen}

    def look(self) -> None:
        """While runs go on, often."""
        for path, before in list(self._watched.items()):
            now = _facts(path)
            if now is not None and _is_read_first(before, now):
                self._read.add(path)
                del self._watched[path]
            elif now is None or now[0] != before[0]:  # by whom, of runs at a time, nobody knows
                del self._watched[path]
                if now is not None and not self._is_alone:
                    self._watched[path] = now

    def end(self) -> None:
        """After a run."""
        self.look()
        self._note_written()

    def read_again(self, num_written: int = 2) -> list[str]:
        """Files that a run has read before it wrote them itself, written by so many runs. What is
        written once and read by all, as prepared data, is no state of a training run."""
        found = [path for path in self._read if self._num_written[path] >= num_written]
        return sorted(os.path.relpath(path, self._top) for path in found)

    def _note_written(self) -> None:
        seen, is_whole = self._scanned()
        for path, (stamp, _) in seen.items():
            before = self._seen.get(path)
            if before[0] != stamp if before else (self._is_whole and is_whole):
                self._num_written[path] += 1
        self._seen, self._is_whole = seen, is_whole

    def _scanned(self) -> tuple[dict[str, tuple[Stamp, int]], bool]:
        """The files, and whether these are all."""
        found, waiting, num_entries = dict[str, tuple[Stamp, int]](), deque(self._folders), 0
        while waiting:
            files, folders, number = _within(waiting.popleft())
            num_entries += number
            if num_entries > MOST_ENTRIES:
                return found, False
            waiting.extend(one for one in folders if one not in self._own)
            found |= {path: now for path in files if (now := _facts(path)) is not None}
        return found, True


def _within(folder: str) -> tuple[list[str], list[str], int]:
    """Files and folders in one, without those that hold no weights; how many entries it has."""
    files, folders, number = list[str](), list[str](), 0
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries, 1):
                if number > MOST_IN_FOLDER:
                    return [], folders, number
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in _NO_OUTPUT and not entry.name.startswith("."):
                        folders.append(entry.path)
                elif os.path.splitext(entry.name)[1] not in _NO_WEIGHTS:
                    files.append(entry.path)
    except OSError:
        return [], [], number
    return files, folders, number


def _facts(path: str) -> tuple[Stamp, int] | None:
    """What changes when it is written, and when it was read."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return (facts.st_ino, facts.st_size, facts.st_mtime_ns), facts.st_atime_ns


def _is_read_first(before: tuple[Stamp, int], now: tuple[Stamp, int]) -> bool:
    """Whether it was read since, and not written before that; or, in place, only after it."""
    (stamp, accessed), (stamp_now, accessed_now) = before, now
    is_same = stamp == stamp_now or (stamp[0] == stamp_now[0] and accessed_now <= stamp_now[2])
    return is_same and accessed_now > accessed


def _named(command: str, folder: Path) -> set[Path]:
    """Other folders that a command names, also behind a =."""
    try:
        words = shlex.split(command)
    except ValueError:  # the shell will say it
        words = command.split()
    found = set[Path]()
    for word in (part for one in words for part in (one, one.partition("=")[2]) if part):
        with contextlib.suppress(OSError, ValueError):  # no name of a folder
            if (path := (folder / word).resolve()).is_dir():
                found.add(path)
    return found - {folder}
