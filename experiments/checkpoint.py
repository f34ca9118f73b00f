"""Checkpoints: saved in one stroke, checked when read, never executing what they hold.

A file is written beside its place, flushed to disk and renamed; its name carries the CRC-32 of
its content. So a crash leaves either the old files or the new one, and a damaged file is noticed
and passed over for the one before. Loading uses `weights_only=True`.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from experiments.config import UserError
from experiments.files import sync_folder

_NAME = re.compile(r"step_(\d+)-([0-9a-f]{8})\.pt")


class CheckpointError(OSError):
    """A checkpoint could not be written; the earlier ones are untouched."""


def save(folder: Path, step: int, content: dict[str, Any], keep: int) -> Path:
    """Writes one checkpoint and removes all but the newest `keep`.

    Args:
        folder: Made if missing.
        step: Optimizer steps done.
        content: Tensors, numbers, strings, and lists and dicts of them.
        keep: >= 1.

    Raises:
        CheckpointError: e.g. on a full disk.
    """
    draft = folder / f"draft-{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        final = folder / f"step_{step:09d}-{_crc(draft):08x}.pt"
        draft.replace(final)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise CheckpointError(f"cannot save a checkpoint in {folder}: {error}") from error
    sync_folder(folder)
    files = list_newest_first(folder)
    later = [path for path in files if step_of(path) > step]  # damaged: we came from before them
    earlier = [path for path in files if step_of(path) <= step and path != final]
    for old in [*later, *earlier[keep - 1 :]]:
        old.unlink(missing_ok=True)
    for left_over in folder.glob("draft-*.tmp"):
        left_over.unlink(missing_ok=True)
    return final


def list_newest_first(folder: Path) -> list[Path]:
    """All checkpoint files, by step."""
    files = [p for p in folder.glob("step_*.pt") if _NAME.fullmatch(p.name)]
    return sorted(files, key=lambda p: (step_of(p), p.stat().st_mtime), reverse=True)


def step_of(path: Path) -> int:
    """Optimizer steps done when the file was written."""
    found = _NAME.fullmatch(path.name)
    assert found, path
    return int(found[1])


def find_good(folder: Path, step: int | None = None) -> Path | None:
    """The newest file, or that of a step, whose content is as it was written.

    Warns of damaged ones.

    Raises:
        UserError: where no file of the step is there.
    """
    return next(good_ones(folder, step), None)


def good_ones(folder: Path, step: int | None = None) -> Iterator[Path]:
    """All files, or those of a step, whose content is as it was written; the newest first.

    Warns of damaged ones as it comes to them.

    Raises:
        UserError: where no file of the step is there.
    """
    files = list_newest_first(folder)
    if step is not None:
        kept = sorted({step_of(path) for path in files})
        files = [path for path in files if step_of(path) == step]
        if not files:
            said = ", ".join(map(str, kept)) or "none"
            raise UserError(
                f"checkpoint.step={step}: no such checkpoint is kept; there are: {said}"
            )
    num_good = 0
    for path in files:
        if _is_as_written(path):
            num_good += 1
            yield path
        else:
            warnings.warn(f"checkpoint {path} is damaged; trying the one before it", stacklevel=2)
    if files and not num_good:
        warnings.warn(f"no checkpoint in {folder} is good: starting anew", stacklevel=2)


def _is_as_written(path: Path) -> bool:
    found = _NAME.fullmatch(path.name)
    assert found, path
    try:
        return _crc(path) == int(found[2], 16)
    except OSError:  # a folder, or not ours to read
        return False


def load(path: Path, mapped: bool = False) -> dict[str, Any]:
    """Reads a checkpoint to the CPU. Never unpickles code.

    Args:
        path: The file.
        mapped: Whether tensors are read from the file when they are looked at, and never stay in
            memory: for processes that take their part of each.
    """
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _crc(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value
