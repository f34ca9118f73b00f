"""Batches as tasks of a Ray cluster. Ray itself starts a task again whose worker dies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.config import UserError
from experiments.search.evaluation import Job
from experiments.search.executors.executor import MAX_TRIES, Answer
from experiments.search.executors.pool import answer, check_answer

POLL_SECONDS = 1.0
ROOT = Path(__file__).resolve().parents[3]


class RayTasks:
    """`num_workers` batches at a time, one core each."""

    def __init__(self, num_workers: int, address: str | None = None) -> None:
        """Joins or starts a cluster.

        Raises:
            UserError: without Ray, or if there is no cluster at the address.
        """
        self._ray = _import_ray()
        self.num_workers = num_workers
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}}
        try:
            self._ray.init(address=address, runtime_env=environment, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"search.executor.address={address}: Ray says: {error}") from error
        self._task = self._ray.remote(num_cpus=1, max_retries=MAX_TRIES - 1)(answer)
        self._open: dict[Any, int] = {}

    def room(self) -> int:
        """See `Executor`."""
        return self.num_workers + 1 - len(self._open)

    def submit(self, ticket: int, jobs: Sequence[Job]) -> None:
        """See `Executor`."""
        self._open[self._task.remote(list(jobs))] = ticket

    def collect(self) -> list[Answer]:
        """See `Executor`."""
        done, _ = self._ray.wait(list(self._open), timeout=POLL_SECONDS)
        answers: list[Answer] = []
        for task in done:
            try:
                state, content = self._ray.get(task)
            except self._ray.exceptions.WorkerCrashedError as error:
                raise UserError(f"{MAX_TRIES} Ray workers died at one batch: {error}") from error
            check_answer(state, content)
            answers.append((self._open.pop(task), content))
        return answers

    def close(self) -> None:
        """See `Executor`."""
        self._ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("search.executor=ray needs Ray: pip install 'ray>=2.40'") from error
    return ray
