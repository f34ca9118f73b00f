"""Saves a run in shards: all processes write at once, and one name makes it a checkpoint.

The main process makes a draft folder; each process writes and flushes its file; when all have, the
main one writes the manifest and gives the folder its name. So whoever is killed at whatever time,
the last checkpoint with a name is complete.
"""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

from experiments import checkpoint, shard_files
from experiments.config import CheckpointConfig
from experiments.distributed import World


class ShardSaver:
    """The processes of a run as they save together; perhaps while they train on."""

    def __init__(self, config: CheckpointConfig, world: World) -> None:
        """All must call it.

        Args:
            config: How to save.
            world: The processes; one alone always waits for the disk.
        """
        self._keep, self._world = config.keep, world
        self._in_background = config.asynchronous and world.size > 1
        # In a group of their own, what they say of it meets nothing that training says.
        self._group = world.group(backend="gloo") if self._in_background else None
        self._pending: Future[Any] | None = None
        self._draft: Path | None = None

    def save(self, folder: Path, step: int, content: dict[str, Any], now: bool) -> None:
        """Saves, or begins to. All must call it, when `wait` has said that none is under way.

        Args:
            folder: Of the checkpoints.
            step: Optimizer steps done.
            content: Nested dicts of tensors and numbers; see `shard_files.split`.
            now: Whether it must be on the disk when this returns.

        Raises:
            CheckpointError: in all processes, if anything fails in any.
        """
        draft, problem = None, ""
        if self._world.is_main:
            try:
                draft = checkpoint.begin_shards(folder)
            except checkpoint.CheckpointError as error:
                problem = str(error)
        self._draft, problem = self._world.share((draft, problem))
        if self._draft is None:
            raise checkpoint.CheckpointError(problem)
        parts = shard_files.split(content, self._world.is_main)

        def adopt(written: Path) -> None:
            checkpoint.adopt_shards(written, step, self._keep)

        try:
            is_later = self._in_background and not now
            self._pending = shard_files.write(self._draft, parts, adopt, self._group, is_later)
        except shard_files.failures() as error:
            raise self._failed(error) from error

    def wait(self) -> None:
        """Until what is being saved is on the disk.

        Raises:
            CheckpointError: if it could not be, in all processes.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except shard_files.failures() as error:
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> checkpoint.CheckpointError:
        if self._world.is_main and self._draft is not None:
            checkpoint.remove(self._draft)
        said = f"cannot save a checkpoint in shards: {shard_files.in_a_line(error)}"
        return checkpoint.CheckpointError(said)
