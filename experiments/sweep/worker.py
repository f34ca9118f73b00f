"""A worker: takes cells of a sweep, one after another, until nothing is left.

    python -m experiments.sweep.worker results/sweeps/NAME

Every launcher starts these, on this machine or another; any number may share a sweep's folder.
SIGINT, SIGTERM, SIGHUP and SIGUSR2 save the run and end the worker.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from experiments import inherited, launch
from experiments.checkpoint import CheckpointError
from experiments.config import RunConfig, UserError
from experiments.files import FULL, say
from experiments.store import FINAL_STATES, Folder, HeldError
from experiments.sweep.leases import FAILED, KILLED, LOST, Keeper, Lease
from experiments.sweep.manifest import Cell, Sweep
from experiments.sweep.overtime import watched
from experiments.sweep.picking import Picker
from experiments.sweep.pool import Finished
from experiments.sweep.signals import Listener

FIRST_PAUSE_SECONDS = 0.25
"""How long a worker that finds no free cell waits at first: others are often at their ends, too."""
PATIENCE_SECONDS = 1800.0
"""How long a full disk is waited for before it counts as a failure."""


class Worker:
    """Works on one sweep; use `work`."""

    def __init__(self, path: Path, max_group: int = 1, pause_seconds: float = 2.0) -> None:
        self.sweep = Sweep(path)
        self._picker = Picker(self.sweep, max_group, pause_seconds)
        self._pause = pause_seconds
        self._full_since: float | None = None
        self._unwritten: list[tuple[Lease, str, str]] = []  # outcomes that wait for a full disk
        self._keeper = Keeper(self.sweep.leases.seconds, _leave_at_once)

    def work(self, wait: bool = True, max_cells: int | None = None) -> int:
        """Trains cells until nothing is left.

        Args:
            wait: Whether to stay while others are at the last cells, in case they die.
            max_cells: Leave after as many.

        Returns:
            The exit code: 0, or 128 + the signal that ended it.
        """
        inherited.forget_place()
        num_pauses = 0
        with Listener() as listener:
            try:
                while not listener.told and (max_cells is None or max_cells > 0):
                    self._write_outcomes()
                    taken, is_left = self._picker.take(asks_anew=num_pauses > 0)
                    if taken:
                        num_pauses = 0
                        self._train(taken, listener)
                        max_cells = None if max_cells is None else max_cells - len(taken)
                        continue
                    if not is_left or not wait:
                        break
                    listener.sleep(min(self._pause, FIRST_PAUSE_SECONDS * 2 ** min(num_pauses, 9)))
                    num_pauses += 1
            finally:
                self._write_outcomes()
                self._keeper.close()
        return 128 + listener.told if listener.told else 0

    def _train(self, taken: list[tuple[Cell, Lease]], listener: Listener) -> None:
        """Trains what was taken, and notes the outcome of each in its lease.

        Raises:
            ConfigError: if a cell cannot be trained by this version; it counts as no try.
        """
        try:
            configs = [self.sweep.config(cell) for cell, _ in taken]
        except UserError:
            self._unwritten += [(lease, "interrupted", "") for _, lease in taken]
            raise
        with contextlib.ExitStack() as stack:
            for _, lease in taken:
                stack.enter_context(self._keeper.holding(lease))
            limit = self.sweep.manifest.get("limit")
            stack.enter_context(watched([lease for _, lease in taken], limit))
            for ended in self._run(configs, listener):
                cell, lease = taken[ended.index]
                state, message = self._judge(cell, ended)
                self._unwritten.append((lease, state, message))
                if ended.state == "interrupted" and not listener.told:  # the run took the signal
                    listener.told = signal.SIGTERM
        self._write_outcomes()
        if self._full_since is not None:
            listener.sleep(min(60.0, self._pause + time.monotonic() - self._full_since))

    def _run(self, configs: Sequence[RunConfig], listener: Listener) -> list[Finished]:
        """What became of each; whatever goes wrong is a result, too."""
        try:
            with listener.armed():
                if len(configs) > 1:
                    from experiments.sweep import vectorised

                    ended = vectorised.run_group(configs)
                else:
                    ended = [run_one(configs[0])]
        except KeyboardInterrupt:  # or `Told`
            ended = []
        except Exception as error:
            state = "full" if is_full_disk(error) else "failed"
            if isinstance(error, HeldError):
                state = "busy"
            else:
                say(traceback.format_exc(), sys.stderr)
            message = f"{type(error).__name__}: {error}"
            is_own = len(configs) == 1
            ended = [Finished(index, state, message, is_own) for index in range(len(configs))]
        missing = set(range(len(configs))) - {one.index for one in ended}
        return [*ended, *(Finished(index, "interrupted") for index in sorted(missing))]

    def _judge(self, cell: Cell, ended: Finished) -> tuple[str, str]:
        """The outcome to note: what is nobody's fault does not count as a try."""
        if ended.state == "interrupted":  # perhaps just after its end
            return self.sweep.final_state(cell) or ended.state, ended.message
        if ended.state not in ("failed", "full", "busy"):
            self._full_since = None
            return ended.state, ended.message
        if ended.state == "busy" or self.sweep.folder(cell).is_held():
            self._picker.leave_alone(cell)
            return "busy", ended.message
        if ended.state == "full" or not self._picker.has_room():
            self._full_since = self._full_since or time.monotonic()
            if time.monotonic() - self._full_since < PATIENCE_SECONDS:
                return "full", ended.message
        word = FAILED if ended.is_own else KILLED  # then it is tried alone
        return word, f"{ended.message} (once failed for good, {self.sweep.cure} tries again)"

    def _write_outcomes(self) -> None:
        waiting, self._unwritten = self._unwritten, []
        for lease, outcome, message in waiting:
            try:
                lease.release(outcome, message)
            except OSError:
                self._unwritten.append((lease, outcome, message))


