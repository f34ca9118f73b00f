"""Tokens of text files, made once and kept in files that are mapped into memory.

A split's folder has a name that tells what is in it: hashes of the tokenizer, of the files, and the
version of the readers. It holds parts, each from some files that follow each other: the tokens of
one document after another (uint16 where the vocabulary allows, else uint32), each ended by the end
token, and where the documents end. A part is there or it is not (it appears by a rename), so making
them can be stopped and taken up anywhere. Processes that start together share the parts out by
locks; one that is killed leaves its part to the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import UserError
from experiments.data.text_readers import Piece
from experiments.data.tokenizer import Tokenizer

VERSION = 1
PART_BYTES = 64 << 20
"""Of text files that make a part, about; a larger file is a part of its own."""
EDGE_BYTES, NUM_EDGES = 1 << 16, 256
"""What of the files' content a fingerprint takes in: first and last bytes of so many or more."""
Reader = Callable[[Path], Iterator[Piece]]


def fingerprint(files: Sequence[Path], root: Path) -> str:
    """Hash of names, sizes, and first and last bytes of every n-th file (`NUM_EDGES` or more)."""
    digest = hashlib.sha256()
    stride = max(1, len(files) // NUM_EDGES)
    for number, path in enumerate(files):
        size = path.stat().st_size
        name = path.relative_to(root) if path.is_relative_to(root) else path.name
        digest.update(f"{name} {size}\n".encode(errors="surrogateescape"))
        if number % stride == 0:
            with path.open("rb") as file:
                digest.update(file.read(EDGE_BYTES))
                file.seek(max(0, size - EDGE_BYTES))
                digest.update(file.read(EDGE_BYTES))
    return digest.hexdigest()


@dataclass(frozen=True)
class Plan:
    """What a split's tokens are made of."""

    name: str  # for people
    folder: Path  # of the cache; its name tells the content
    parts: list[list[Path]]
    read: Reader
    tokenizer: Tokenizer
    adds_end: bool = True  # the end token behind each document

    @property
    def dtype(self) -> type[np.generic]:
        return np.uint16 if self.tokenizer.vocab_size <= 1 << 16 else np.uint32


def plan_of(
    name: str,
    files: Sequence[Path],
    root: Path,
    read: Reader,
    tokenizer: Tokenizer,
    cache_dir: Path,
    settings: str = "",
) -> Plan:
    """Names the cache of some files.

    Args:
        name: For people.
        files: In their order.
        root: What their names are relative to.
        read: Gives the documents of a file.
        tokenizer: That makes the tokens.
        cache_dir: Where caches are kept.
        settings: All that `read` depends on, and its version.
    """
    content = f"{VERSION} {tokenizer.sha256} {fingerprint(files, root)} {settings}"
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    return Plan(name, cache_dir / f"{name}-{key}", _grouped(files), read, tokenizer)


def _grouped(files: Sequence[Path]) -> list[list[Path]]:
    parts: list[list[Path]] = []
    size = 0
    for path in files:
        bytes_here = path.stat().st_size
        if not parts or size + bytes_here > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(path)
        size += bytes_here
    return parts


class StoredTokens:
    """The tokens of a split, read where they are asked for; opened after `tokenise`.

    Where documents have an end token, the row begins with one, so that the first token of the first
    document is predicted from what every other document begins with.
    """

    def __init__(self, plan: Plan) -> None:
        self._folder, self._dtype = plan.folder, plan.dtype
        facts = [facts_of(plan.folder, number) for number in range(len(plan.parts))]
        self._lengths = np.array([found["tokens"] for found in facts], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)])
        self._maps: dict[int, np.ndarray] = {}
        self._first = plan.tokenizer.eos_id if plan.adds_end else None
        self.num_words = sum(found["words"] for found in facts)
        self.num_documents = sum(found["documents"] for found in facts)

    def __len__(self) -> int:
        return int(self._starts[-1]) + (self._first is not None)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop), (stop - start,)."""
        if self._first is None:
            return self._joined(start, stop)
        rest = self._joined(max(0, start - 1), stop - 1)
        if start > 0 or stop <= start:
            return rest
        return np.concatenate([[self._first], rest]).astype(self._dtype)

    def _joined(self, start: int, stop: int) -> np.ndarray:
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        found = []
        for part in range(first, len(self._lengths)):
            begin = int(self._starts[part])
            if begin >= stop:
                break
            found.append(self._part(part)[max(0, start - begin) : stop - begin])
        if len(found) == 1:
            return np.asarray(found[0])
        return np.concatenate(found) if found else np.zeros(0, self._dtype)

    def _part(self, number: int) -> np.ndarray:
        if number not in self._maps:
            path = part_path(self._folder, number, "tokens")
            length = int(self._lengths[number])
            try:
                here = np.memmap(path, self._dtype, "r", shape=(length,)) if length else None
            except (OSError, ValueError) as error:
                raise UserError(
                    f"{path} is damaged ({error}): delete {self._folder} and call again"
                ) from error
            self._maps[number] = np.zeros(0, self._dtype) if here is None else here
        return self._maps[number]

    def document_ends(self) -> np.ndarray:
        """Where each document ends in the row, (num_documents,) int64."""
        ends = []
        for number, start in enumerate(self._starts[:-1]):
            path = part_path(self._folder, number, "ends")
            ends.append(np.fromfile(path, np.int64) + start)
        return np.concatenate(ends) + (self._first is not None)


def part_path(folder: Path, number: int, suffix: str) -> Path:
    """A file of a part: tokens, ends (where documents end), json (facts), lock."""
    return folder / f"part-{number:05d}.{suffix}"


def facts_of(folder: Path, number: int) -> dict[str, Any]:
    """Tokens, documents and words of a part that is there; what it was made of."""
    return json.loads(part_path(folder, number, "json").read_text())


def is_there(plan: Plan, number: int) -> bool:
    """Whether a part is done, and as long as it was then."""
    try:
        facts = facts_of(plan.folder, number)
        size = part_path(plan.folder, number, "tokens").stat().st_size
        ends = part_path(plan.folder, number, "ends").stat().st_size
        made = facts["tokens"] * np.dtype(plan.dtype).itemsize, facts["documents"] * 8
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return (size, ends) == made
