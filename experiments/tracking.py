"""Mirrors of the ledger: wandb and TensorBoard. Never the source, never needed, never in the way.

Each mirror runs in a thread of its own and takes the ledger's rows from a queue. Whatever goes
wrong there, while importing, starting, writing or ending, is one warning; the run goes on.
"""

from __future__ import annotations

import os
import queue
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from experiments.config import RunConfig, TrackingConfig, to_dict

CLOSE_SECONDS = 60.0
"""How long the end of a run waits for a mirror to finish."""

Rows = Iterable[dict[str, Any]]
Writer = tuple[Callable[[int, dict[str, float]], None], Callable[[], None]]


class Mirror:
    """Copies rows to one service."""

    def __init__(self, name: str, start: Callable[[], Writer]) -> None:
        self.name = name
        self._start = start
        self._rows: queue.SimpleQueue[list[dict[str, Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def add(self, rows: Rows) -> None:
        """Hands rows over; returns at once."""
        self._rows.put(list(rows))

    def close(self) -> None:
        """Waits for the rows to be written, but not for ever."""
        self._rows.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            warnings.warn(f"{self.name} did not finish in {CLOSE_SECONDS:.0f} s", stacklevel=2)

    def _work(self) -> None:
        try:
            write, finish = self._start()
            while (rows := self._rows.get()) is not None:
                for step, values in _by_step(rows):
                    write(step, values)
            finish()
        except Exception as error:  # a service must never stop a run
            warnings.warn(f"{self.name} is off: {type(error).__name__}: {error}", stacklevel=2)


def open_mirrors(config: RunConfig, folder: Path, run_id: str) -> list[Mirror]:
    """The mirrors that the configuration asks for."""
    tracking, mirrors = config.tracking, []
    if tracking.wandb != "disabled":
        mirrors.append(Mirror("wandb", lambda: _start_wandb(tracking, config, folder, run_id)))
    if tracking.tensorboard:
        mirrors.append(Mirror("tensorboard", lambda: _start_tensorboard(folder)))
    return mirrors


def _start_wandb(tracking: TrackingConfig, config: RunConfig, folder: Path, run_id: str) -> Writer:
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    run = wandb.init(
        project=tracking.wandb_project,
        id=run_id,
        name=run_id,
        group=config.experiment,
        tags=[config.scale, config.optimizer_name],
        config=to_dict(config),
        dir=str(folder),
        mode="online" if tracking.wandb == "online" else "offline",
        resume="allow",
        settings=wandb.Settings(x_disable_stats=True, console="off"),
    )
    return (lambda step, values: run.log(values, step=step)), run.finish


def _start_tensorboard(folder: Path) -> Writer:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def write(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return write, writer.close


def _by_step(rows: list[dict[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    """Groups rows to one entry per step, named split/metric (and /ema for averaged weights)."""
    steps: dict[int, dict[str, float]] = {}
    for row in rows:
        suffix = "" if row["weights"] == "raw" else f"/{row['weights']}"
        name = f"{row['split']}/{row['metric']}{suffix}"
        steps.setdefault(row["step"], {})[name] = float(row["value"])
    return sorted(steps.items())
