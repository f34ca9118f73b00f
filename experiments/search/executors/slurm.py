"""Long-lived SLURM tasks as workers on the queue of a shared folder, through submitit.

A task that SLURM takes back, or whose time is over, is queued again; the batch that it had is taken
over by another worker when its lease has run out.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from experiments.config import UserError
from experiments.packages import get
from experiments.search.executors import slurm_options
from experiments.search.executors.executor import Answer
from experiments.search.executors.queue import Queue
from experiments.store import read_json, write_json
from experiments.sweep.submitting import (
    MAX_TIMEOUTS,
    import_from,
    is_queued,
    sbatch_options,
    submitting,
)

DEFAULTS: dict[str, Any] = {"timeout_min": 240, "cpus_per_task": 1, "mem_gb": 2}
LOOK_SECONDS = 60.0
"""How long without an answer until SLURM is asked whether any task is left."""


class SlurmQueue(Queue):
    """A queue whose workers are the tasks of one job array."""

    def __init__(self, folder: Path, num_workers: int, **options: Any) -> None:
        """Submits the array.

        Args:
            folder: Of the queue.
            num_workers: Tasks.
            options: partition, account, timeout_min, cpus_per_task, mem_gb, setup, extra.

        Raises:
            UserError: without submitit or SLURM, or if SLURM refuses the job.
        """
        slurm_options.check(options)
        super().__init__(folder, num_workers)
        self._note = folder / "array.json"
        _cancel(read_json(self._note).get("jobs", []))
        given = {key: value for key, value in options.items() if value is not None}
        try:
            self._jobs = _submit(folder.resolve(), num_workers, {**DEFAULTS, **given})
            write_json(self._note, {"jobs": [str(job.job_id) for job in self._jobs]})
        except BaseException:  # Ctrl-C, when SLURM may have taken them: they leave by themselves
            super().close()
            raise
        self._array = str(self._jobs[0].job_id).partition("_")[0]
        self._heard = time.monotonic()
        print(f"submitted: job array {self._array} of {num_workers} tasks", flush=True)

    def collect(self) -> list[Answer]:
        """See `Executor`.

        Raises:
            UserError: also where no task is left that could answer.
        """
        answers = super().collect()
        now = time.monotonic()
        if answers or now - self._heard > LOOK_SECONDS:
            self._heard = now
            if not answers and not is_queued(self._array):
                raise UserError(
                    f"no task of job array {self._array} is left: call again to go on. What they "
                    f"said: {self.folder / 'slurm' / self._array}*/"
                )
        return answers

    def close(self) -> None:
        """The workers leave by themselves; those still queued are cancelled."""
        super().close()
        for job in self._jobs:
            job.cancel()
        self._note.unlink(missing_ok=True)


class Task:
    """A worker until its folder is closed. submitit calls it again after a requeue."""

    def __init__(self, folder: Path) -> None:
        module = "experiments.search.executors.worker"
        self.command = [sys.executable, "-m", module, str(folder)]

    def __call__(self) -> int:
        """Runs the worker to its end."""
        return subprocess.run(self.command, check=False).returncode

    def checkpoint(self) -> Any:
        """What is run after a requeue: the same again, since batches are given out by leases."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _cancel(jobs: list[str]) -> None:
    """Takes back the array of a controller that was killed: its tasks would wait beside the new."""
    if jobs:
        with contextlib.suppress(OSError):  # no scancel here
            subprocess.run(["scancel", *jobs], check=False, capture_output=True)


def _submit(folder: Path, num_workers: int, options: dict[str, Any]) -> list[Any]:
    try:
        import submitit
    except ImportError as error:
        raise UserError(f"search.executor=slurm needs submitit: {get('submitit')}") from error
    if not submitit.SlurmExecutor.affinity() > 0:
        raise UserError(
            "search.executor=slurm: there is no SLURM here (no srun); take executor=pool"
        )
    executor = submitit.SlurmExecutor(folder=folder / "slurm" / "%j", max_num_timeout=MAX_TIMEOUTS)
    root = Path(__file__).resolve().parents[3]
    parameters = {
        "job_name": "search-worker",
        "time": options["timeout_min"],
        "cpus_per_task": options["cpus_per_task"],
        "mem": f"{round(options['mem_gb'] * 1024)}M",
        "partition": options.get("partition"),
        "account": options.get("account"),
        "setup": [*options.get("setup", ()), import_from(root)],
        "additional_parameters": sbatch_options(options.get("extra", {})),
    }
    executor.update_parameters(**{k: v for k, v in parameters.items() if v is not None})
    with submitting("search.num_workers"), executor.batch():
        jobs = [executor.submit(Task(folder)) for _ in range(num_workers)]
    return jobs
