"""Checkpoints: saved in one stroke, checked when read, never executing what they hold.

A file is written beside its place, flushed to disk and renamed; its name carries the CRC-32 of
its content. So a crash leaves either the old files or the new one, and a damaged file is noticed
and passed over for the one before. Loading uses `weights_only=True`. A checkpoint in shards is a
folder (`experiments.shard_files`) that is kept in the same way; its name has that of its manifest.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from experiments import shard_files
from experiments.config import UserError
from experiments.files import sync_folder
from experiments.shard_files import crc

_NAME = re.compile(r"step_(\d+)-([0-9a-f]{8})\.(?:pt|shards)")


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
        _drop_drafts(folder)
        with draft.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        final = folder / f"step_{step:09d}-{crc(draft):08x}.pt"
        draft.replace(final)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise CheckpointError(f"cannot save a checkpoint in {folder}: {_cause(error)}") from error
    sync_folder(folder)
    _retire(folder, step, final, keep)
    return final


def _cause(error: BaseException) -> BaseException:
    """What the disk said, where torch speaks of positions in its file after that."""
    before = error.__context__
    return before if isinstance(before, OSError) and not isinstance(error, OSError) else error


def begin_shards(folder: Path) -> Path:
    """Makes an empty folder to write shards to; what others have left half done goes.

    Raises:
        CheckpointError: e.g. on a full disk.
    """
    draft = folder / f"draft-{os.getpid()}.tmp"
    try:
        _drop_drafts(folder)
        draft.mkdir(parents=True)
    except OSError as error:
        raise CheckpointError(f"cannot save a checkpoint in {folder}: {error}") from error
    return draft


def adopt_shards(draft: Path, step: int, keep: int) -> Path:
    """Gives a folder that is complete and on the disk its name; see `save`.

    Raises:
        OSError: where it cannot be renamed.
    """
    folder = draft.parent
    checksum = crc(draft / shard_files.MANIFEST)
    final = folder / f"step_{step:09d}-{checksum:08x}.shards"
    if final.exists() and _is_as_written(final):
        remove(draft)
    else:
        remove(final)  # damaged since
        draft.rename(final)
    sync_folder(folder)
    _retire(folder, step, final, keep)
    return final


def _retire(folder: Path, step: int, final: Path, keep: int) -> None:
    """Removes all but the newest. One that cannot be removed is no reason to doubt the new one."""
    files = list_newest_first(folder)
    later = [path for path in files if step_of(path) > step]  # damaged: we came from before them
    earlier = [path for path in files if step_of(path) <= step and path != final]
    for old in [*later, *earlier[keep - 1 :]]:
        try:
            remove(old)
        except OSError as error:
            warnings.warn(f"an old checkpoint stays, remove it by hand: {error}", stacklevel=2)


def _drop_drafts(folder: Path) -> None:
    """Removes what others have left half done; in containers they may have had our number."""
    for left_over in folder.glob("draft-*.tmp"):
        with contextlib.suppress(OSError):
            remove(left_over)


def remove(path: Path) -> None:
    """Removes a file or folder; a folder loses its name first, so that no half of it has it."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    if path.suffix != ".tmp":
        path = path.rename(path.with_name(f"draft-{path.name}.tmp"))
    shutil.rmtree(path, ignore_errors=True)


def list_newest_first(folder: Path) -> list[Path]:
    """All checkpoints, files or folders of shards, by step."""
    files = {}
    for path in folder.glob("step_*"):
        if _NAME.fullmatch(path.name):
            with contextlib.suppress(FileNotFoundError):  # its run has saved a newer one since
                files[path] = step_of(path), path.stat().st_mtime
    return sorted(files, key=lambda path: files[path], reverse=True)


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
    checksum = int(found[2], 16)
    if path.suffix == ".shards":
        return shard_files.is_as_written(path, checksum)
    try:
        return crc(path) == checksum
    except OSError:  # a folder, or not ours to read
        return False


def load(
    path: Path, mapped: bool = False, place: shard_files.Place | None = None
) -> dict[str, Any]:
    """Reads a checkpoint to the CPU. Never unpickles code.

    Args:
        path: The file, or the folder of shards.
        mapped: Whether tensors are read from the file when they are looked at, and never stay in
            memory: for processes that take their part of each.
        place: Where to read the tensors of shards to, see `shard_files.Place`; None: as whole ones.
    """
    if path.suffix == ".shards":
        return shard_files.read(path, place)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
