"""The ledger: what a run leaves behind, and how all runs are read back as one table.

A run's folder `results/runs/<run id>/` holds

    config.yaml      the resolved configuration
    run.json         what holds for the whole run, and one entry per session (start or resume)
    metrics.jsonl    one JSON line per measurement, appended while the run goes on
    status.json      state, step, time; replaced as a whole
    log.txt          the lines a person would have read on the terminal
    checkpoints/     see experiments.checkpoint

`SCHEMA` lists the columns of the table that `experiments.table.read_runs` makes of all runs.
Standard library only, but for `read_config` (yaml).
"""

from __future__ import annotations

import contextlib
import datetime
import difflib
import fcntl
import json
import math
import os
import socket
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.config import UserError

SCHEMA_VERSION = 2
MANIFEST_VERSION = 1
"""Of a sweep's manifest."""

SCHEMA = {
    "run_id": "name of the run's folder; carries the hash of the resolved configuration",
    "experiment": "page in conf/experiment",
    "scale": "paper, or proxy for a small stand-in",
    "stands_for": "experiment of the paper that a proxy stands in for",
    "data": "data set that was really used",
    "model": "model that was really used",
    "num_params": "trainable parameters",
    "optimizer": "page in conf/optimizer",
    "lr": "peak learning rate",
    "weight_decay": "decoupled, as given to the optimizer",
    "example": "what an example is: image, sequence of 64 characters, ...",
    "batch_size": "examples per optimizer step",
    "hyper_parameters": "every setting of the optimizer, as JSON",
    "seed": "of initialisation, data order, augmentation and noise",
    "provenance": "source of the hyper-parameters",
    "headline": "the number that decides, as JSON; see experiments.headline",
    "start_from": "run or file whose weights the run began with, as JSON; empty: fresh weights",
    "init_optimizer": "that trained those weights, where it is known",
    "step": "optimizer steps done",
    "epoch": "passes over the training set done",
    "split": "train, val, test, imagenet_v2, ...",
    "metric": "loss, top1, ...",
    "value": "the measurement",
    "unit": "of the value",
    "better": "higher or lower; empty where neither is",
    "error": "standard error of the value over the examples, where it is known",
    "weights": "raw, or ema for averaged weights",
    "evaluation": "of the task, that measured this; empty for the training itself",
    "n": "examples behind the value",
    "seconds": "training time so far, without evaluation and checkpoints",
    "session": "which start or resume of the run measured this",
    "state": "running, interrupted, finished, diverged or failed",
    "commit": "of this repository; + marks uncommitted changes",
    "versions": "of the packages that matter, as JSON",
    "device": "that the session ran on, and how many processes",
    "cpu": "model and instruction set of the processor; they move the last digits",
    "threads": "of torch, per process",
    "launcher": "what started the session, and whether runs were trained together",
    "schema_version": "of this table",
}
"""Columns of the table that `read_runs` gives, and what they mean."""

FINAL_STATES = ("finished", "diverged")


_lock_handles: set[int] = set()


def _close_locks_in_child() -> None:
    """A forked loading process must not hold a run when the process that trained it is gone."""
    for handle in _lock_handles:
        os.close(handle)
    _lock_handles.clear()


os.register_at_fork(after_in_child=_close_locks_in_child)


class HeldError(UserError):
    """Another process is at the run."""


