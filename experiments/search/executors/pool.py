"""Warm processes of this machine. One that is killed is replaced, and its batch given out again."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from experiments.config import UserError
from experiments.search.evaluation import Job, Outcome, judge
from experiments.search.executors.executor import MAX_TRIES, Answer
from experiments.search.training import InterpreterError
from experiments.sweep.processes import environment, leave_with_parent

POLL_SECONDS = 1.0
BATCHES_AHEAD = 1
"""Batches that wait beside the ones that are judged, so that no worker waits for the controller."""


@dataclass
class _Batch:
    ticket: int
    jobs: Sequence[Job]
    num_tries: int = 0


class _Worker:
    """A process with a pipe."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        with environment(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1"):
            self.process = context.Process(target=_work, args=(theirs,), daemon=True)
            self.process.start()
        theirs.close()
        self.batch: _Batch | None = None


class Pool:
    """`num_workers` processes, one thread each."""

    def __init__(self, num_workers: int) -> None:
        self.workers = [_Worker() for _ in range(num_workers)]
        self._queue: deque[_Batch] = deque()

    def room(self) -> int:
        """See `Executor`."""
        busy = sum(worker.batch is not None for worker in self.workers) + len(self._queue)
        return len(self.workers) + BATCHES_AHEAD - busy

    def submit(self, ticket: int, jobs: Sequence[Job]) -> None:
        """See `Executor`."""
        self._queue.append(_Batch(ticket, jobs))
        self._give_out()

    def collect(self) -> list[Answer]:
        """See `Executor`."""
        busy = {worker.pipe: worker for worker in self.workers if worker.batch is not None}
        answers: list[Answer] = []
        for pipe in wait(list(busy), timeout=POLL_SECONDS):
            worker = busy[pipe]  # type: ignore[index]
            assert worker.batch is not None
            try:
                state, content = worker.pipe.recv()
            except (EOFError, OSError):  # nothing, or half an answer
                self._replace(worker)
                continue
            check_answer(state, content)
            answers.append((worker.batch.ticket, content))
            worker.batch = None
        self._give_out()
        return answers

    def close(self) -> None:
        """See `Executor`."""
        for worker in self.workers:
            worker.pipe.close()
            worker.process.kill()
            worker.process.join()

    def _give_out(self) -> None:
        for worker in list(self.workers):
            if self._queue and worker.batch is None:
                worker.batch = batch = self._queue.popleft()
                batch.num_tries += worker.process.is_alive()  # what died idle, died of no batch
                try:
                    worker.pipe.send(batch.jobs)
                except (BrokenPipeError, ConnectionResetError):
                    self._replace(worker)

    def _replace(self, dead: _Worker) -> None:
        """Puts a new worker in the place of a dead one; its batch is the next to be given out.

        Raises:
            UserError: if the batch has killed several.
        """
        dead.process.join(5)
        dead.process.kill()
        batch, dead.batch = dead.batch, None
        if batch is not None:
            if batch.num_tries >= MAX_TRIES:
                texts = "\n".join(job.program.text() for job in batch.jobs)
                raise UserError(
                    f"{batch.num_tries} workers died (exit code {dead.process.exitcode}) at one "
                    f"batch: is there memory for {len(batch.jobs)} programs? Lower "
                    f"search.batch_size, then call again. The programs:\n{texts}"
                )
            self._queue.appendleft(batch)
        self.workers[self.workers.index(dead)] = _Worker()


def _work(pipe: Connection) -> None:
    """The life of a worker: until the pipe closes, or its starter dies."""
    leave_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            pipe.send(answer(pipe.recv()))


def check_answer(state: str, content: Any) -> None:
    """Raises what a worker has met.

    Raises:
        InterpreterError: a fault of ours.
        UserError: what the user can mend.
    """
    if state == "fault":
        raise InterpreterError(content)
    if state == "refused":
        raise UserError(content)


def answer(jobs: Sequence[Job]) -> tuple[str, list[Outcome] | str]:
    """Outcomes ("done"), or the text of a "fault" or of what is "refused": they stop the search."""
    try:
        return "done", judge(jobs)
    except UserError as error:
        return "refused", str(error)
    except Exception as error:
        return "fault", f"{type(error).__name__}: {error}"
