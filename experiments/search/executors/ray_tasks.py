"""Batches as tasks of a Ray cluster. Ray itself starts a task again whose worker dies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.config import UserError
from experiments.packages import get
from experiments.search.evaluation import Job
from experiments.search.executors.executor import MAX_TRIES, Answer
from experiments.search.executors.pool import answer, check_answer
from experiments.sweep.ray_tasks import in_a_line

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
        except Exception as error:  # it has kinds of its own, and those of what it is made of
            raise UserError(f"search.address={address}: Ray says: {in_a_line(error)}") from error
        self._task = self._ray.remote(num_cpus=1, max_retries=MAX_TRIES - 1)(answer)
        self._open: dict[Any, int] = {}

    def room(self) -> int:
        """See `Executor`."""
        return self.num_workers + 1 - len(self._open)

    def submit(self, ticket: int, jobs: Sequence[Job]) -> None:
        """See `Executor`."""
        with self._in_words():
            self._open[self._task.remote(list(jobs))] = ticket

    def collect(self) -> list[Answer]:
        """See `Executor`."""
        answers: list[Answer] = []
        with self._in_words():
            done, _ = self._ray.wait(list(self._open), timeout=POLL_SECONDS)
            for task in done:
                state, content = self._ray.get(task)
                check_answer(state, content)
                answers.append((self._open.pop(task), content))
        return answers

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        """What goes wrong in the cluster, not in a program (see `pool.answer`), is one line.

        Raises:
            UserError: nothing that was told is lost.
        """
        kinds = self._ray.exceptions
        try:
            yield
        except kinds.WorkerCrashedError as error:
            said = f"{MAX_TRIES} Ray workers died at one batch: {in_a_line(error)}"
            raise UserError(said) from error
        except (kinds.RayError, ConnectionError) as error:
            raise UserError(
                f"search.executor=ray: {type(error).__name__}: {in_a_line(error)}; call the same "
                "command again to go on"
            ) from error

    def close(self) -> None:
        """See `Executor`."""
        self._ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"search.executor=ray needs Ray: {get('ray')}") from error
    return ray