_TOLD = (0, *(128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)))
"""Exit codes of processes that ended well, or were told to leave."""


def run_one(config: RunConfig) -> Finished:
    """Trains one cell, in this process or in the processes that it asks for."""
    if config.launch.num_processes > 1:
        causes: list[str] = []
        code = launch.run(config, causes)
        status = Folder(_folder_of(config)).read_status()
        if code in _TOLD:
            if code and status.get("state") not in (*FINAL_STATES, "interrupted"):
                status = {}  # of an earlier session: told before they had begun
            return Finished(0, status.get("state", "interrupted"), status.get("message", ""))
        # The status is the main process's: it may have been left alone, or be of an earlier try.
        said = status.get("message") if status.get("state") == "failed" else None
        message = "; ".join(causes) or said or f"its processes ended with exit code {code}"
        return Finished(0, "failed", message)
    from experiments import runner

    outcome = runner.run(config)
    return Finished(0, outcome.state, outcome.message)


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is a disk without room."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if isinstance(error, CheckpointError) and isinstance(error.__cause__, RuntimeError):
            return True  # how torch reports it
        error = error.__cause__ or error.__context__
    return False


def _folder_of(config: RunConfig) -> Path:
    from experiments.identity import run_id

    return Path(config.results_dir) / run_id(config)


def _leave_at_once(lease: Lease) -> None:
    """Another worker has the cell: nothing more may be written."""
    say(f"{lease.run_id}: taken over by another worker; leaving\n", sys.stderr)
    os._exit(LOST)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", type=Path, help="the sweep's folder")
    parser.add_argument("--no-wait", action="store_true", help="leave when others have the rest")
    parser.add_argument("--max-cells", type=int, help="leave after so many cells")
    parser.add_argument("--max-group", type=int, default=1, help="cells to train together")
    args = parser.parse_args(arguments)
    try:
        return Worker(args.path, args.max_group).work(not args.no_wait, args.max_cells)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
