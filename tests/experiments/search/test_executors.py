"""Executors: nothing is lost when workers die, faults come back as faults, all find the same."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import signal
import socket
import struct
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest
import searched

from experiments.config import ConfigError, UserError
from experiments.search import library, torch_rules
from experiments.search.evaluation import Job, judge
from experiments.search.executors import build, pool, queue, ray_tasks, slurm, worker
from experiments.search.executors.executor import Executor, Inline
from experiments.search.executors.pool import Pool
from experiments.search.executors.queue import Queue, QueueWorker
from experiments.search.executors.ray_tasks import RayTasks
from experiments.search.executors.worker import main as worker_main
from experiments.search.proxies import families
from experiments.search.settings import SearchSettings
from experiments.search.training import InterpreterError
from experiments.store import read_json, write_json
from experiments.sweep.leases import Leases

RULES = searched.rules(60, window=16)
JOBS = [Job(library.load(name), RULES.tier, 0) for name in ("lion", "adamw_early", "sgd")]


def collected(executor: Executor, count: int) -> dict[int, list[Any]]:
    answers: dict[int, list[Any]] = {}
    while len(answers) < count:
        answers.update(executor.collect())
    return answers


@pytest.fixture(scope="module")
def inline() -> tuple[str, list[Any]]:
    """What an ordered search finds in this process."""
    state, log = searched.search(RULES, Inline())
    return state.strategy.digest(), log


def test_the_pool_finds_the_same_and_outlives_its_workers(inline: tuple[str, list[Any]]) -> None:
    workers = Pool(2)
    try:
        state, log = searched.search(RULES, workers)
        assert (state.strategy.digest(), log) == inline
        workers.submit(7, JOBS)
        victims = [worker.process for worker in workers.workers if worker.batch is not None]
        os.kill(victims[0].pid or 0, signal.SIGKILL)
        assert collected(workers, 1)[7] == judge(JOBS)
        assert all(worker.process.is_alive() for worker in workers.workers)
    finally:
        workers.close()


class Dead:
    """A worker that is gone before it answers."""

    def __init__(self) -> None:
        self.batch = None
        self.pipe = types.SimpleNamespace(send=self.send)
        self.process = types.SimpleNamespace(
            join=lambda s: None, kill=lambda: None, is_alive=lambda: True, exitcode=-9
        )

    def send(self, jobs: object) -> None:
        raise BrokenPipeError


def test_a_batch_that_kills_workers_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_Worker", Dead)
    with pytest.raises(UserError, match=r"3 workers died \(exit code -9\).*Lower search"):
        Pool(8).submit(0, JOBS)


class Idle(Dead):
    """All but the last die while they have nothing to do."""

    num_made = 0

    def __init__(self) -> None:
        super().__init__()
        Idle.num_made += 1
        if Idle.num_made > 4:
            self.pipe.send = lambda jobs: None
        else:
            self.process.is_alive = lambda: False


def test_workers_that_died_idle_are_not_the_fault_of_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "_Worker", Idle)
    workers = Pool(4)
    workers.submit(3, JOBS)
    workers.submit(4, JOBS)
    given = [worker.batch for worker in workers.workers if worker.batch is not None]
    assert sorted((of.ticket, of.num_tries) for of in given) == [(3, 1), (4, 1)]


class Half(Dead):
    """The first one dies in the middle of its answer; the next one answers."""

    num_made = 0

    def __init__(self) -> None:
        super().__init__()
        self.pipe, self.theirs = multiprocessing.Pipe()
        Half.num_made += 1
        if Half.num_made > 1:
            self.theirs.send(("done", ["an outcome"]))
            return
        os.write(self.theirs.fileno(), struct.pack("!i", 100) + b"half")
        with socket.socket(fileno=os.dup(self.theirs.fileno())) as end:
            end.shutdown(socket.SHUT_WR)


def test_a_batch_whose_worker_dies_in_the_middle_of_its_answer_is_given_out_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "_Worker", Half)
    workers = Pool(1)
    workers.submit(3, JOBS)
    assert collected(workers, 1) == {3: ["an outcome"]}


def test_a_fault_in_a_worker_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise TypeError("no such axis")

    monkeypatch.setitem(torch_rules.RULES, "sign", broken)
    state, content = pool.answer(JOBS[:1])
    assert state == "fault" and "no such axis" in content


def test_what_the_user_can_mend_is_told_by_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(jobs: Any) -> Any:
        raise UserError("the reference has no finite loss")

    monkeypatch.setattr(pool, "judge", refuse)
    with pytest.raises(UserError, match="no finite loss"):
        pool.check_answer(*pool.answer(JOBS[:1]))


def test_a_queue_says_how_to_start_a_worker(tmp_path: Path, capsys: Any) -> None:
    build.build(SearchSettings(executor="queue", num_workers=2), tmp_path).close()
    said = capsys.readouterr().out
    assert f"start 2, here or elsewhere: python -m {worker.__name__} {tmp_path}" in said


def started(folder: Path, count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=QueueWorker(folder).work) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.parametrize("count", [1, 3])
def test_workers_on_a_queue_find_the_same(
    tmp_path: Path, inline: tuple[str, list[Any]], count: int
) -> None:
    executor = Queue(tmp_path, count)
    threads = started(tmp_path, count)
    state, log = searched.search(RULES, executor)
    assert (state.strategy.digest(), log) == inline
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".job", ".answer", ".lease")]
    executor.close()
    for thread in threads:
        thread.join()


def test_the_batch_of_a_killed_queue_worker_is_taken_over(tmp_path: Path) -> None:
    executor = Queue(tmp_path, 2)
    executor.submit(4, JOBS)
    leases = Leases(tmp_path, 60.0)
    (name,) = [path.stem for path in tmp_path.glob("*.job")]
    lease = leases.claim(name, [])
    assert lease is not None and QueueWorker(tmp_path).work(wait=False) == 0  # it is held
    gone = {**lease.facts, "born": "0"}  # a process of that number is no longer the same one
    lease.path.write_text(json.dumps(gone))
    assert worker_main([str(tmp_path), "--no-wait"]) == 0
    assert collected(executor, 1) == {4: judge(JOBS)}


@pytest.mark.parametrize("is_before", [False, True])
def test_a_batch_that_is_collected_while_it_is_answered_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_before: bool
) -> None:
    """Of two workers at one batch: one was taken for dead, and is late, at any moment."""
    write = queue.write_text

    def late(path: Path, text: str, durable: bool) -> None:
        if is_before:
            executor._remove(path.stem)
        write(path, text, durable)
        if not is_before:
            executor._remove(path.stem)

    monkeypatch.setattr(queue, "write_text", late)
    executor = Queue(tmp_path, 1)
    executor.submit(0, JOBS[:1])
    assert QueueWorker(tmp_path).work(wait=False) == 1
    assert not list(tmp_path.iterdir())


def test_a_worker_with_other_data_or_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers would be mixed with the others'."""
    executor = Queue(tmp_path, 1)
    executor.submit(0, JOBS[:1])
    family = JOBS[0].tier.family
    monkeypatch.setattr(families, "code", lambda name: "pydoc_data.topics 0123")
    QueueWorker(tmp_path).work(wait=False)
    with pytest.raises(UserError, match=f"a worker on .*: the data of {family} differs from"):
        executor.collect()