class Folder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.header = path / "run.json"
        self.metrics = path / "metrics.jsonl"
        self.status = path / "status.json"
        self.log = path / "log.txt"
        self.checkpoints = path / "checkpoints"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run for one writer; the lock goes with the process, even after kill -9.

        Raises:
            HeldError: if another process is at this run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        _lock_handles.add(handle)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(handle, 200).decode(errors="replace") or "another process"
                raise HeldError(
                    f"run {self.path.name} is being trained already, by {holder}: "
                    "wait for it or stop it"
                ) from None
            with contextlib.suppress(OSError):  # a full disk: then the holder has no name
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
            yield
        finally:
            _lock_handles.discard(handle)
            os.close(handle)

    def is_held(self) -> bool:
        """True while a process is at this run. (On this machine, or a shared file system.)"""
        try:
            handle = os.open(self.path / ".lock", os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(handle)

    def write_status(self, state: str, step: int, total_steps: int, **more: Any) -> None:
        """Replaces the status file. A full disk costs the status, never the run."""
        status = {
            "state": state,
            "step": step,
            "total_steps": total_steps,
            "updated": now(),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            **more,
        }
        with contextlib.suppress(OSError):
            write_json(self.status, status)


class Ledger:
    """Appends measurements to a run's `metrics.jsonl`.

    A row that cannot be written (full disk) waits in memory and is tried again with the next
    one; a half-written line is taken back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[str] = []
        self._is_whole = False  # whether a line cut by a power loss has been looked for
        self.num_rows = 0

    def start_after(self, step: int) -> None:
        """Drops what a killed session measured after the step that is resumed from."""
        kept = [row for row in read_rows(self.path) if row["step"] <= step]
        self.num_rows = len(kept)
        write_text(self.path, "".join(_line(row) for row in kept), durable=True)

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows; each has the keys step, split, metric, value, unit, weights, n, ..."""
        lines = [_line(row) for row in rows]
        self.num_rows += len(lines)
        self._waiting += lines
        try:
            self._flush()
        except OSError as error:
            warnings.warn(f"cannot write {self.path} now, will try again: {error}", stacklevel=2)

    def close(self) -> None:
        """Writes what waits.

        Raises:
            OSError: if it still cannot be written; then the run must not be called finished.
        """
        self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        data = "".join(self._waiting).encode()
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if not self._is_whole:
                _drop_cut_line(handle)
                self._is_whole = True
            before = os.fstat(handle).st_size
            try:
                written = os.write(handle, data)
                if written != len(data):
                    raise OSError("disk full: only a part was written")
            except OSError:
                os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)
        self._waiting.clear()


def _drop_cut_line(handle: int) -> None:
    """Takes back what stands behind the last newline of a file."""
    end = os.fstat(handle).st_size
    if end and os.pread(handle, 1, end - 1) != b"\n":
        os.ftruncate(handle, os.pread(handle, end, 0).rfind(b"\n") + 1)


def _line(row: dict[str, Any]) -> str:
    """One JSON line; numbers that JSON does not know become the strings nan, inf, -inf."""
    value = row.get("value")
    if isinstance(value, float) and not math.isfinite(value):
        row = {**row, "value": str(value)}
    return json.dumps(row, allow_nan=False) + "\n"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a `metrics.jsonl`; a cut last line (power loss) is passed over.

    Of a measurement that was made twice (`job=evaluate`), the last counts.

    Raises:
        UserError: if another line is damaged.
    """
    if not path.exists():
        return []
    *whole, _cut = path.read_text(errors="replace").split("\n")
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, line in enumerate(whole, 1):
        if not line:  # a damaged line that somebody has emptied
            continue
        try:
            row = json.loads(line)
            key = tuple(row[k] for k in ("step", "split", "metric", "weights"))
            rows[key] = {**row, "value": float(row["value"])}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}, line {number} is damaged: mend or delete it") from None
    return list(rows.values())


def read_sweep(path: Path | str) -> dict[str, Any]:
    """The manifest of a sweep, e.g. of `results/sweeps/vit_proxy-lr_wd`.

    Returns:
        name, experiment, budget (trials per optimizer), seeds, conditions, axes (per optimizer:
        column and values), runs_dir, cells (run_id, optimizer, seed, settings, config), ...

    Raises:
        UserError: if there is none, or one of another version.
    """
    file = Path(path) / "manifest.json"
    manifest = read_json(file)
    if not manifest:
        names = sorted(p.parent.name for p in file.parent.parent.glob("*/manifest.json"))
        there = f"; there are: {', '.join(names)}" if names else ""
        raise UserError(f"{file.parent}: no sweep there{there}")
    if manifest.get("schema_version") != MANIFEST_VERSION:
        raise UserError(f"{file}: made by another version; move the folder away and sweep anew")
    return manifest


def read_config(folder: Path) -> dict[str, Any]:
    """The resolved configuration of a run, as plain dicts and lists.

    Raises:
        UserError: if the folder has none, or a damaged one.
    """
    import yaml

    path = Folder(folder).config
    try:
        plain = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        known = sorted(p.parent.name for p in folder.parent.glob("*/config.yaml"))
        near = difflib.get_close_matches(folder.name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        reason = f"no readable configuration of a run ({type(error).__name__})"
        raise UserError(f"{path}: {reason}{hint}") from None
    if not isinstance(plain, dict):
        raise UserError(f"{path} is damaged: no configuration of a run")
    return plain


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's content; empty where there is none or it is damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces a JSON file in one stroke."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Replaces a text file in one stroke: a crash leaves the old one or the new one.

    `durable`: so does a power loss; costs some milliseconds.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
