"""Workers train what they are given; whatever happens to one costs the others nothing.

Most tests fork their workers instead of spawning them: the imports are theirs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import struct
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch

from experiments.config import RunConfig
from experiments.stopping import Stopper
from experiments.store import Folder, read_json, read_rows
from experiments.sweep import pool, processes
from experiments.sweep.pool import Finished, run_all

_fork = multiprocessing.get_context("fork")
LONG: dict[str, Any] = {
    "train__epochs": 30.0, "eval__every_epochs": None, "checkpoint__every_steps": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def forking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "spawning" not in request.fixturenames:
        context = forked.Context()
        monkeypatch.setattr(pool.multiprocessing, "get_context", lambda _: context)


@pytest.fixture
def spawning() -> None:
    """Marks a test whose workers are real."""


def configs(root: Path, number: int, **changes: Any) -> list[RunConfig]:
    return [tiny.config(root, seed=seed, **changes) for seed in range(number)]


def states(finished: list[Finished]) -> dict[int, str]:
    found = {entry.index: entry.state for entry in finished}
    assert len(found) == len(finished)
    return found


def folder_of(config: RunConfig) -> Path:
    (path,) = Path(config.results_dir).glob(f"*-s{config.seed}-*")
    return path


def sessions(config: RunConfig) -> int:
    return len(read_json(folder_of(config) / "run.json")["sessions"])


def wait_for_rows(config: RunConfig, number: int = 4) -> None:
    path = Path(config.results_dir)
    found = forked.wait_for(lambda: list(path.glob(f"*-s{config.seed}-*/metrics.jsonl")))
    forked.wait_for(lambda: len(read_rows(found[0])) >= number)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails, instead of hanging, where a call does not return."""

    def fail(*_: Any) -> None:
        raise TimeoutError(f"not back after {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("spawning")
def test_a_spawned_worker_trains_one_run_after_another(tmp_path: Path) -> None:
    runs = configs(tmp_path, 3, train__epochs=1.0)
    assert run_all(runs, num_workers=1) == [Finished(i, "finished") for i in range(3)]
    pids = {read_json(folder_of(config) / "status.json")["pid"] for config in runs}
    assert len(pids) == 1 and os.getpid() not in pids
    assert multiprocessing.active_children() == []


def test_the_pool_trains_like_single_runs(tmp_path: Path) -> None:
    runs = configs(tmp_path / "pool", 3)
    assert states(run_all(runs, num_workers=2)) == {0: "finished", 1: "finished", 2: "finished"}
    for config in runs:
        single = tiny.config(tmp_path / f"single{config.seed}", seed=config.seed)
        assert forked.run(single) == 0
        ours = [r for r in read_rows(folder_of(config) / "metrics.jsonl") if r["metric"] == "loss"]
        theirs = [r for r in forked.rows(single) if r["metric"] == "loss"]
        assert [r["value"] for r in ours] == [r["value"] for r in theirs]


def test_results_come_in_the_order_of_finishing_and_changes_are_told(tmp_path: Path) -> None:
    long = {"train__epochs": 300.0, "eval__every_epochs": None, "checkpoint__every_steps": None}
    runs = [*configs(tmp_path, 1, **long), *configs(tmp_path, 3, train__epochs=1.0)]
    runs = [runs[0], *runs[2:]]
    told: list[tuple[list[int], list[int]]] = []

    def note(running: list[int], finished: list[Finished]) -> None:
        told.append((list(running), [entry.index for entry in finished]))

    finished = run_all(runs, num_workers=2, on_change=note, poll_seconds=0.05)
    assert [entry.index for entry in finished] == [1, 2, 0]
    assert told[0] == ([0, 1], []) and told[-1] == ([], [1, 2, 0])
    assert all(len(running) <= 2 for running, _ in told)


def test_no_more_workers_than_runs_and_none_for_no_run(tmp_path: Path) -> None:
    seen: set[int] = set()

    def count(*_: Any) -> None:
        seen.add(len(multiprocessing.active_children()))

    run_all(configs(tmp_path, 1, train__epochs=1.0), num_workers=5, on_change=count)
    assert max(seen) == 1
    assert run_all([], num_workers=3) == []


def test_finished_runs_are_not_trained_again(tmp_path: Path) -> None:
    runs = configs(tmp_path, 2, train__epochs=1.0)
    run_all(runs, num_workers=1)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("metrics.jsonl")}
    assert states(run_all([*runs, *configs(tmp_path, 3, train__epochs=1.0)[2:]], 1)) == {
        0: "finished", 1: "finished", 2: "finished"
    }  # fmt: skip
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert [sessions(config) for config in runs] == [1, 1]