def test_a_queue_forgets_what_a_killed_controller_has_left(tmp_path: Path) -> None:
    Queue(tmp_path, 1).submit(0, JOBS)
    executor = Queue(tmp_path, 1)
    assert not list(tmp_path.glob("*.job"))
    executor.submit(0, JOBS[:1])
    QueueWorker(tmp_path).work(wait=False)
    assert len(collected(executor, 1)[0]) == 1


def test_a_queue_tells_faults_and_batches_that_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Queue(tmp_path, 1)
    monkeypatch.setattr(queue, "answer", lambda jobs: ("fault", "no such axis"))
    executor.submit(0, JOBS)
    QueueWorker(tmp_path).work(wait=False)
    with pytest.raises(InterpreterError, match="no such axis"):
        executor.collect()
    executor = Queue(tmp_path, 1)
    executor.submit(1, JOBS)
    (job,) = tmp_path.glob("*.job")
    (tmp_path / f"{job.stem}.4.lease").touch()
    with pytest.raises(UserError, match="3 workers died at one batch"):
        executor.collect()


@pytest.mark.parametrize("left", ["", '{"outcomes": [', '{"outcomes": []}', '{"outcomes": [{}]}'])
def test_a_batch_whose_answer_is_damaged_is_judged_once_more(tmp_path: Path, left: str) -> None:
    executor = Queue(tmp_path, 1)
    executor.submit(4, JOBS[:1])
    QueueWorker(tmp_path).work(wait=False)
    (answered,) = tmp_path.glob("*.answer")
    answered.write_text(left)
    assert executor.collect() == [] and not answered.exists()
    for lease in tmp_path.glob("*.lease"):
        lease.unlink()  # runs out
    assert QueueWorker(tmp_path).work(wait=False) == 1
    assert executor.collect() == [(4, judge(JOBS[:1]))]


