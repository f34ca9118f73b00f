"""A checkpoint in shards: a folder to which each process writes its part, by torch's engine (DCP).

    manifest.json   of each tensor: type, shape, pieces (where in which file); CRC-32 of each file
    rest.pt         everything that is no large tensor, with gaps where those belong
    __R_0.distcp    the pieces that process R has written

DCP plans who writes and reads which piece, for any number of processes on either side. Its own
index is a pickle, which can run code when it is read; so the index is JSON here. Nothing else that
is read can: pieces and `rest.pt` are loaded with `weights_only=True`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.config import UserError
from experiments.distributed import is_shard
from experiments.files import sync_folder

MANIFEST, REST = "manifest.json", "rest.pt"
_READERS = 8

Place = Callable[[str, torch.Size, torch.dtype], Tensor | None]
"""Gives the tensor to read one into, by its name; None: a new one, whole, on the CPU."""


@dataclass
class Split:
    """What a checkpoint holds, in two parts."""

    rest: dict[str, Any] = field(default_factory=dict)  # in the main process only
    tensors: dict[str, Tensor] = field(default_factory=dict)  # that this process has a part of
    same: dict[str, str] = field(default_factory=dict)  # tied tensors: by name that of the first


def split(content: Mapping[str, Any], is_main: bool) -> Split:
    """Parts the large tensors of a checkpoint's content from the rest.

    Args:
        content: Nested dicts; shards (DTensors) stand in every process's, other tensors count in
            the main process's only.
        is_main: Whether this is the main process.
    """
    found, first = Split(), {}

    def walk(value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return {k: walk(v, f"{name}/{k}" if name else str(k)) for k, v in value.items()}
        if not isinstance(value, Tensor):
            return value
        if not (value.dim() or is_shard(value)):
            return value.detach()
        if id(value) in first:
            found.same[name] = first[id(value)]
        elif is_shard(value) or is_main:
            found.tensors[name] = value.detach()
        first.setdefault(id(value), name)
        return None

    rest = walk(content, "")
    found.rest = rest if is_main else {}
    return found


# --- writing -------------------------------------------------------------------------------------


def write(
    draft: Path,
    parts: Split,
    adopt: Callable[[Path], None],
    group: Any = None,
    in_background: bool = False,
) -> Future[Any] | None:
    """Writes a folder. All processes of the group must call it.

    Args:
        draft: A new folder that all of them see.
        parts: Of this process.
        adopt: Called in the main process when every file of every process is on the disk; gives
            the folder its name.
        group: Of the processes; None: all.
        in_background: Copies to host memory, and writes from there while the caller goes on.

    Returns:
        In the background, what to wait for.

    Raises:
        CheckpointException: (of DCP) in every process, if anything fails in any.
    """
    from torch.distributed.checkpoint.state_dict_saver import async_save, save

    from experiments.shard_storage import Writer

    rest, strides = io.BytesIO(), _strides(parts)
    torch.save(parts.rest, rest)  # now: it changes while others write

    def finish(index: dict[str, Any]) -> None:
        """What only the main process does."""
        for name, stride in strides.items():
            index["tensors"][name]["stride"] = stride
        _write(draft / REST, rest.getvalue())
        index["files"][REST] = crc(draft / REST)
        _write(draft / MANIFEST, json.dumps({**index, "same": parts.same}).encode())
        sync_folder(draft)
        adopt(draft)

    writer = Writer(draft, finish)
    if in_background:
        return async_save(parts.tensors, storage_writer=writer, process_group=group)  # type: ignore[return-value]
    with _unwarned():
        save(parts.tensors, storage_writer=writer, process_group=group)
    return None


def failures() -> tuple[type[BaseException], ...]:
    """What goes wrong in torch's engine."""
    from torch.distributed.checkpoint.api import CheckpointException  # is no Exception

    return (CheckpointException, OSError, RuntimeError)


def in_a_line(error: BaseException) -> str:
    """What the first process says in which something failed."""
    causes = getattr(error, "failures", {})
    cause = causes[min(causes)][0] if causes else error
    return str(cause).strip().partition("\n")[0][:200] or type(cause).__name__


def _strides(parts: Split) -> dict[str, list[int]]:
    """Of tensors in another order than that of their dimensions (channels last)."""
    plain = {n: t for n, t in parts.tensors.items() if not is_shard(t)}
    return {n: list(t.stride()) for n, t in plain.items() if not t.is_contiguous()}


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


# --- reading -------------------------------------------------------------------------------------


def is_as_written(folder: Path, checksum: int) -> bool:
    """Whether the manifest has this CRC-32, and all files those that it names."""
    try:
        if crc(folder / MANIFEST) != checksum:
            return False
        files = manifest(folder)["files"]
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(crc, [folder / name for name in files])
            return list(files.values()) == list(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):  # none of ours
        return False


def manifest(folder: Path) -> dict[str, Any]:
    """What the folder says that it holds.

    Raises:
        UserError: for names of files that lie elsewhere.
    """
    found = json.loads((folder / MANIFEST).read_text())
    if any(Path(name).name != name for name in found["files"]):
        raise UserError(f"{folder} names files outside of it")
    return found


def read(folder: Path, place: Place | None = None) -> dict[str, Any]:
    """The content as it was given to `split`, tensors read where they are wanted.

    No process waits for another: each reads its own pieces.

    Args:
        folder: Written by `write`, by any number of processes.
        place: See `Place`.

    Raises:
        UserError: from `place`, before anything is read; or where the two do not fit.
    """
    from torch.distributed.checkpoint.state_dict_loader import load

    from experiments.shard_storage import Reader

    index = manifest(folder)
    rest = torch.load(folder / REST, map_location="cpu", weights_only=True)
    tensors = {name: _target(name, facts, place) for name, facts in index["tensors"].items()}
    try:
        with _unwarned():
            load(dict(tensors), storage_reader=Reader(folder, index), no_dist=True)
    except failures() as error:
        raise UserError(f"{folder} cannot be read: {in_a_line(error)}") from error
    tensors |= {name: tensors[first] for name, first in index["same"].items()}
    return dict(_filled(rest, "", tensors))


def _target(name: str, facts: Mapping[str, Any], place: Place | None) -> Tensor:
    shape, kind = torch.Size(facts["shape"]), getattr(torch, facts["dtype"])
    found = place(name, shape, kind) if place else None
    if "stride" not in facts:
        return torch.empty(shape, dtype=kind) if found is None else found
    if found is not None and is_shard(found) and not kind.is_floating_point:
        raise UserError(
            "the optimizer's codes were saved in another order (train.channels_last=true), "
            "which shards do not have: set launch.strategy=ddp"
        )
    return torch.empty_strided(shape, facts["stride"], dtype=kind) if found is None else found


def _filled(value: Any, name: str, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, Mapping):
        return {k: _filled(v, f"{name}/{k}" if name else str(k), tensors) for k, v in value.items()}
    return tensors.get(name, value)


def crc(path: Path) -> int:
    """CRC-32 of a file's content."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """DCP warns of one process alone, which is meant here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
