"""What is to be said of the files of text beside an error: what is left out, lacks, or is twice.

Standard library only.
"""

from __future__ import annotations

import filecmp
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.data.image_names import left_out_in_words
from experiments.data.text_paths import find_files, left_out, passed_over, wanted_splits

_PART = re.compile(r"(.*?)(\d+)-of-(\d+)(.*)")
_HASH = re.compile(r"-[0-9a-f]{16}(?=\.)")
"""The hub once gave each part one of its own."""
_BEGIN_BYTES = 1 << 12


def remarks(root: str | None, section: Mapping[str, Any]) -> Iterator[str]:
    """What a user must know of the files that a `data` section reads; nothing where all is well.

    Raises:
        DataMissing: see `find_files`.
    """
    wanted = wanted_splits(section)
    everything = {path for theirs in wanted.values() for path in find_files(root, theirs)}
    for ours, theirs in wanted.items():
        if counts := left_out(root, theirs):
            yield f"{ours}: {left_out_in_words(counts, 'no text', 'no text')}"
        for said in _lacking(find_files(root, theirs)):
            yield f"{ours}: {said}"
        others = set(passed_over(root, theirs)) - everything
        if others:
            yield f"{ours}: {len(others):,} more of that name are not read ({min(others)})"
    yield from _copies(root, section)


def _lacking(files: list[Path]) -> Iterator[str]:
    """Of parts that are named `train-00000-of-00010.parquet`: how many are there, if not all."""
    there: dict[tuple[Path, int, str], list[str]] = {}
    for path in files:
        if found := _PART.fullmatch(path.name):
            parts = path.parent / found[1], int(found[3]), _HASH.sub("", found[4])
            there.setdefault(parts, []).append(path.name)
    for (_, total, _), names in there.items():
        if len(names) < total:
            yield f"of {total:,} parts {len(names):,} are there ({names[0]} and so on)"


def _copies(root: str | None, section: Mapping[str, Any]) -> Iterator[str]:
    """Files that another split has, too, to the byte and under another name."""
    alike: dict[tuple[int, bytes], list[tuple[str, Path]]] = {}
    for ours, theirs in wanted_splits(section).items():
        for path in find_files(root, theirs):
            size = path.stat().st_size
            others = alike.setdefault((size, _begin(path)), [])
            for split, other in others if size else []:
                if split != ours and filecmp.cmp(path, other, shallow=False):
                    yield f"{ours}: {path} is a copy of {other} of {split}: it is not held out"
                    break
            others.append((ours, path))


def _begin(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(_BEGIN_BYTES)).digest()
