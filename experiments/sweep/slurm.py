"""Workers as a SLURM job array, through submitit: preempted or timed out, saved, queued again.

SLURM's warning (SIGUSR2 before the time limit or on preemption, SIGTERM on preemption) reaches
the task, which passes it on to its worker as SIGTERM; the worker saves and leaves; the task puts
itself back into the queue, and the next start resumes. A job that was cancelled stays so.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.config import ConfigError, UserError
from experiments.files import say
from experiments.launch import LAUNCHER_VARIABLE
from experiments.packages import get
from experiments.store import read_json, write_json
from experiments.sweep.deaths import leases_of, note_death
from experiments.sweep.holders import process_start
from experiments.sweep.leases import LOST
from experiments.sweep.live import Live
from experiments.sweep.local import MAX_IDLE_DEATHS, SETTLED
from experiments.sweep.manifest import Sweep
from experiments.sweep.submitting import (
    MAX_TIMEOUTS,
    import_from,
    queue_of,
    sbatch_options,
    submitting,
)

_ROOT = Path(__file__).resolve().parent.parent.parent
SENT = "arrays.json"
"""What was sent for a sweep, beside the logs."""
POLL_SECONDS = 2.0
LOOKS = 5
"""At the ledger, for each time that SLURM is asked for its queue."""
EARLY_SECONDS = 60
"""SLURM may warn so much earlier than it was asked to."""


def launch(
    path: Path,
    num_workers: int = 8,
    partition: str | None = None,
    account: str | None = None,
    timeout_min: int = 240,
    signal_delay_s: int = 120,
    *,
    cpus_per_task: int = 2,
    gpus_per_task: int = 0,
    mem_gb: float | None = None,
    max_group: int = 1,
    wait: bool = True,
    setup: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> int:
    """Submits a job array whose tasks are workers; see `conf/launcher/slurm.yaml`.

    Tasks of earlier calls that still wait or run count: only those that lack are sent.

    Returns:
        0 if every cell is done (without `wait`: if the jobs were submitted), 1 if not.

    Raises:
        UserError: without submitit or SLURM, if SLURM refuses the job, or if no worker could
            train a cell.
    """
    submitit = _import_submitit()
    _check_times(timeout_min, signal_delay_s)
    sweep = Sweep(path)
    missing = [cell for cell in sweep.cells if sweep.final_state(cell) is None]
    if not missing:
        return 0
    num_processes = max(sweep.config(cell).launch.num_processes for cell in missing)
    folder = path.resolve() / "slurm"
    arrays = _still_there(folder, name := f"sweep-{sweep.name}")
    if (count := min(num_workers, len(missing)) - sum(arrays.values())) <= 0:
        return _watch(sweep, list(arrays), num_workers, folder) if wait else 0
    executor = submitit.SlurmExecutor(folder=folder / "%j", max_num_timeout=MAX_TIMEOUTS)
    options: dict[str, Any] = {
        "job_name": name,
        "time": timeout_min,
        "signal_delay_s": signal_delay_s,
        "cpus_per_task": cpus_per_task,
        "gpus_per_task": gpus_per_task or None,
        "partition": partition,
        "account": account,
        "mem": f"{round(mem_gb * 1024)}M" if mem_gb else None,
        "setup": [*setup, import_from(_ROOT)],
        "srun_args": [f"--cpus-per-task={cpus_per_task}"],
        "additional_parameters": sbatch_options(extra or {}),
    }
    executor.update_parameters(**{k: v for k, v in options.items() if v is not None})
    task = Task(path.resolve(), max_group, max(1, cpus_per_task // num_processes))
    with submitting("launcher.num_workers"):
        jobs = executor.map_array(task, range(count))
    array = str(jobs[0].job_id).partition("_")[0]
    write_json(folder / SENT, {"arrays": [*arrays, array]})
    print(f"submitted: job array {array} of {count} tasks; logs in {folder}", flush=True)
    return _watch(sweep, [*arrays, array], num_workers, folder) if wait else 0


def _still_there(folder: Path, name: str) -> dict[str, int]:
    """How many tasks of each array sent before wait or run; also says so.

    A task that is completing takes no cell, and the number of a forgotten array may be another's.
    """
    found = {
        array: sum(not task.startswith("COMPLETING") for task in queue_of(array, name))
        for array in read_json(folder / SENT).get("arrays", [])
    }
    there = {array: number for array, number in found.items() if number}
    if there:
        names = " ".join(there)
        print(
            f"{sum(there.values())} tasks of this sweep wait or run already: job array {names}. To "
            f"send others in their place: scancel {names}, and this command again",
            flush=True,
        )
    return there


def _import_submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError(f"launcher=slurm needs submitit: {get('submitit')}") from error
    if not submitit.SlurmExecutor.affinity() > 0:
        raise UserError("launcher=slurm: there is no SLURM here (no srun); use launcher=local")
    return submitit


def _check_times(timeout_min: int, signal_delay_s: int) -> None:
    """Refuses tasks that would be told to leave as soon as they begin, for ever."""
    needed = -(-(signal_delay_s + EARLY_SECONDS) // 60) + 1
    if timeout_min < needed:
        raise ConfigError(
            f"launcher.timeout_min={timeout_min} with launcher.signal_delay_s={signal_delay_s}: a "
            f"task would be told to save before it trains; set launcher.timeout_min={needed} or "
            "more, or a shorter launcher.signal_delay_s"
        )


def _watch(sweep: Sweep, arrays: Sequence[str], num_workers: int, folder: Path) -> int:
    """Shows how it goes while any task of the arrays is queued or running and has work."""
    try:
        with Live(sweep, num_workers) as live:
            reasons: set[str] = set()
            while tasks := [task for array in arrays for task in queue_of(array)]:
                if set(sweep.states().values()) <= SETTLED:  # the others would find nothing to do
                    subprocess.run(["scancel", "--state=PENDING", *arrays], check=False)
                    break
                if (now := set(tasks)) != reasons and all(t.startswith("PENDING") for t in now):
                    say(f"no task runs; SLURM says: {', '.join(sorted(now))}\n", sys.stdout)
                reasons = now
                for _ in range(LOOKS):
                    live.show()
                    time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        print(f"The jobs go on. To stop them: scancel {' '.join(arrays)}", file=sys.stderr)
        return 130
    states = list(sweep.states().values())
    left = [state for state in states if state not in ("finished", "diverged")]
    if left:
        print(
            f"{len(left)} cells are not done and no job is left; call again to go on. "
            f"What the tasks said: {' '.join(f'{folder}/{array}*/' for array in arrays)}"
        )
    return 1 if left else 0


class Task:
    """One task of the array. submitit pickles it, and calls it again after a requeue."""

    def __init__(self, path: Path, max_group: int, threads: int = 1) -> None:
        self.path = path
        self.max_group = max_group
        self.threads = threads

    def __call__(self, number: int) -> int:
        """Runs a worker to its end; queues itself again if SLURM wants the node back.

        A worker that dies is followed by another.
        """
        told: list[int] = []
        worker: list[subprocess.Popen[bytes]] = []

        def pass_on(received: int, _frame: FrameType | None) -> None:
            told.append(received)
            print(f"told {signal.Signals(received).name}: saving", flush=True)
            for process in worker:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)

        requeue = signal.getsignal(signal.SIGUSR2)  # submitit's
        for received in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(received, pass_on)
        code, idle_deaths = LOST, 0
        while code not in _ENDS and idle_deaths < MAX_IDLE_DEATHS and not told:
            worker[:] = [self._start()]
            born = process_start(worker[0].pid)
            if told:  # perhaps before it was in the list
                worker[0].terminate()
            while (polled := worker[0].poll()) is None:
                time.sleep(0.1)
            code = polled
            print(f"task {number}: its worker left with exit code {code}", flush=True)
            if code not in _ENDS and not told:
                is_idle = self._note_death(worker[0].pid, born, code)
                idle_deaths = idle_deaths + 1 if is_idle else 0
        if (told or code in _TOLD) and not _is_ending():
            assert callable(requeue)
            requeue(signal.SIGUSR2, None)
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "experiments.sweep.worker", str(self.path), "--no-wait"]
        environment = {**os.environ, LAUNCHER_VARIABLE: "slurm"}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # SLURM may bind nobody to its cores
            environment.setdefault(name, str(self.threads))
        return subprocess.Popen([*command, f"--max-group={self.max_group}"], env=environment)

    def _note_death(self, pid: int, born: str | None, code: int) -> bool:
        """Notes it where the worker was at a cell; returns whether it had taken none."""
        sweep = Sweep(self.path)
        if code != LOST:
            note_death(sweep, pid, born, code)
        return not leases_of(sweep, pid, born)

    def checkpoint(self, number: int) -> Any:
        """What submitit runs after a requeue: the same again, since runs resume by themselves."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, number)


_TOLD = (128 + signal.SIGTERM, -signal.SIGTERM)
_ENDS = (0, 2, *_TOLD)
"""Exit codes of workers that are not followed by another: done, refused (a line says why), told."""


def _is_ending() -> bool:
    """Whether SLURM ends this job: cancelled, it must not come back; else SLURM queues it again.

    A job that was cancelled is completing while its processes save.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    command = ["scontrol", "--oneliner", "show", "job", job]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    state = re.search(r"JobState=(\w+)", shown)
    return state is not None and state[1] != "RUNNING"
