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

from experiments.config import UserError
from experiments.launch import LAUNCHER_VARIABLE
from experiments.sweep.live import Live
from experiments.sweep.manifest import Sweep

POLL_SECONDS = 2.0
MAX_TIMEOUTS = 1000
"""How often a task may run into its time limit: each time it goes on where it was."""


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

    Returns:
        0 if every cell is done (without `wait`: if the jobs were submitted), 1 if not.

    Raises:
        UserError: without submitit or SLURM, or if SLURM refuses the job.
    """
    submitit = _import_submitit()
    sweep = Sweep(path)
    num_missing = sum(sweep.final_state(cell) is None for cell in sweep.cells)
    if not num_missing:
        return 0
    count = min(num_workers, num_missing)
    folder = path.resolve() / "slurm"
    executor = submitit.SlurmExecutor(folder=folder / "%j", max_num_timeout=MAX_TIMEOUTS)
    root = Path(__file__).resolve().parent.parent.parent
    options: dict[str, Any] = {
        "job_name": f"sweep-{sweep.name}",
        "time": timeout_min,
        "signal_delay_s": signal_delay_s,
        "cpus_per_task": cpus_per_task,
        "gpus_per_task": gpus_per_task or None,
        "partition": partition,
        "account": account,
        "mem": f"{round(mem_gb * 1024)}M" if mem_gb else None,
        "setup": [f'export PYTHONPATH="{root}:$PYTHONPATH"', *setup],
        "srun_args": [f"--cpus-per-task={cpus_per_task}"],
        "additional_parameters": {"requeue": True, **(extra or {})},
    }
    executor.update_parameters(**{k: v for k, v in options.items() if v is not None})
    try:
        jobs = executor.map_array(Task(path.resolve(), max_group), range(count))
    except Exception as error:  # submitit's own error holds what sbatch has said
        raise UserError(f"SLURM refuses the job: {' '.join(str(error).split())}") from error
    array = str(jobs[0].job_id).partition("_")[0]
    print(f"submitted: job array {array} of {count} tasks; logs in {folder}", flush=True)
    return _watch(sweep, array, count) if wait else 0


def _import_submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError("launcher=slurm needs submitit: pip install 'submitit>=1.5'") from error
    if not submitit.SlurmExecutor.affinity() > 0:
        raise UserError("launcher=slurm: there is no SLURM here (no srun); use launcher=local")
    return submitit


def _watch(sweep: Sweep, array: str, num_workers: int) -> int:
    """Shows how it goes while any task of the array is queued or running."""
    try:
        with Live(sweep, num_workers) as live:
            while _is_queued(array):
                live.show()
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        print(f"The jobs go on. To stop them: scancel {array}", file=sys.stderr)
        return 130
    states = list(sweep.states().values())
    left = [state for state in states if state not in ("finished", "diverged")]
    if left:
        print(f"{len(left)} cells are not done and no job is left; call again to go on.")
    return 1 if left else 0


def _is_queued(array: str) -> bool:
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={array}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:  # "Invalid job id": forgotten; anything else: ask again
        return "nvalid job id" not in done.stderr
    return bool(done.stdout.strip())


class Task:
    """One task of the array. submitit pickles it, and calls it again after a requeue."""

    def __init__(self, path: Path, max_group: int) -> None:
        self.path = path
        self.max_group = max_group

    def __call__(self, number: int) -> int:
        """Runs a worker to its end; queues itself again if SLURM wants the node back."""
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
        code = _WORKER_LOST
        while code == _WORKER_LOST and not told:
            worker[:] = [self._start()]
            if told:  # perhaps before it was in the list
                worker[0].terminate()
            while (polled := worker[0].poll()) is None:
                time.sleep(0.1)
            code = polled
        print(f"task {number}: its worker left with exit code {code}", flush=True)
        if (told or code in (128 + signal.SIGTERM, -signal.SIGTERM)) and not _is_cancelled():
            assert callable(requeue)
            requeue(signal.SIGUSR2, None)
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "experiments.sweep.worker", str(self.path), "--no-wait"]
        environment = {**os.environ, LAUNCHER_VARIABLE: "slurm"}
        return subprocess.Popen([*command, f"--max-group={self.max_group}"], env=environment)

    def checkpoint(self, number: int) -> Any:
        """What submitit runs after a requeue: the same again, since runs resume by themselves."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, number)


_WORKER_LOST = 75
"""`worker.LOST`, without its imports."""


def _is_cancelled() -> bool:
    """Whether the user has ended this job: then it must not come back."""
    job = os.environ.get("SLURM_JOB_ID", "")
    command = ["scontrol", "--oneliner", "show", "job", job]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    state = re.search(r"JobState=(\w+)", shown)
    return state is not None and state[1] == "CANCELLED"
