"""What a run says and writes while it goes on: ledger, status, log, live line, mirrors.

Only the main process writes and speaks; in the others every method does nothing.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.config import RunConfig, UserError, to_dict
from experiments.distributed import World
from experiments.identity import run_id
from experiments.store import (
    FINAL_STATES,
    SCHEMA_VERSION,
    Folder,
    Ledger,
    now,
    read_json,
    read_rows,
    write_json,
    write_text,
)
from experiments.surroundings import surroundings
from experiments.tracking import Mirror, open_mirrors

PROGRESS_SECONDS = 0.5
"""Least time between two refreshes of the live line."""
OTHERS = ("train", "run", "landscape")
"""Splits of the ledger that are no evaluation."""
STATUS_SECONDS = 1.0
"""Least time between two updates of the status file."""


class Recorder:
    """The writing side of one run's folder. Use `opened`."""

    def __init__(self, config: RunConfig, world: World, speaks: bool = True) -> None:
        self.config = config
        self.world = world
        self.run_id = run_id(config)
        self.folder = Folder(Path(config.results_dir) / self.run_id)
        self.ledger = Ledger(self.folder.metrics)
        self.session = 0
        self.total_steps = 0
        self._has_ended = False
        self.step = 0
        self._mirrors: list[Mirror] = []
        self._status_at = self._progress_at = 0.0
        self._live = LiveLine(speaks and config.launch.progress and world.is_main)

    @classmethod
    @contextlib.contextmanager
    def opened(cls, config: RunConfig, world: World, speaks: bool = True) -> Iterator[Recorder]:
        """Takes the run's folder for this run alone; notes how the run ended.

        Args:
            config: The run.
            world: Its processes.
            speaks: Whether it may use the terminal; many runs at once may not.

        Raises:
            UserError: in every process, if another run holds the folder.
        """
        recorder = cls(config, world, speaks)
        with contextlib.ExitStack() as stack:
            problem, cause = "", None
            if world.is_main:
                try:
                    stack.enter_context(recorder.folder.locked())
                except (UserError, OSError) as error:
                    problem, cause = str(error), error
            if problem := world.share(problem):
                raise cause if isinstance(cause, UserError) else UserError(problem)
            try:
                yield recorder
            except BaseException as error:
                recorder._fail(error)
                raise
            finally:
                recorder._close_mirrors()
                recorder._live.close()

    @property
    def is_over(self) -> bool:
        """True in every process if this run has ended for good before."""
        state = read_json(self.folder.status).get("state") if self.world.is_main else None
        return self.world.share(state in FINAL_STATES)

    def start(self, start_step: int, total_steps: int, together: int = 1, **facts: Any) -> None:
        """Opens a session: trims what a killed one left, notes where and with what it runs.

        Args:
            start_step: Steps done.
            total_steps: Steps of the whole run.
            together: How many runs are trained as one.
            facts: What holds for the whole run, for the header.
        """
        self.step, self.total_steps = start_step, total_steps
        if not self.world.is_main:
            return
        self.ledger.start_after(start_step)
        header = read_json(self.folder.header) or self._header(facts)
        sessions = header["sessions"]
        self.session = len(sessions)
        sessions.append(
            {"start_step": start_step, "started": now(), **surroundings(self.world, together)}
        )
        write_json(self.folder.header, header)
        if self.session == 0:
            write_text(self.folder.config, _to_yaml(to_dict(self.config)))
        self._mirrors = open_mirrors(self.config, self.folder.path, self.run_id)
        self.folder.write_status("running", start_step, total_steps)
        verb = "resumed" if start_step else "started"
        self.log(f"{self.run_id}: {verb} at step {start_step} of {total_steps}")

    def _header(self, facts: dict[str, Any]) -> dict[str, Any]:
        config, optimizer = self.config, self.config.optimizer
        settings = {k: v for k, v in optimizer.items() if k != "_partial_"}
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.run_id,
            "experiment": config.experiment,
            "scale": config.scale,
            "stands_for": config.stands_for,
            "optimizer": config.optimizer_name,
            "lr": optimizer.get("lr"),
            "weight_decay": optimizer.get("weight_decay"),
            "hyper_parameters": json.dumps(settings, sort_keys=True),
            "batch_size": config.train.batch_size,
            "seed": config.seed,
            "provenance": config.provenance.source,
            **facts,
            "sessions": [],
        }

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends measurements to the ledger and its mirrors."""
        if not self.world.is_main:
            return
        rows = [{**row, "session": self.session} for row in rows]
        self.ledger.append(rows)
        for mirror in self._mirrors:
            mirror.add(rows)

    def log(self, line: str) -> None:
        """Adds a line to the log, and shows it unless progress is off."""
        if not self.world.is_main:
            return
        with contextlib.suppress(OSError), self.folder.log.open("a") as file:
            file.write(f"{now()} {line}\n")
        self._live.print(line)

    @property
    def wants_progress(self) -> bool:
        """True when it is time for `progress`; asking for the loss each step would be slow."""
        return self.world.is_main and time.monotonic() - self._progress_at > PROGRESS_SECONDS

    def progress(self, step: int, loss: float, lr: float, samples_per_second: float) -> None:
        """Refreshes the live line and, now and then, the status file."""
        self.step, self._progress_at = step, time.monotonic()
        if not samples_per_second:  # the first call only starts the clock
            return
        steps_per_second = samples_per_second / self.config.train.batch_size
        seconds_left = (self.total_steps - step) / max(steps_per_second, 1e-9)
        self._live.show(
            f"step {step}/{self.total_steps}  loss {loss:.4f}  lr {lr:.2e}  "
            f"{samples_per_second:,.0f} samples/s  {_duration(seconds_left)} left"
        )
        if time.monotonic() - self._status_at > STATUS_SECONDS:
            self._status_at = time.monotonic()
            facts = {"loss": loss, "lr": lr, "steps_per_second": round(steps_per_second, 3)}
            self.folder.write_status("running", step, self.total_steps, **facts)

    def end(self, state: str, step: int, message: str = "") -> None:
        """Closes the session; the state is final if it is in `store.FINAL_STATES`.

        Raises:
            OSError: if measurements could not be written; then the run is not over.
        """
        if not self.world.is_main:
            return
        self.ledger.close()
        self._close_mirrors()
        self._has_ended = True  # before: what interrupts us here must not make it a failure
        self.folder.write_status(state, step, self.total_steps, message=message)
        self.log(f"{self.run_id}: {state} at step {step} of {self.total_steps} {message}".strip())

    def resume_rows(self) -> None:
        """Adds to the newest session without opening one."""
        self.session = len(read_json(self.folder.header).get("sessions", [0])) - 1

    def read_status(self) -> dict[str, Any]:
        """State, step and message as last written."""
        return read_json(self.folder.status)

    def flush(self) -> None:
        """Writes what waits.

        Raises:
            OSError: if it cannot be written.
        """
        if self.world.is_main:
            self.ledger.close()

    def _close_mirrors(self) -> None:
        while self._mirrors:
            self._mirrors.pop().close()

    def last_evaluation(self) -> list[dict[str, Any]]:
        """The rows of the last step that was evaluated."""
        rows = [r for r in read_rows(self.folder.metrics) if r["split"] not in OTHERS]
        return [r for r in rows if r["step"] == rows[-1]["step"]]

    def _fail(self, error: BaseException) -> None:
        if self.world.is_main and self.total_steps and not self._has_ended:
            reason = f"{type(error).__name__}: {error}"
            with contextlib.suppress(OSError):
                self.ledger.close()
            self.folder.write_status("failed", self.step, self.total_steps, message=reason)


class LiveLine:
    """One line on the terminal that is rewritten; plain lines where there is no terminal."""

    PLAIN_SECONDS = 30.0

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._is_terminal = wanted and sys.stderr.isatty()
        self._shown_at = time.monotonic()
        self._is_open = False

    def show(self, text: str) -> None:
        """Replaces the live line; without a terminal, says it now and then."""
        pause = 0.0 if self._is_terminal else self.PLAIN_SECONDS
        if not self.wanted or time.monotonic() - self._shown_at < pause:
            return
        self._shown_at = time.monotonic()
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[2K{text}")
            self._is_open = True
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def print(self, line: str) -> None:
        """Writes a line that stays."""
        if self.wanted:
            self.close()
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clears the live line."""
        if self._is_open:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._is_open = False


def _to_yaml(plain: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(plain, sort_keys=False)


def _duration(seconds: float) -> str:
    whole = int(min(seconds, 1e7))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
