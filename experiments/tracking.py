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
from experiments.packages import remedy
from experiments.store import Folder, read_rows

CLOSE_SECONDS = 60.0
"""How long the end of a run waits for a mirror to finish."""

Rows = Iterable[dict[str, Any]]
Writer = tuple[Callable[[int, dict[str, Any]], None], Callable[[], None]]


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
            said = f"{self.name} is off: {type(error).__name__}: {error}"
            warnings.warn(": ".join(filter(None, [said, remedy(error)])), stacklevel=2)


def open_mirrors(
    config: RunConfig,
    folder: Folder,
    run_id: str,
    is_resumed: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Mirror]:
    """The mirrors that the configuration asks for.

    Offline, wandb cannot go on with a run: each session makes a folder of its own, and one that is
    synced replaces another of the same id. So the folder of a later session begins with the rows
    of the earlier ones, and the newest is whole.

    Args:
        config: Of the run.
        folder: Of the run; its ledger is trimmed to the step that is resumed from.
        run_id: Of the run.
        is_resumed: Whether this is a later session.
        tell: Takes a line for the log.
    """
    tracking, path, mirrors = config.tracking, folder.path, []
    if tracking.wandb != "disabled":
        mirrors.append(Mirror("wandb", lambda: _start_wandb(tracking, config, path, run_id)))
        if is_resumed and tracking.wandb == "offline":
            mirrors[-1].add(read_rows(folder.metrics))
            tell(f"wandb: the newest folder in {path / 'wandb'} holds the whole run: sync that one")
    if tracking.tensorboard:
        mirrors.append(Mirror("tensorboard", lambda: _start_tensorboard(path)))
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

    def write(step: int, values: dict[str, Any]) -> None:
        shown = {
            name: wandb.Image(str(folder / value)) if isinstance(value, Path) else value
            for name, value in values.items()
        }
        run.log(shown, step=step)

    return write, run.finish


def _start_tensorboard(folder: Path) -> Writer:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def write(step: int, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, Path):
                writer.add_image(name, _pixels(folder / value), step, dataformats="HWC")
            else:
                writer.add_scalar(name, value, step)

    return write, writer.close


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _by_step(rows: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Groups rows to one entry per step, named split/metric (and /ema for averaged weights).

    A row's picture, a file in the run's folder, is an entry of its own.
    """
    steps: dict[int, dict[str, Any]] = {}
    for row in rows:
        suffix = "" if row["weights"] == "raw" else f"/{row['weights']}"
        name = f"{row['split']}/{row['metric']}{suffix}"
        entry = steps.setdefault(row["step"], {})
        entry[name] = float(row["value"])
        if row.get("picture"):
            entry[f"pictures/{name}"] = Path(row["picture"])
    return sorted(steps.items())
