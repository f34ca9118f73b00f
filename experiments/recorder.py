"""What a run says and writes while it goes on: ledger, status, log, live line, mirrors.

Only the main process writes and speaks; in the others every method does nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments import ended, header, sources
from experiments.config import RunConfig, UserError
from experiments.distributed import World, check_same_run
from experiments.identity import run_id
from experiments.ledger import NO_EVALUATIONS, digest, evaluations_at, key_of, num_lost
from experiments.left_alone import understood
from experiments.live_line import LiveLine, duration
from experiments.store import Folder, Ledger, now, read_json, read_rows, write_json
from experiments.surroundings import surroundings
from experiments.tracking import Mirror, open_mirrors

PROGRESS_SECONDS = 0.5
"""Least time between two refreshes of the live line."""
GO_ON = "free some space and call the same command again"
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
        self.is_lacking = False  # whether measurements up to the start are lost
        self.step = 0
        self._mirrors: list[Mirror] = []
        self._status_at = self._progress_at = 0.0
        self._speaks = speaks
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
            check_same_run(world, recorder.run_id)
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
        """True in every process if this run has ended for good before.

        See `experiments.ended`, which says what is lost or has changed since.

        Raises:
            UserError: in every process, where its ledger cannot be read.
        """
        over, problem = False, ""
        if self.world.is_main:
            try:
                over = ended.is_over(self.folder, self.config, self.tell)
            except UserError as error:
                problem = str(error)
        over, problem = self.world.share((over, problem))
        if problem:
            raise UserError(problem)
        return over

    def start(self, start_step: int, total_steps: int, together: int = 1, **facts: Any) -> None:
        """Opens a session: trims what a killed one left, notes where and with what it runs.

        Args:
            start_step: Steps done.
            total_steps: Steps of the whole run.
            together: How many runs are trained as one.
            facts: What holds for the whole run, for the header.

        Raises:
            UserError: if the folder cannot be written.
        """
        self.step, self.total_steps = start_step, total_steps
        if not self.world.is_main:
            return
        try:
            self._open_session(together, facts)
        except OSError as error:
            reason = f"cannot write in {self.folder.path}: {error.strerror or error}"
            raise UserError(f"{reason}; {GO_ON}") from error
        verb = "resumed" if start_step else "started"
        self.log(f"{self.run_id}: {verb} at step {start_step} of {total_steps}")
        self._mirrors = open_mirrors(
            self.config, self.folder, self.run_id, is_resumed=self.session > 0, tell=self.log
        )

    def _open_session(self, together: int, facts: dict[str, Any]) -> None:
        header.keep_config(self.folder, self.config)
        self.ledger.start_after(self.step)
        session = {
            "start_step": self.step,
            "started": now(),
            **surroundings(self.world, together),
            "sources": sources.hashes(self.config),
        }
        whole, kept = header.whole(self.folder, self.config, facts, self._rows())
        if kept:
            self.log(f"{self.run_id}: run.json was damaged: made anew, the old one is {kept}")
        if whole["sessions"] and (differs := sources.difference(whole["sessions"][-1], session)):
            self.log(f"{self.run_id}: going on, though {differs}")
        self.session = len(whole["sessions"])
        whole["sessions"].append(session)
        write_json(self.folder.header, whole, durable=True)
        self.folder.write_status("running", self.step, self.total_steps)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends measurements to the ledger and its mirrors."""
        if not self.world.is_main:
            return
        rows = [{**row, "session": self.session} for row in rows]
        self.ledger.append(rows)
        for mirror in self._mirrors:
            mirror.add(rows)

    def tell(self, line: str) -> None:
        """Shows a line, though no progress is wanted; the log stays as it is."""
        if self.world.is_main and self._speaks:
            self._live.print(line, always=True)

    def log(self, line: str) -> None:
        """Adds a line to the log, and shows it unless progress is off."""
        if not self.world.is_main:
            return
        with contextlib.suppress(OSError), self.folder.log.open("ab") as file:
            file.write(f"{now()} {line}\n".encode(errors="backslashreplace"))
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
            f"{samples_per_second:,.0f} samples/s  {duration(seconds_left)} left"
        )
        if time.monotonic() - self._status_at > STATUS_SECONDS:
            self._status_at = time.monotonic()
            facts: dict[str, Any] = {
                "loss": loss,
                "lr": lr,
                "steps_per_second": round(steps_per_second, 3),
            }
            self.folder.write_status("running", step, self.total_steps, **facts)

    def end(self, state: str, step: int, message: str = "") -> None:
        """Closes the session; the state is final if it is in `store.FINAL_STATES`.

        Raises:
            UserError: if measurements could not be written; then the run is not over.
        """
        if not self.world.is_main:
            return
        self.flush()
        self._close_mirrors()
        self._has_ended = True  # before: what interrupts us here must not make it a failure
        rows = self._rows()
        counted: dict[str, Any] = {
            "num_rows": len(rows),
            "num_evaluations": evaluations_at(step, rows),
        }
        counted["ledger"] = digest(self.folder.metrics)
        self.folder.write_status(
            state, step, self.total_steps, message=message, durable=True, **counted
        )
        self.log(f"{self.run_id}: {state} at step {step} of {self.total_steps} {message}".strip())

    def resume_rows(self) -> None:
        """Adds to the newest session without opening one."""
        sessions = header.sessions_of(read_json(self.folder.header))
        self.session = max(0, len(sessions or []) - 1)

    def read_status(self) -> dict[str, Any]:
        """State, step and message as last written."""
        return self.folder.read_status()

    def flush(self) -> None:
        """Writes what waits, so that it survives a power loss.

        Raises:
            UserError: if it cannot be written.
        """
        if not self.world.is_main:
            return
        try:
            self.ledger.close()
        except OSError as error:
            reason = f"cannot write {self.ledger.path}: {error.strerror or error}"
            raise UserError(f"{reason}; {GO_ON}") from error

    def compare_data(self, fingerprint: Any) -> None:
        """Says so where the data are not those that the run began with."""
        if not self.world.is_main:
            return
        before = read_json(self.folder.header).get("data_fingerprint")
        more = f"{before} "  # that it held less once is no change
        if before and fingerprint and before != fingerprint and not fingerprint.startswith(more):
            self.log(
                f"{self.run_id}: the data differ from those that it began with "
                f"(fingerprint {before}, now {fingerprint})"
            )

    def num_lost(self, counted: Any, step: int) -> int:
        """How many measurements are gone that a checkpoint of a step counted; main process only."""
        return num_lost(self.folder.metrics, counted, step)

    def lacks(self, step: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those measurements of a step that the ledger does not have."""
        there = {key_of(row) for row in self._rows() if row["step"] == step}
        return [row for row in rows if key_of(row) not in there]

    def has_evaluation(self, step: int) -> bool:
        """The same in every process: whether the ledger has the evaluation of a step."""
        found = self.world.is_main and evaluations_at(step, self._rows()) > 0
        return self.world.share(found and not self.is_lacking)

    def _rows(self) -> list[dict[str, Any]]:
        return read_rows(self.folder.metrics)

    def _close_mirrors(self) -> None:
        while self._mirrors:
            self._mirrors.pop().close()

    def last_evaluation(self) -> list[dict[str, Any]]:
        """The rows of the last step that was evaluated."""
        rows = [r for r in self._rows() if r["split"] not in NO_EVALUATIONS]
        last = max((row["step"] for row in rows), default=0)
        return [row for row in rows if row["step"] == last]

    def _fail(self, error: BaseException) -> None:
        if self.world.is_main and self.total_steps and not self._has_ended:
            error = understood(error)
            state, reason = "failed", f"{type(error).__name__}: {error}"
            if isinstance(error, KeyboardInterrupt):  # between two moments in which it could save
                state, reason = "interrupted", "told to stop at once; the same command goes on"
            with contextlib.suppress(OSError):
                self.ledger.close()
            self.folder.write_status(state, self.step, self.total_steps, message=reason)
