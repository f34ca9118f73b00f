"""How a sweep goes, while it goes: a line per running cell, and the time left."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from experiments.files import say
from experiments.sweep.manifest import Cell, Sweep

REFRESH_SECONDS = 1.0
PLAIN_SECONDS = 60.0


class Live:
    """A live view on a terminal, a line per minute elsewhere. Use as a context."""

    def __init__(self, sweep: Sweep, num_workers: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._sweep = sweep
        self._pace = Pace()
        console = Console(stderr=True)
        self._is_terminal = console.is_terminal
        self._shown_at = 0.0
        self._said_at = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._view = Progress(*columns, console=console, refresh_per_second=4)
        cells = len(sweep.cells)
        done = sum(sweep.final_state(cell) is not None for cell in sweep.cells)
        if not sweep.manifest.get("quiet"):
            say(
                f"{sweep.name}: {cells - done} of {cells} cells to train, {num_workers} at a time. "
                "Ctrl-C saves; the next call goes on.\n",
                sys.stdout,
            )
        self._total = self._view.add_task("cells", total=cells, completed=done, note="starting")
        self._lines: dict[str, Any] = {}

    def __enter__(self) -> Live:
        if self._is_terminal:
            self._view.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            self._view.stop()

    def show(self) -> None:
        """Refreshes what is shown; cheap to call often."""
        now = time.monotonic()
        if now - self._shown_at < REFRESH_SECONDS:
            return
        self._shown_at = now
        states = self._sweep.states()
        counts = Counter(states.values())
        progress = list(_progress(self._sweep, states))
        left = self._pace.left(sum(part for _, part, _ in progress), len(states))
        bad = [f"{counts[kind]} {kind}" for kind in ("diverged", "failed", "retry") if counts[kind]]
        note = ", ".join([*bad, left] if left else bad)
        done = counts["finished"] + counts["diverged"]
        if not self._is_terminal:
            if now - self._said_at > PLAIN_SECONDS:
                self._said_at = now
                say(f"{done} of {len(states)} cells {note}".strip() + "\n", sys.stdout)
            return
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            self._view.update(self._total, completed=done, note=note)
            self._show_running(states)

    def _show_running(self, states: dict[str, str]) -> None:
        running = {c.run_id: c for c in self._sweep.cells if states[c.run_id] == "running"}
        for gone in [run for run in self._lines if run not in running]:
            self._view.remove_task(self._lines.pop(gone))
        for run, cell in running.items():
            status = self._sweep.folder(cell).read_status()
            if run not in self._lines:
                self._lines[run] = self._view.add_task(cell.title, total=None, note="")
            note = "loading"
            if isinstance(status.get("loss"), float) and "steps_per_second" in status:
                note = f"loss {status['loss']:.3f}  {status['steps_per_second']:.0f} it/s"
            step, total = status.get("step", 0), status.get("total_steps")
            self._view.update(self._lines[run], completed=step, total=total, note=note)


def _progress(sweep: Sweep, states: dict[str, str]) -> Iterator[tuple[Cell, float, str]]:
    """Each cell with the part of it that is done, 0 to 1."""
    for cell in sweep.cells:
        state = states[cell.run_id]
        part = float(state in ("finished", "diverged", "failed"))
        if not part and state != "waiting":
            status = sweep.folder(cell).read_status()
            part = status.get("step", 0) / max(1, status.get("total_steps") or 1)
        yield cell, part, state


class Pace:
    """Guesses the time left from what was done since the first look."""

    def __init__(self) -> None:
        self._start: tuple[float, float] | None = None

    def left(self, done: float, total: int) -> str:
        """E.g. `1:20 left`; empty until there is something to go by.

        Args:
            done: Cells done, running ones in part.
            total: All cells.
        """
        now = time.monotonic()
        if self._start is None:
            self._start = now, done
        rate = (done - self._start[1]) / max(now - self._start[0], 1e-9)
        return f"{duration((total - done) / rate)} left" if rate > 0 else ""


def duration(seconds: float) -> str:
    """E.g. 1:20, or 2 h 05 min, or 3 d 4 h."""
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole // 60 % 60:02d} min"
    return f"{whole // 86400} d {whole // 3600 % 24} h"
