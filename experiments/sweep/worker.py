"""A worker: takes cells of a sweep, one after another, until nothing is left.

    python -m experiments.sweep.worker results/sweeps/NAME

Every launcher starts these, on this machine or another; any number may share a sweep's folder.
SIGINT, SIGTERM, SIGHUP and SIGUSR2 save the run and end the worker.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments import launch
from experiments.checkpoint import CheckpointError
from experiments.config import RunConfig, UserError
from experiments.files import FULL, say
from experiments.store import Folder, HeldError
from experiments.sweep.leases import FAILED, KILLED, LOST, MAX_KILLS, Keeper, Lease
from experiments.sweep.manifest import Cell, Sweep
from experiments.sweep.pool import Finished
from experiments.sweep.signals import Listener, Told

PATIENCE_SECONDS = 1800.0
"""How long a full disk is waited for before it counts as a failure."""
ROOM_BYTES = 1 << 20
LOOK_AGAIN_SECONDS = 1.0
"""How long a holder that lives is not asked again: to ask costs several files."""


class Worker:
    """Works on one sweep; use `work`."""

    def __init__(self, path: Path, max_group: int = 1, pause_seconds: float = 2.0) -> None:
        self.sweep = Sweep(path)
        self.max_group = max_group
        self._pause = pause_seconds
        self._full_since: float | None = None
        self._is_full = False  # whether the last lease could not be written
        self._busy: dict[str, tuple[float, float]] = {}  # run id: pause, end of the pause
        self._unwritten: list[tuple[Lease, str, str]] = []  # outcomes that wait for a full disk
        self._at_work: dict[Lease, float] = {}  # when its holder was last seen to live
        self._places: dict[str, tuple[int, int]] = {}  # run id: its group, its place there
        self._keeper = Keeper(self.sweep.leases.seconds, _leave_at_once)

    def work(self, wait: bool = True, max_cells: int | None = None) -> int:
        """Trains cells until nothing is left.

        Args:
            wait: Whether to stay while others are at the last cells, in case they die.
            max_cells: Leave after as many.

        Returns:
            The exit code: 0, or 128 + the signal that ended it.
        """
        with Listener() as listener:
            try:
                while not listener.told and (max_cells is None or max_cells > 0):
                    taken, is_left = self._take()
                    if taken:
                        self._train(taken, listener)
                        max_cells = None if max_cells is None else max_cells - len(taken)
                        continue
                    if not is_left or not wait:
                        break
                    listener.sleep(self._pause)
            finally:
                self._write_outcomes()
                self._keeper.close()
        return 128 + listener.told if listener.told else 0

    def _take(self) -> tuple[list[tuple[Cell, Lease]], bool]:
        """The next cells with their leases, and whether any cell is left at all.

        Looks at no more cells than it must: those of which nobody has heard cost the most.
        """
        self._write_outcomes()
        self.sweep.refresh()
        leases = self.sweep.leases.scan()
        later: list[list[Cell]] = []
        is_left = False
        for group in self._groups():
            free = []
            for cell in group:
                if self._is_at_work(leases.get(cell.run_id)):
                    is_left = True
                    continue
                state = self.sweep.state(cell, leases.get(cell.run_id, []))
                if state == "running":
                    self._at_work[leases[cell.run_id][-1]] = time.monotonic()
                if state == "failed":
                    self._say_cure(leases[cell.run_id][-1])
                is_left |= state not in _SETTLED
                if state in (*_SETTLED, "running") or not self._may_try(cell):
                    continue
                if state == "retry":  # what may have taken others with it is tried alone
                    later.append([cell])
                else:
                    free.append(cell)
            if taken := self._claim_all(free, leases):
                return taken, True
        for group in later:
            if taken := self._claim_all(group, leases):
                return taken, True
        return [], is_left

    def _is_at_work(self, leases: list[Lease] | None) -> bool:
        """Whether the holder of the last lease was seen to live just now."""
        seen = self._at_work.get(leases[-1]) if leases else None
        return seen is not None and time.monotonic() - seen < LOOK_AGAIN_SECONDS

    def _claim_all(
        self, cells: list[Cell], leases: dict[str, list[Lease]]
    ) -> list[tuple[Cell, Lease]]:
        """Those of the cells that nobody was quicker to take."""
        claimed = [(c, self._claim(c, leases.get(c.run_id, []), len(cells))) for c in cells]
        return [(cell, lease) for cell, lease in claimed if lease is not None]

    def _say_cure(self, last: Lease) -> None:
        """Notes in the last lease of a cell that was killed too often what can be done."""
        if last.outcome is None:
            message = f"killed {MAX_KILLS} times in vain; {self.sweep.cure} tries again"
            with contextlib.suppress(OSError):
                last.release(KILLED, message)

    def _may_try(self, cell: Cell) -> bool:
        """False while a cell that somebody trains outside of the sweep is left alone."""
        return time.monotonic() >= self._busy.get(cell.run_id, (0.0, 0.0))[1]

    def _claim(self, cell: Cell, before: list[Lease], together: int) -> Lease | None:
        if self._is_full and not self._has_room():
            return None
        self._is_full = False
        try:
            step = self.sweep.checkpoint_step(cell)
            return self.sweep.leases.claim(cell.run_id, before, step=step, together=together)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._is_full = True
            return None  # later

    def _groups(self) -> Iterator[list[Cell]]:
        """The cells that may be left, those together that can be trained together."""
        cells = self.sweep.open_cells()
        if self.max_group == 1:
            yield from ([cell] for cell in cells)
            return
        states = self.sweep.states()
        usual = {c.run_id for c in cells if states[c.run_id] in ("waiting", "interrupted")}
        for group in self._alike([cell for cell in cells if cell.run_id in usual]):
            for at in range(0, len(group), self.max_group):
                yield group[at : at + self.max_group]
        yield from ([cell] for cell in cells if cell.run_id not in usual)

    def _alike(self, cells: list[Cell]) -> list[list[Cell]]:
        """The cells in groups that can be stacked; who is like whom is found out once."""
        if not self._places.keys() >= {cell.run_id for cell in cells}:
            from experiments.sweep import vectorised

            of_all = self.sweep.open_cells()
            groups = vectorised.groups([self.sweep.config(cell) for cell in of_all])
            self._places = {
                of_all[index].run_id: (number, at)
                for number, group in enumerate(groups)
                for at, index in enumerate(group)
            }
        ordered = sorted(cells, key=lambda cell: self._places[cell.run_id])
        alike = itertools.groupby(ordered, key=lambda cell: self._places[cell.run_id][0])
        return [list(group) for _, group in alike]

    def _train(self, taken: list[tuple[Cell, Lease]], listener: Listener) -> None:
        """Trains what was taken, and notes the outcome of each in its lease."""
        with contextlib.ExitStack() as stack:
            for _, lease in taken:
                stack.enter_context(self._keeper.holding(lease))
            configs = [self.sweep.config(cell) for cell, _ in taken]
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
        except (Told, KeyboardInterrupt):
            ended = []
        except Exception as error:
            state = "full" if is_full_disk(error) else "failed"
            if isinstance(error, HeldError):
                state = "busy"
            else:
                say(traceback.format_exc(), sys.stderr)
            message = f"{type(error).__name__}: {error}"
            ended = [Finished(index, state, message) for index in range(len(configs))]
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
            pause = min(300.0, 2 * self._busy.get(cell.run_id, (self._pause / 2, 0.0))[0])
            self._busy[cell.run_id] = pause, time.monotonic() + pause
            return "busy", ended.message
        if ended.state == "full" or not self._has_room():
            self._full_since = self._full_since or time.monotonic()
            if time.monotonic() - self._full_since < PATIENCE_SECONDS:
                return "full", ended.message
        return FAILED, f"{ended.message} (once failed for good, {self.sweep.cure} tries again)"

    def _has_room(self) -> bool:
        """Whether a megabyte can be written where the runs lie."""
        probe = Path(self.sweep.manifest["runs_dir"]) / f".room-{os.getpid()}"
        try:
            with probe.open("wb") as file:
                file.write(bytes(ROOM_BYTES))
            return True
        except OSError as error:
            return error.errno not in FULL
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)

    def _write_outcomes(self) -> None:
        waiting, self._unwritten = self._unwritten, []
        for lease, outcome, message in waiting:
            try:
                lease.release(outcome, message)
            except OSError:
                self._unwritten.append((lease, outcome, message))


_SETTLED = ("finished", "diverged", "failed")
_TOLD = (0, *(128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)))
"""Exit codes of processes that ended well, or were told to leave."""


def run_one(config: RunConfig) -> Finished:
    """Trains one cell, in this process or in the processes that it asks for."""
    if config.launch.num_processes > 1:
        code = launch.run(config)
        status = Folder(_folder_of(config)).read_status()
        if code in _TOLD:
            return Finished(0, status.get("state", "interrupted"), status.get("message", ""))
        message = status.get("message") if status.get("state") == "failed" else None
        return Finished(0, "failed", message or f"its processes ended with exit code {code}")
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