def test_a_batch_that_is_damaged_itself_stops_the_search(tmp_path: Path) -> None:
    executor = Queue(tmp_path, 1)
    executor.submit(4, JOBS)
    (job,) = tmp_path.glob("*.job")
    job.write_text("{")
    assert QueueWorker(tmp_path).work(wait=False) == 1
    with pytest.raises(UserError, match="job is damaged: call again"):
        executor.collect()


def test_a_worker_without_a_queue_is_told_so(tmp_path: Path, capsys: Any) -> None:
    assert worker_main([str(tmp_path / "none")]) == 2
    assert "start the search first" in capsys.readouterr().err


class RayError(Exception):
    """As `ray.exceptions` has it."""


class WorkerCrashedError(RayError):
    """The same."""


class Ray(types.ModuleType):
    """What is used of Ray; a task runs when it is waited for."""

    exceptions = types.SimpleNamespace(RayError=RayError, WorkerCrashedError=WorkerCrashedError)

    def __init__(self) -> None:
        super().__init__("ray")
        self.calls: list[Any] = []

    def init(self, **options: Any) -> None:
        self.calls.append(("init", options["address"]))

    def remote(self, **options: Any) -> Any:
        self.calls.append(("remote", options["max_retries"]))
        return lambda function: types.SimpleNamespace(remote=lambda jobs: Reference(function, jobs))

    def wait(self, waiting: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return waiting[-1:], waiting[:-1]

    def get(self, task: Any) -> Any:
        return task.run()

    def shutdown(self) -> None:
        self.calls.append("shutdown")


class Reference:
    """A task that has not run yet."""

    def __init__(self, function: Any, jobs: Any) -> None:
        self.run = lambda: function(jobs)


def test_tasks_of_ray_find_the_same(
    inline: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    executor = RayTasks(3, "auto")
    state, log = searched.search(RULES, executor)
    executor.close()
    assert (state.strategy.digest(), log) == inline
    assert ray.calls == [("init", "auto"), ("remote", 2), "shutdown"]


IN_A_WORKER = """ray::answer() (pid=7, ip=10.0.0.2)
  File "worker.py", line 1, in answer
ModuleNotFoundError: No module named 'experiments'"""


@pytest.mark.parametrize("where", ["init", "remote", "wait", "get"])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RayError(IN_A_WORKER), "ModuleNotFoundError: No module named 'experiments'(; call|$)"),
        (RayError("The node has died.\nLogs are in\n/tmp/ray"), "The node has died.(; call|$)"),
        (WorkerCrashedError("it died"), "it died$|it died; call"),
        (ConnectionError("no such cluster"), "no such cluster"),
    ],
)
def test_what_goes_wrong_in_the_cluster_is_one_line(
    monkeypatch: pytest.MonkeyPatch, where: str, error: Exception, said: str
) -> None:
    ray, begin = Ray(), "search.address=auto: Ray says" if where == "init" else "search.exec|3 Ray"

    def broken(*_: Any, **__: Any) -> Any:
        raise error

    def use() -> None:
        executor = RayTasks(3, "auto")
        executor.submit(1, JOBS)
        executor.collect()

    monkeypatch.setitem(sys.modules, "ray", ray)
    if where == "remote":
        task = types.SimpleNamespace(remote=broken)
        monkeypatch.setattr(ray, "remote", lambda **_: lambda _function: task)
    else:
        monkeypatch.setattr(ray, where, broken)
    with pytest.raises(UserError, match=said) as told:
        use()
    assert "\n" not in str(told.value) and re.match(begin, str(told.value))


