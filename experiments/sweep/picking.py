"""Which cells of a sweep a worker takes next."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from experiments.files import FULL
from experiments.sweep.leases import KILLED, MAX_KILLS, Lease
from experiments.sweep.manifest import Cell, Sweep

ROOM_BYTES = 1 << 20
LOOK_AGAIN_SECONDS = 1.0
"""How long a holder that lives is not asked again: to ask costs several files."""
_SETTLED = ("finished", "diverged", "failed")


class Picker:
    """Takes cells of one sweep, for one worker."""

    def __init__(self, sweep: Sweep, max_group: int, pause_seconds: float) -> None:
        self._sweep = sweep
        self._max_group = max_group
        self._pause = pause_seconds
        self._is_full = False  # whether the last lease could not be written
        self._busy: dict[str, tuple[float, float]] = {}  # run id: pause, end of the pause
        self._at_work: dict[Lease, float] = {}  # when its holder was last seen to live
        self._places: dict[str, tuple[int, int]] = {}  # run id: its group, its place there

    def take(self, asks_anew: bool = False) -> tuple[list[tuple[Cell, Lease]], bool]:
        """The next cells with their leases, and whether any cell is left at all.

        Looks at no more cells than it must: those of which nobody has heard cost the most.

        Args:
            asks_anew: Whether holders that were seen to live just now are asked again.
        """
        if asks_anew:
            self._at_work.clear()
        self._sweep.refresh()
        leases = self._sweep.leases.scan()
        later: list[list[Cell]] = []
        is_left = False
        for group in self._groups():
            free = []
            for cell in group:
                if self._is_at_work(leases.get(cell.run_id)):
                    is_left = True
                    continue
                state = self._sweep.state(cell, leases.get(cell.run_id, []))
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
        """Those of the cells that nobody was quicker to take.

        Their leases say how many were wanted. Where fewer were had, a crash is taken for nobody's
        fault once (see `deaths`): one try more, and that one alone.
        """
        claimed = [(c, self._claim(c, leases.get(c.run_id, []), len(cells))) for c in cells]
        return [(cell, lease) for cell, lease in claimed if lease is not None]

    def _say_cure(self, last: Lease) -> None:
        """Notes in the last lease of a cell that was killed too often what can be done."""
        if last.outcome is None:
            message = f"killed {MAX_KILLS} times in vain; {self._sweep.cure} tries again"
            with contextlib.suppress(OSError):
                last.release(KILLED, message)

    def _may_try(self, cell: Cell) -> bool:
        """False while a cell that somebody trains outside of the sweep is left alone."""
        return time.monotonic() >= self._busy.get(cell.run_id, (0.0, 0.0))[1]

    def _claim(self, cell: Cell, before: list[Lease], together: int) -> Lease | None:
        if self._is_full and not self.has_room():
            return None
        self._is_full = False
        try:
            step = self._sweep.checkpoint_step(cell)
            return self._sweep.leases.claim(cell.run_id, before, step=step, together=together)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._is_full = True
            return None  # later

    def _groups(self) -> Iterator[list[Cell]]:
        """The cells that may be left, those together that can be trained together."""
        cells = self._sweep.open_cells()
        if self._max_group == 1:
            yield from ([cell] for cell in cells)
            return
        states = self._sweep.states()
        usual = {c.run_id for c in cells if states[c.run_id] in ("waiting", "interrupted")}
        for group in self._alike([cell for cell in cells if cell.run_id in usual]):
            for at in range(0, len(group), self._max_group):
                yield group[at : at + self._max_group]
        yield from ([cell] for cell in cells if cell.run_id not in usual)

    def _alike(self, cells: list[Cell]) -> list[list[Cell]]:
        """The cells in groups that can be stacked; who is like whom is found out once."""
        if not self._places.keys() >= {cell.run_id for cell in cells}:
            from experiments.sweep import vectorised

            of_all = self._sweep.open_cells()
            groups = vectorised.groups([self._sweep.config(cell) for cell in of_all])
            self._places = {
                of_all[index].run_id: (number, at)
                for number, group in enumerate(groups)
                for at, index in enumerate(group)
            }
        ordered = sorted(cells, key=lambda cell: self._places[cell.run_id])
        alike = itertools.groupby(ordered, key=lambda cell: self._places[cell.run_id][0])
        return [list(group) for _, group in alike]

    def leave_alone(self, cell: Cell) -> None:
        """Somebody trains the cell outside of the sweep: a pause, longer each time."""
        pause = min(300.0, 2 * self._busy.get(cell.run_id, (self._pause / 2, 0.0))[0])
        self._busy[cell.run_id] = pause, time.monotonic() + pause

    def has_room(self) -> bool:
        """Whether a megabyte can be written where the runs lie."""
        probe = Path(self._sweep.manifest["runs_dir"]) / f".room-{os.getpid()}"
        try:
            with probe.open("wb") as file:
                file.write(bytes(ROOM_BYTES))
            return True
        except OSError as error:
            return error.errno not in FULL
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
