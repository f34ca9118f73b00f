"""How `experiments.shard_files` lies on the disk, told to torch's engine; imports DCP, so lazily.

DCP's classes write and read the pieces; only their index, a pickle there, is another one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from experiments.shard_files import crc


@dataclasses.dataclass(frozen=True)
class Stored:
    """Where a piece lies; with the names that DCP's reader asks for."""

    relative_path: str
    offset: int
    length: int
    checksum: int = 0  # of the whole file
    transform_descriptors: None = None


class Writer(FileSystemWriter):
    """One file a process, flushed to the disk; what the index says goes to `finished`."""

    def __init__(self, folder: Path, finished: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(folder, single_file_per_rank=True, sync_files=True)
        self._finished = finished

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Writes the pieces of this process, and reads them back for their checksum."""
        results = super().write_data(plan, planner).wait() if plan.items else []
        sums = {name: crc(Path(self.path) / name) for name in {_path(r) for r in results}}
        done: Future[list[WriteResult]] = Future()
        done.set_result([dataclasses.replace(r, storage_data=_stored(r, sums)) for r in results])
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Called in the main process, when all others have written."""
        written = {r.index: r.storage_data for each in results for r in each}
        tensors = {
            name: _facts(name, found, written)
            for name, found in metadata.state_dict_metadata.items()
            if isinstance(found, TensorStorageMetadata)
        }
        files = {stored.relative_path: stored.checksum for stored in written.values()}
        self._finished({"version": 1, "files": files, "tensors": tensors})


def _path(result: WriteResult) -> str:
    return result.storage_data.relative_path


def _stored(result: WriteResult, sums: Mapping[str, int]) -> Stored:
    found = result.storage_data
    return Stored(found.relative_path, found.offset, found.length, sums[found.relative_path])


def _facts(
    name: str, found: TensorStorageMetadata, written: Mapping[MetadataIndex, Stored]
) -> dict[str, Any]:
    """What the index says of a tensor; a piece: its place, its shape, file, offset and length."""
    pieces = []
    for chunk in found.chunks:
        stored = written[MetadataIndex(name, chunk.offsets)]
        where = [stored.relative_path, stored.offset, stored.length]
        pieces.append([list(chunk.offsets), list(chunk.sizes), *where])
    dtype = str(found.properties.dtype).removeprefix("torch.")
    return {"dtype": dtype, "shape": list(found.size), "pieces": pieces}


class Reader(FileSystemReader):
    """Reads what `Writer` has written."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        super().__init__(folder)
        self._manifest = manifest

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """DCP's index, made of ours."""
        tensors, stored = {}, {}
        for name, facts in self._manifest["tensors"].items():
            chunks = []
            for place, shape, path, offset, length in facts["pieces"]:
                chunks.append(ChunkStorageMetadata(torch.Size(place), torch.Size(shape)))
                stored[MetadataIndex(name, place)] = Stored(_own(path), offset, length)
            kind = TensorProperties(dtype=getattr(torch, facts["dtype"]))
            tensors[name] = TensorStorageMetadata(kind, torch.Size(facts["shape"]), chunks)
        return Metadata(tensors, storage_data=stored, storage_meta=StorageMeta())


def _own(path: str) -> str:
    """A file of the folder itself."""
    return Path(path).name
