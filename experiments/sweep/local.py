"""Workers on this machine. They stay alive from cell to cell: importing takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing import util
from multiprocessing.process import BaseProcess
from pathlib import Path

from experiments.config import UserError
from experiments.files import say
from experiments.launch import LAUNCHER_VARIABLE
from experiments.processor import usable_cores
from experiments.sweep.deaths import note_death
from experiments.sweep.holders import process_start
from experiments.sweep.leases import LOST
from experiments.sweep.live import Live
from experiments.sweep.manifest import Sweep
from experiments.sweep.processes import environment, leave_with_parent, told_to_stop

MAX_IDLE_DEATHS = 3
"""How often a worker may die before it has taken a cell."""
POLL_SECONDS = 0.5
SETTLED = {"finished", "diverged", "failed"}
DEVICES = Path("/dev")


def launch(
    path: Path,
    num_workers: int | None = None,
    threads: int | None = None,
    gpus: str | Sequence[int] = "auto",
    fresh_process: bool = False,
    max_group: int = 1,
) -> int:
    """Trains what a sweep lacks; shows how it goes.

    Args:
        path: The sweep's folder.
        num_workers: Processes; null: one per GPU, or per core where there is none.
        threads: Torch threads of each; null: the cores, shared out.
        gpus: auto, none, or a list of numbers. Each worker gets its own share of them.
        fresh_process: Whether every cell gets a process of its own (some seconds of imports).
        max_group: Most cells to train together in one process; 1: none.

    Returns:
        0 if every cell is done, 1 if some failed for good, 128 + signal if told to stop.
    """
    sweep = Sweep(path)
    missing = [c for c in sweep.cells if sweep.final_state(c) is None]
    if not missing:
        return 0
    needed = max(sweep.config(cell).launch.num_processes for cell in missing)
    slots = _slots(num_workers, threads, gpus, len(missing), needed)
    share = -(-len(missing) // len(slots))
    options = {
        "max_group": min(max_group, share),
        "max_cells": 1 if fresh_process else None,
    }
    with told_to_stop() as stopped, Live(sweep, len(slots)) as live:
        crew = Crew(sweep, slots, options, stopped)
        code = crew.work(live.show)
    return code


class Crew:
    """The workers of one call."""

    def __init__(
        self,
        sweep: Sweep,
        slots: list[dict[str, str]],
        options: dict[str, int | None],
        stopped: Callable[[], int],
    ) -> None:
        self._sweep = sweep
        self._slots = slots
        self._options = options
        self._stopped = stopped
        self._context = multiprocessing.get_context("spawn")
        self._born: dict[int | None, str | None] = {}  # by number, which others had before
        self._idle_deaths = 0
        self._num_leases = -1

    def work(self, show: Callable[[], None]) -> int:
        """Starts the workers, and those that die anew, until nothing is left."""
        workers: dict[int, BaseProcess] = {}
        try:
            for number in range(len(self._slots)):
                if not self._stopped():
                    workers[number] = self._start(number)
            while workers:
                next(iter(workers.values())).join(POLL_SECONDS)
                show()
                for number, worker in list(workers.items()):
                    if worker.is_alive():
                        continue
                    del workers[number]
                    self._note_death(worker)
                    if self._is_needed(worker.exitcode):
                        workers[number] = self._start(number)
        finally:
            for worker in workers.values():
                worker.terminate()
                worker.join(30)
                worker.kill()
        show()
        states = set(self._sweep.states().values())
        if "failed" in states and not self._sweep.manifest.get("quiet"):
            say(f"some cells have failed for good; {self._sweep.cure} tries again\n", sys.stdout)
        if states <= {"finished", "diverged"}:
            return 0
        return 1 if states <= SETTLED else 128 + (self._stopped() or signal.SIGTERM)

    def _note_death(self, worker: BaseProcess) -> None:
        """Says in the leases of a worker that died what it died of.

        Told to stop: that is not the fault of its cells.
        """
        code = worker.exitcode
        if code and code != LOST and not self._stopped():
            note_death(self._sweep, worker.pid, self._born.get(worker.pid), code)

    def _is_needed(self, exit_code: int | None) -> bool:
        """Whether a worker that has ended is to be followed by another.

        Raises:
            UserError: if workers die before they take a cell.
        """
        if self._stopped():
            return False
        if exit_code:
            num_leases = sum(map(len, self._sweep.leases.scan().values()))
            self._idle_deaths = self._idle_deaths + 1 if num_leases == self._num_leases else 0
            self._num_leases = num_leases
            if self._idle_deaths >= MAX_IDLE_DEATHS:
                logs = self._sweep.path / "workers"
                raise UserError(f"workers end with exit code {exit_code} at once: see {logs}")
            return True
        states = self._sweep.states().values()
        return any(state not in (*SETTLED, "running") for state in states)

    def _start(self, number: int) -> BaseProcess:
        log = self._sweep.path / "workers" / f"{os.uname().nodename}-{number}.txt"
        log.parent.mkdir(exist_ok=True)
        with environment(**self._slots[number]):
            arguments = (self._sweep.path, log, self._options)
            process = self._context.Process(target=_work, args=arguments)
            process.start()
        self._born[process.pid] = process_start(process.pid or 0)
        if self._stopped():  # perhaps before it was known to be there
            process.terminate()
        return process


def _work(path: Path, log: Path, options: dict[str, int | None]) -> None:
    """The life of a worker process; what it prints goes to its log."""
    leave_with_parent()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(handle, stream)
    sys.stdout = sys.stderr = os.fdopen(handle, "a", buffering=1)
    from experiments.sweep.worker import Worker

    code = Worker(path, options["max_group"] or 1).work(max_cells=options["max_cells"])
    # Threads of libraries must not hold it back, but what they share is given back before. From
    # Python 3.13 on multiprocessing waits for threads first.
    util._exit_function()  # pyright: ignore[reportAttributeAccessIssue]
    sys.stdout.flush()
    os._exit(code)


def _slots(
    num_workers: int | None,
    threads: int | None,
    gpus: str | Sequence[int],
    num_cells: int,
    num_processes: int,
) -> list[dict[str, str]]:
    """The environment of each worker: its threads and its GPUs."""
    devices = find_gpus() if gpus == "auto" else [] if gpus == "none" else [str(g) for g in gpus]
    cores = usable_cores()
    places = (len(devices) if devices else cores) // num_processes
    count = max(1, min(num_workers or max(1, places), num_cells))
    each = threads or max(1, cores // (count * num_processes))
    slots = []
    for number in range(count):
        slot = {"OMP_NUM_THREADS": str(each), "MKL_NUM_THREADS": str(each)}
        slot[LAUNCHER_VARIABLE] = "local"
        if devices:
            first = number * num_processes
            mine = [devices[(first + k) % len(devices)] for k in range(num_processes)]
            slot["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(mine))
        elif gpus == "none":
            slot["CUDA_VISIBLE_DEVICES"] = ""
        slots.append(slot)
    return slots


def find_gpus() -> list[str]:
    """Names of the GPUs that this process may use, without importing torch."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        ends = next((i for i, name in enumerate(names) if name.startswith("-")), len(names))
        return [name for name in names[:ends] if name]  # CUDA stops at the first that is none: -1
    if not shutil.which("nvidia-smi"):  # containers may lack it; a card that they see has a file
        return [str(number) for number in range(len(list(DEVICES.glob("nvidia[0-9]*"))))]
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return _listed(listed.stdout)


def _listed(text: str) -> list[str]:
    """GPUs by number; one that is cut into slices (MIG) by the names of these, as CUDA wants."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if gpu := re.match(r"GPU (\d+):", line):
            found.append([gpu[1]])
        elif found and (part := re.match(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)", line)):
            found[-1].append(part[1])
    return [name for gpu in found for name in gpu[1:] or gpu]
