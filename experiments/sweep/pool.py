"""Warm workers on this machine: processes that import once and then train one run after another.

A worker that dies costs its run one retry; the runs themselves resume from their folders. On
SIGINT or SIGTERM every worker saves and leaves.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from experiments.config import RunConfig, from_dict, to_dict
from experiments.sweep.processes import environment, leave_with_parent, told_to_stop

MAX_TRIES = 2
"""How often a run is started whose worker dies."""
_STOPPED = (0, -signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP)
"""Exit codes of a worker that was told to leave."""


@dataclass
class Finished:
    """What became of one run."""

    index: int  # position in the list of runs
    state: str  # finished | diverged | interrupted | failed
    message: str = ""
    is_own: bool = True  # False: what went wrong for several may be no fault of this one


class Worker:
    """A process that trains what it is sent."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        with environment(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads)):
            self.process = context.Process(target=_work, args=(theirs,))
            self.process.start()
        theirs.close()
        self.index: int | None = None

    def send(self, index: int, config: RunConfig) -> None:
        """Gives the idle worker a run."""
        self.index = index
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # seen by the next round
            self.pipe.send(to_dict(config))


def run_all(
    configs: Sequence[RunConfig],
    num_workers: int,
    threads: int = 1,
    on_change: Callable[[list[int], list[Finished]], None] = lambda running, finished: None,
    poll_seconds: float = 0.5,
) -> list[Finished]:
    """Trains all runs, `num_workers` at a time.

    Args:
        configs: The runs; those that are finished return at once.
        num_workers: Processes.
        threads: Torch threads of each.
        on_change: Called with the indices that run and with what has finished, about every
            `poll_seconds`.
        poll_seconds: See `on_change`.

    Returns:
        One entry per run that was started, in the order of finishing. After a signal the rest
        is missing, and the runs that were going on are `interrupted`.
    """
    waiting = deque(range(len(configs)))
    tries = [0] * len(configs)
    finished: list[Finished] = []
    with told_to_stop() as stopped:
        workers = [Worker(threads) for _ in range(min(num_workers, len(configs)))]
        try:
            while True:
                for place, worker in enumerate(workers):
                    if not worker.process.is_alive():
                        if worker.index is not None:
                            _give_back(worker, waiting, tries, finished, stopped())
                        if not stopped():
                            workers[place] = worker = Worker(threads)
                    if worker.index is None and waiting and not stopped():
                        index = waiting.popleft()
                        tries[index] += 1
                        worker.send(index, configs[index])
                running = [w.index for w in workers if w.index is not None]
                on_change(running, finished)
                if not running:
                    return finished
                _collect(workers, finished, poll_seconds)
        finally:
            for worker in workers:
                worker.pipe.close()
                worker.process.join(30)
                worker.process.kill()


def _collect(workers: list[Worker], finished: list[Finished], seconds: float) -> None:
    """Takes the answers that are there, or come within some seconds."""
    busy = {w.pipe: w for w in workers if w.index is not None}
    for pipe in wait(list(busy), timeout=seconds):
        worker = busy[pipe]  # type: ignore[index]
        index = worker.index
        assert index is not None
        try:
            state, message = worker.pipe.recv()
            finished.append(Finished(index, state, message))
            worker.index = None
        except (EOFError, OSError):  # nothing, or half an answer
            worker.process.join(5)  # it died; the next round gives its run back
            worker.process.kill()
            worker.process.join()
            if worker.process.exitcode in _STOPPED:
                finished.append(Finished(index, "interrupted"))
                worker.index = None


def _give_back(
    worker: Worker,
    waiting: deque[int],
    tries: list[int],
    finished: list[Finished],
    is_stopped: int,
) -> None:
    """Queues the run of a dead worker again, unless it was tried often enough."""
    assert worker.index is not None
    if is_stopped:
        finished.append(Finished(worker.index, "interrupted"))
    elif tries[worker.index] < MAX_TRIES:
        waiting.appendleft(worker.index)
    else:
        reason = f"its worker died with exit code {worker.process.exitcode}"
        finished.append(Finished(worker.index, "failed", reason))
    worker.index = None


def _work(pipe: Connection) -> None:
    """The life of a worker: until the pipe closes, or its starter dies."""
    leave_with_parent()
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        from experiments import runner

        while True:
            config = from_dict(pipe.recv())
            try:
                outcome = runner.run(config)
                answer = outcome.state, outcome.message
            except Exception as error:  # one run's failure must not take others with it
                answer = "failed", f"{type(error).__name__}: {error}"
            pipe.send(answer)
            if answer[0] == "interrupted":
                return