def test_a_run_that_fails_or_diverges_takes_no_other_with_it(tmp_path: Path) -> None:
    good = configs(tmp_path, 3, train__epochs=1.0)
    wrong = tiny.config(tmp_path, seed=7, model__widht=3)
    wild = tiny.config(
        tmp_path, seed=8, optimizer={"_target_": "torch.optim.SGD", "lr": 1e30}, schedule={},
        train__grad_clip_norm=None,
    )  # fmt: skip
    finished = run_all([good[0], wrong, good[1], wild, good[2]], num_workers=1)
    ended = ["finished", "failed", "finished", "diverged", "finished"]
    assert [entry.state for entry in finished] == ended
    assert finished[1].message.startswith("ConfigError: model.widht: no such argument")
    assert "is not finite" in finished[3].message


def test_a_run_whose_worker_is_killed_is_tried_again_and_ends_the_same(tmp_path: Path) -> None:
    (whole,) = configs(tmp_path / "whole", 1, train__epochs=10.0)
    assert forked.run(whole) == 0
    runs = configs(tmp_path / "killed", 1, train__epochs=10.0)
    killed: list[int] = []

    def kill_once(*_: Any) -> None:
        paths = list((tmp_path / "killed").glob("*/metrics.jsonl"))
        if not killed and paths and len(read_rows(paths[0])) > 5:
            (worker,) = multiprocessing.active_children()
            killed.append(worker.pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    with within(forked.NET_SECONDS):
        finished = run_all(runs, num_workers=1, on_change=kill_once, poll_seconds=0.02)
    assert killed and states(finished) == {0: "finished"}
    assert sessions(runs[0]) == 2
    assert forked.rows(runs[0]) == forked.rows(whole)
    ours, theirs = forked.weights(runs[0])["model"], forked.weights(whole)["model"]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_that_kills_every_worker_is_given_up_and_the_next_one_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = tiny.Task.loss

    def deadly(self: Any, model: Any, batch: Any, world: Any) -> Any:
        if self.source.name == "deadly":
            os._exit(9)
        return loss(self, model, batch, world)

    monkeypatch.setattr(tiny.Task, "loss", deadly)
    bad = tiny.config(tmp_path, data__name="deadly", seed=5)
    with within(forked.NET_SECONDS):
        finished = run_all([bad, *configs(tmp_path, 1, train__epochs=1.0)], num_workers=1)
    assert finished == [
        Finished(0, "failed", "its worker died with exit code 9"), Finished(1, "finished")
    ]  # fmt: skip
    assert sessions(bad) == pool.MAX_TRIES


def test_a_worker_that_dies_as_it_is_given_a_run_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, died = pool.Worker.send, list[int]()

    def dying(self: pool.Worker, index: int, config: RunConfig) -> None:
        if not died:
            died.append(index)
            self.process.kill()
            self.process.join()
        send(self, index, config)

    monkeypatch.setattr(pool.Worker, "send", dying)
    with within(forked.NET_SECONDS):
        finished = run_all(configs(tmp_path, 1, train__epochs=1.0), num_workers=1)
    assert finished == [Finished(0, "finished")] and died == [0]


def test_half_an_answer_is_that_of_a_worker_that_died(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    os.write(theirs.fileno(), struct.pack("!i", 100) + b"half")
    theirs.close()
    process = types.SimpleNamespace(join=lambda *_: None, kill=lambda: None, exitcode=-9)
    worker: Any = types.SimpleNamespace(pipe=ours, index=0, process=process)
    finished: list[Finished] = []
    pool._collect([worker], finished, 0.0)
    assert worker.index == 0 and not finished  # the next round gives its run back


# --- signals: the pool runs in a process of its own -----------------------------------------------


def pooled(runs: list[RunConfig], workers: int = 1) -> Any:
    """Starts the pool, in a process group of its own; it exits with the number that finished."""

    def work() -> None:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ended = run_all(runs, workers, poll_seconds=0.05)
        kinds = [entry.state for entry in ended]
        os._exit(10 * kinds.count("interrupted") + kinds.count("finished"))

    process = _fork.Process(target=work)
    process.start()
    return process


def end(process: Any, seconds: float = forked.NET_SECONDS) -> int | None:
    process.join(seconds)
    code = process.exitcode
    if code is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return code


def stop_group(process: Any) -> None:
    """What Ctrl-C in a terminal does."""
    os.killpg(process.pid, signal.SIGINT)


def terminate(process: Any) -> None:
    os.kill(process.pid, signal.SIGTERM)


def interrupt(process: Any) -> None:
    os.kill(process.pid, signal.SIGINT)


@pytest.mark.parametrize("stop", [stop_group, terminate, interrupt])
def test_a_signal_saves_and_the_next_call_does_what_is_missing(
    tmp_path: Path, stop: Callable[[Any], None]
) -> None:
    runs = configs(tmp_path, 1, train__epochs=1.0) + configs(tmp_path, 3, **LONG)[1:]
    process = pooled(runs)
    wait_for_rows(runs[1])
    stop(process)
    assert end(process) == 11  # one interrupted, one finished
    status = read_json(folder_of(runs[1]) / "status.json")
    assert status["state"] == "interrupted" and status["step"] > 0
    assert not list(tmp_path.glob("*-s2-*"))

    finished = run_all(runs[:2], num_workers=1)
    assert states(finished) == {0: "finished", 1: "finished"}
    assert [sessions(config) for config in runs[:2]] == [1, 2]


def test_a_ctrl_c_that_is_passed_on_late_is_no_impatient_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A terminal tells the workers itself; they save while the launcher waits for its turn."""
    child = types.SimpleNamespace(pid=7)
    passed: list[tuple[int, int]] = []
    monkeypatch.setattr(processes.multiprocessing, "active_children", lambda: [child])
    monkeypatch.setattr(processes.os, "kill", lambda *told: passed.append(told))
    with processes.told_to_stop() as stopped:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert stopped() == signal.SIGINT
    assert passed == [(7, signal.SIGTERM), (7, signal.SIGTERM), (7, signal.SIGINT)]


@pytest.mark.parametrize("how", ["killed", "exit code 1"])
def test_a_worker_that_dies_after_the_signal_does_not_hang_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """E.g. Ctrl-C while a spawned worker is still importing: it ends with exit code 1."""

    def dies_when_told(*_: Any) -> None:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)

    monkeypatch.setattr(Stopper, "_note", dies_when_told)
    runs = configs(tmp_path / "runs", 2, **LONG)
    process = pooled(runs)
    wait_for_rows(runs[0])
    interrupt(process)
    assert end(process) is not None, "the pool hangs"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_leave_when_the_pool_dies(tmp_path: Path, number: signal.Signals) -> None:
    runs = configs(tmp_path, 1, **LONG)
    process = pooled(runs)
    wait_for_rows(runs[0])
    os.kill(process.pid, number)
    forked.join(process)
    path = folder_of(runs[0])
    forked.wait_for(lambda: not Folder(path).is_held())
    status = read_json(path / "status.json")
    assert status["state"] == "interrupted"
    assert list((path / "checkpoints").glob(f"step_{status['step']:09d}-*.pt"))


def test_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    threads = set(threading.enumerate())  # other tests of this process may have left some
    run_all(configs(tmp_path, 1, train__epochs=1.0), num_workers=1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert len(set(threading.enumerate()) - threads) < 5


def test_workers_have_the_wanted_threads_and_the_environment_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    loss = tiny.Task.loss

    def note(self: Any, model: Any, batch: Any, world: Any) -> Any:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
        (tmp_path / "seen").write_text(",".join(os.environ[name] for name in names))
        return loss(self, model, batch, world)

    monkeypatch.setattr(tiny.Task, "loss", note)
    run_all(configs(tmp_path / "runs", 1, train__epochs=1.0), num_workers=1, threads=3)
    assert (tmp_path / "seen").read_text() == "3,3"
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_a_run_that_loads_data_in_processes_can_be_trained_by_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `ImageFiles` does; its default is 8 loading processes."""
    batches = tiny.Task.batches

    def loaded(self: Any, *args: Any) -> Any:
        loader = torch.utils.data.DataLoader(torch.arange(4), batch_size=None, num_workers=1)
        assert [int(number) for number in loader] == [0, 1, 2, 3]
        yield from batches(self, *args)

    monkeypatch.setattr(tiny.Task, "batches", loaded)
    with within(forked.NET_SECONDS):
        (ended,) = run_all(configs(tmp_path, 1, train__epochs=1.0), num_workers=1)
    assert (ended.state, ended.message) == ("finished", "")
