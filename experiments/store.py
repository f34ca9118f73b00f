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
import difflib
import fcntl
import os
import random
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments import inherited
from experiments.config import UserError
from experiments.files import cannot_lock, drop_drafts, make_folder
from experiments.files import now as now
from experiments.files import read_json as read_json
from experiments.files import replacing as replacing
from experiments.files import write_json as write_json
from experiments.files import write_text as write_text
from experiments.ledger import Ledger as Ledger
from experiments.ledger import read_rows as read_rows

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
    "instrument": "what it was measured with, as JSON: sampler, extractor; empty: the data alone",
    "seconds": "training time so far, without evaluation and checkpoints",
    "session": "which start or resume of the run measured this",
    "state": "running, interrupted, finished, diverged or failed",
    "commit": "of this repository (+: changed outside results/); of an installed package its hash",
    "versions": "of the packages that matter, as JSON",
    "device": "that the session ran on, and how many processes",
    "cpu": "model and instruction set of the processor; they move the last digits",
    "threads": "of torch, per process",
    "launcher": "what started the session, and whether runs were trained together",
    "schema_version": "of this table",
}
"""Columns of the table that `read_runs` gives, and what they mean."""

FINAL_STATES = ("finished", "diverged")


_NUM_TRIES = 500
"""How often a run is tried for that nobody but askers hold; one of them may have been paused."""
_lock_handles: set[int] = set()


def _close_locks_in_child() -> None:
    """A forked loading process must not hold a run when the process that trained it is gone."""
    for handle in _lock_handles:
        os.close(handle)
    _lock_handles.clear()


os.register_at_fork(after_in_child=_close_locks_in_child)


def _take(handle: int) -> bool:
    """Makes this process the one writer; False where there is one.

    Whoever only asks (`Folder.is_held`) holds a share for a moment: no reason to be refused.
    """
    for _ in range(_NUM_TRIES):
        if _try_lock(handle, fcntl.LOCK_EX):
            return True
        if not _try_lock(handle, fcntl.LOCK_SH):
            return False
        fcntl.flock(handle, fcntl.LOCK_UN)
        time.sleep(random.SystemRandom().uniform(0.001, 0.01))  # two that begin must not meet anew
    return False


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class HeldError(UserError):
    """Another process is at the run."""


class Folder:
    """One run's folder; or another that one process at a time writes in.

    Args:
        path: Where it lies.
        under_way: What is said of it while another process has it.
    """

    def __init__(self, path: Path, under_way: str = "run {} is being trained") -> None:
        self.path, self._under_way = path, under_way
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
            UserError: if the folder cannot be made, or is not ours to write in.
        """
        make_folder(self.path)
        try:
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            said = f"cannot write in {self.path} ({error.strerror})"
            raise UserError(f"{said}: say results_dir=PATH, where you can") from error
        _lock_handles.add(handle)
        try:
            try:
                is_ours = _take(handle)
            except OSError as error:
                raise cannot_lock(self.path / ".lock", error) from error
            if not is_ours:
                holder = os.read(handle, 200).decode(errors="replace") or "another process"
                raise HeldError(
                    f"{self._under_way.format(self.path.name)} already, by {holder}: "
                    f"wait for it or stop it{inherited.who_else()}"
                )
            with contextlib.suppress(OSError):  # a full disk: then the holder has no name
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
            drop_drafts(self.path)
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
            return not _try_lock(handle, fcntl.LOCK_SH)
        except OSError:  # no locks there
            return False
        finally:
            os.close(handle)

    def read_status(self) -> dict[str, Any]:
        """State, step, total_steps and message as last written; what is damaged is left out."""
        kinds: dict[str, type] = {"state": str, "message": str}
        kinds |= dict.fromkeys(("step", "total_steps", "num_rows", "num_evaluations"), int)
        found = read_json(self.status)
        return {k: v for k, v in found.items() if isinstance(v, kinds.get(k, object))}

    def write_status(
        self, state: str, step: int, total_steps: int, durable: bool = False, **more: Any
    ) -> None:
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
            write_json(self.status, status, durable)


def read_sweep(path: Path | str) -> dict[str, Any]:
    """The manifest of a sweep, e.g. of `results/sweeps/vit_proxy-lr_wd`.

    Returns:
        name, experiment, budget (trials per optimizer), seeds, conditions, axes (per optimizer:
        column and values), runs_dir, cells (run_id, optimizer, seed, settings, config), ...

    Raises:
        UserError: if there is none, or one of another version.
    """
    file = Path(path) / "manifest.json"
    was_there = file.exists()  # asked before: it may come just after it was looked for in vain
    manifest = read_json(file)
    if not manifest and was_there and file.exists():
        raise damaged_sweep(file)
    if not manifest:
        names = sorted(p.parent.name for p in file.parent.parent.glob("*/manifest.json"))
        there = f"; there are: {', '.join(names)}" if names else ""
        raise UserError(f"{file.parent}: no sweep there{there}")
    if manifest.get("schema_version") != MANIFEST_VERSION:
        raise UserError(f"{file}: made by another version; move the folder away and sweep anew")
    return manifest


def run_meant(name: str, known: Sequence[str]) -> str:
    """`; did you mean RUN_ID?` for the nearest run, which must be of the same experiment; or "".

    Args:
        name: What was asked for.
        known: Ids of the runs that there are.
    """
    page = name.partition("-")[0]
    same = [run for run in known if run.partition("-")[0] == page]
    near = difflib.get_close_matches(name, same, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def damaged_sweep(file: Path) -> UserError:
    """What to say of a manifest that cannot be read."""
    return UserError(
        f"{file} is damaged: move it away and call the sweep's own command again (what is "
        "finished is not trained again)"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The resolved configuration of a run, as plain dicts and lists.

    Raises:
        UserError: if the folder has none, or a damaged one.
    """
    import yaml

    path = Folder(folder).config
    try:
        plain = yaml.safe_load(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        known = {p.parent.name for p in folder.parent.glob("*/config.yaml")} - {folder.name}
        hint = run_meant(folder.name, sorted(known))
        if not folder.exists():
            hint = hint or ": train it first, or say results_dir=, where it lies"
            raise UserError(f"{folder.parent} has no run {folder.name}{hint}") from None
        reason = f"no readable configuration of a run ({type(error).__name__})"
        raise UserError(f"{path}: {reason}{hint}") from None
    if not isinstance(plain, dict):
        raise UserError(f"{path} is damaged: no configuration of a run")
    return plain
