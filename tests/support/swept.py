"""Small sweeps and their workers, forked so that they start at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import forked
import tiny

from experiments.config import RunConfig
from experiments.store import read_json, read_rows
from experiments.sweep import writing
from experiments.sweep.manifest import Cell, Sweep
from experiments.sweep.worker import Worker

_fork = multiprocessing.get_context("fork")
_TIMES = ("seconds", "session")


def cells(root: Path, number: int, **changes: Any) -> list[Cell]:
    """Cells that differ in lr and seed; their runs lie in `root/runs`."""
    made = []
    for index in range(number):
        config = tiny.config(root / "runs", seed=index % 3, **changes)
        config.optimizer["lr"] = lr = 1e-3 * (1 + index // 3)
        made.append(Cell.of(config, {"optimizer.lr": lr}))
    return made


def sweep(root: Path, planned: Sequence[Cell], **settings: Any) -> Sweep:
    """A sweep's folder in `root/sweeps/trial`."""
    return writing.write(root / "sweeps" / "trial", planned, **settings)


def cell_of(config: RunConfig, **settings: Any) -> Cell:
    """A cell of any configuration."""
    return Cell.of(config, settings)


def start(path: Path, **options: Any) -> BaseProcess:
    """Starts a worker; it exits with the worker's code."""

    def work() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        group = options.pop("max_group", 1)
        os._exit(Worker(path, group, pause_seconds=0.05).work(**options))

    process = _fork.Process(target=work)
    process.start()
    return process


def work(path: Path, **options: Any) -> int:
    """Runs one worker to its end; returns its exit code."""
    return forked.join(start(path, **options))


def outcomes(of: Sweep) -> dict[str, list[str | None]]:
    """What became of each cell's leases, in order."""
    return {run: [lease.outcome for lease in all_of] for run, all_of in of.leases.scan().items()}


def rows(of: Sweep, cell: Cell) -> list[dict[str, Any]]:
    """A run's measurements without what a clock has measured."""
    kept = [r for r in read_rows(of.folder(cell).metrics) if r["split"] != "run"]
    return [{k: v for k, v in row.items() if k not in _TIMES} for row in kept]


def check_whole(
    of: Sweep,
    reference: dict[str, list[dict[str, Any]]],
    once: bool = True,
    killed: bool = False,
) -> None:
    """Every cell is finished, and its ledger is that of an undisturbed run, line by line.

    `once`: no second lease found it finished (one whose outcome could not be written may expire).
    `killed`: a holder may have died behind the end of its run, before it could note that.
    """
    assert set(of.states().values()) == {"finished"}
    for cell in of.cells:
        assert read_json(of.folder(cell).status)["state"] == "finished"
        told = outcomes(of)[cell.run_id]
        finished, is_untold = told.count("finished"), killed and told[-1] is None
        assert finished == (not is_untold) or (finished and not once), told
        text = of.folder(cell).metrics.read_text()
        assert text.endswith("\n")
        keys = [
            tuple(row[k] for k in ("step", "split", "metric", "weights"))
            for row in map(json.loads, text.splitlines())
        ]
        assert len(keys) == len(set(keys)), "a row is doubled"
        assert rows(of, cell) == reference[cell.run_id]