def test_without_ray_or_slurm_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="pip install 'ray"):
        RayTasks(1)
    monkeypatch.setenv("PATH", str(tmp_path))  # on a cluster this would send a job
    with pytest.raises(UserError, match="there is no SLURM here"):
        build.build(SearchSettings(executor="slurm"), tmp_path)
    for wrong, said in (
        ({"partitoin": "gpu"}, "partitoin: there are: partition"),
        ({"mem_gb": "2G"}, "mem_gb=2G: must be int or float, more than 0"),
        ({"timeout_min": 0}, "timeout_min=0: must be int, more than 0"),
        ({"setup": "module load x"}, "setup=module load x: must be list"),
    ):
        with pytest.raises(ConfigError, match=f"search.slurm.{said}"):
            SearchSettings(slurm=wrong)


def test_real_ray_finds_the_same(inline: tuple[str, list[Any]]) -> None:
    pytest.importorskip("ray")
    executor = ray_tasks.RayTasks(2)
    try:
        state, log = searched.search(RULES, executor)
        assert (state.strategy.digest(), log) == inline
    finally:
        executor.close()


class Slurm:
    """submitit's executor for SLURM, which starts its tasks at once, as threads."""

    def __init__(self, folder: Path, max_num_timeout: int) -> None:
        self.parameters: dict[str, Any] = {}
        self.threads: list[threading.Thread] = []
        Slurm.last = self

    last: Any = None

    @staticmethod
    def affinity() -> int:
        return 2

    def update_parameters(self, **parameters: Any) -> None:
        self.parameters = parameters

    @contextlib.contextmanager
    def batch(self) -> Any:
        yield

    def submit(self, command: Any) -> Any:
        assert command.command[1:3] == ["-m", "experiments.search.executors.worker"]
        again = command.checkpoint().function  # after a requeue, at the end of its time, too
        assert again.command == command.command
        self.threads += started(Path(command.command[3]), 1)
        return types.SimpleNamespace(job_id="7_0", cancel=lambda: None)


def test_slurm_tasks_find_the_same(
    tmp_path: Path, inline: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import submitit

    monkeypatch.setattr(submitit, "SlurmExecutor", Slurm)
    taken_back: list[list[str]] = []
    monkeypatch.setattr(slurm.subprocess, "run", lambda command, **_: taken_back.append(command))
    write_json(tmp_path / "array.json", {"jobs": ["6_0", "6_1"]})  # of a controller that was killed
    options = {"partition": "cpu", "setup": ["module load x"], "extra": {"qos": "low"}}
    settings = SearchSettings(executor="slurm", num_workers=2, slurm=options)
    executor = build.build(settings, tmp_path)
    assert taken_back == [["scancel", "6_0", "6_1"]]
    assert read_json(tmp_path / "array.json") == {"jobs": ["7_0", "7_0"]}
    state, log = searched.search(RULES, executor)
    assert (state.strategy.digest(), log) == inline
    executor.close()
    for thread in Slurm.last.threads:
        thread.join()
    parameters = Slurm.last.parameters
    assert not (tmp_path / "array.json").exists()
    assert parameters["partition"] == "cpu" and parameters["time"] == 240
    assert parameters["additional_parameters"] == {"requeue": True, "qos": "low"}
    assert parameters["setup"][0] == "module load x" and "PYTHONPATH" in parameters["setup"][1]


def test_a_search_whose_slurm_tasks_have_all_died_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E.g. of a module that is not there: nobody would ever answer."""
    jobs = [types.SimpleNamespace(job_id="7_0", cancel=lambda: None)]
    monkeypatch.setattr(slurm, "_submit", lambda *_: jobs)
    left = iter([True, False])
    monkeypatch.setattr(slurm, "is_queued", lambda array: array == "7" and next(left))
    monkeypatch.setattr(slurm, "LOOK_SECONDS", -1.0)
    queue = slurm.SlurmQueue(tmp_path, 1)
    assert queue.collect() == []
    with pytest.raises(UserError, match="no task of job array 7 is left: call again .*slurm/7"):
        queue.collect()
    queue.close()


def test_slurm_tasks_that_nobody_waits_for_are_sent_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C just after SLURM has taken them: their numbers are not known."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm, "_submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        slurm.SlurmQueue(tmp_path, 1)
    assert QueueWorker(tmp_path).work() == 0
