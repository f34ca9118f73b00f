"""Makes the executor that the settings ask for."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.config import UserError
from experiments.processor import usable_cores
from experiments.search.executors.executor import Executor, Inline
from experiments.search.settings import SearchSettings

PER_CORE = 8
"""Processes of a pool; each holds some 300 MB."""


def build(settings: SearchSettings, folder: Path) -> Executor:
    """The executor, with its workers started or submitted.

    Args:
        settings: Of the search.
        folder: For the queue of `executor=queue` and `executor=slurm`.

    Raises:
        UserError: for what is missing, e.g. Ray or SLURM.
    """
    num_workers = settings.num_workers or usable_cores()
    if settings.executor == "pool":
        most = PER_CORE * (os.cpu_count() or 1)
        if num_workers > most:
            raise UserError(
                f"search.num_workers={num_workers}: this machine is for {most} processes at most; "
                "take null (one per core), or executor=queue with workers elsewhere"
            )
        from experiments.search.executors.pool import Pool

        return Pool(num_workers)
    if settings.executor == "ray":
        from experiments.search.executors.ray_tasks import RayTasks

        return RayTasks(num_workers, settings.address)
    if settings.executor == "slurm":
        from experiments.search.executors.slurm import SlurmQueue

        return SlurmQueue(folder, num_workers, **settings.slurm)
    if settings.executor == "queue":
        from experiments.search.executors.queue import Queue

        command = f"python -m experiments.search.executors.worker {folder.resolve()}"
        print(f"waiting for workers; start {num_workers}, here or elsewhere: {command}", flush=True)
        return Queue(folder, num_workers)
    return Inline()
