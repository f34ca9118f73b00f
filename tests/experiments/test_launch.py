"""Several processes started here are one run: they fail, stop and die together, and say so once.

Most tests fork the processes of the run instead of starting Python anew: the imports are theirs.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
import tiny
import torch

from experiments import launch, left_alone, runner
from experiments.config import RunConfig, UserError
from experiments.store import read_json, read_rows
from experiments.sweep.worker import run_one
from experiments.tasks.task import Loss

pytestmark = pytest.mark.usefixtures("signals_as_in_a_terminal")

ROOT = Path(__file__).resolve().parents[2]
_fork = multiprocessing.get_context("fork")
STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
TWO: dict[str, Any] = {"launch__num_processes": 2}
LONG: dict[str, Any] = {
    **TWO, "train__epochs": 500.0, "eval__every_epochs": None, "checkpoint__every_steps": None,
}  # fmt: skip


class ForkedPopen:
    """Does what `subprocess.Popen` does for `python -m experiments.runner`, by forking."""

    def __init__(
        self, command: list[str], env: dict[str, str], stdin: int, start_new_session: bool
    ) -> None:
        assert command[:3] == [sys.executable, "-m", "experiments.runner"]
        assert stdin == subprocess.PIPE and start_new_session
        ours = [f for f in _parents_ends if f is not None]
        read, self.stdin = os.pipe()
        _parents_ends.append(self.stdin)
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                for end in [*ours, self.stdin]:
                    os.close(end)
                for number in STOPS:
                    signal.signal(number, signal.SIG_DFL)
                os.dup2(read, 0)
                os.setsid()
                os.environ.clear()
                os.environ.update(env)
                sys.path[:0] = env["PYTHONPATH"].split(os.pathsep)
                code = runner._main_of_started_process(command[3])
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(read)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int | None:
        while self.poll() is None:
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_parents_ends: list[int] = []


@pytest.fixture
def forking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = SimpleNamespace(Popen=ForkedPopen, PIPE=subprocess.PIPE)
    monkeypatch.setattr(launch, "subprocess", module)  # not for those whom the processes start
    yield
    for end in _parents_ends:
        os.close(end)
    _parents_ends.clear()


def launched(config: RunConfig) -> Any:
    """A process that launches the run."""
    process = _fork.Process(target=lambda: os._exit(launch.run(config)))
    process.start()
    return process


def wait_for_rows(results_dir: Path, number: int = 4) -> Path:
    (path,) = forked.wait_for(lambda: list(results_dir.glob("*/metrics.jsonl")))
    forked.wait_for(lambda: len(read_rows(path)) >= number)
    return path.parent


def test_two_real_processes_train_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "support"))
    config = tiny.config(tmp_path, **TWO, train__epochs=1.0)
    assert launch.run(config) == 0
    folder = forked.folder(config)
    assert read_json(folder / "status.json")["state"] == "finished"
    assert read_json(folder / "run.json")["sessions"][0]["device"] == "cpu x 2"
    assert {r["n"] for r in read_rows(folder / "metrics.jsonl") if r["n"]} == {37, 41}
    said = capfd.readouterr()
    assert said.out.count(f"{folder.name}: finished, step 6 of 6") == 1
    assert "Traceback" not in said.err


def test_started_processes_train_like_started_ranks(tmp_path: Path, forking: None) -> None:
    """The launcher adds nothing to what the ranks do."""
    config = tiny.config(tmp_path / "launched", **TWO)
    ranks = tiny.config(tmp_path / "ranks", **TWO)
    assert launch.run(config) == 0
    assert forked.run_ranks(ranks, 2) == [0, 0]
    assert forked.rows(config) == forked.rows(ranks)
    assert launch.run(config) == 0  # finished: nothing to do, in either process
    assert len(read_json(forked.folder(config) / "run.json")["sessions"]) == 1


def test_a_wrong_configuration_is_one_line_and_exit_code_2(
    tmp_path: Path, forking: None, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tiny.config(tmp_path, **TWO, model__widht=3)
    assert launch.run(config) == 2
    said = capfd.readouterr()
    assert said.err == "error: model.widht: no such argument; did you mean model.width?\n"
    assert said.out == ""


def test_what_one_process_alone_finds_wrong_is_exit_code_2(
    tmp_path: Path,
    forking: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    images = tiny.images

    def not_here(*args: Any) -> Any:
        if os.environ.get("RANK") == "1":
            raise UserError("the data is not here")
        return images(*args)

    monkeypatch.setattr(tiny, "images", not_here)
    code = launch.run(tiny.config(tmp_path, **TWO))
    assert capfd.readouterr().err.count("error: the data is not here") == 1
    assert code == 2


def test_a_loss_that_is_not_finite_in_one_process_ends_both_at_its_step(
    tmp_path: Path, forking: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, calls = tiny.Task.loss, itertools.count(1)

    def spoilt(self: Any, model: Any, batch: Any, world: Any) -> Any:
        bad = os.environ.get("RANK") == "1" and next(calls) == 7
        found = loss(self, model, batch, world)
        return Loss(found.mean * (float("nan") if bad else 1.0))

    monkeypatch.setattr(tiny.Task, "loss", spoilt)
    config = tiny.config(tmp_path, **TWO, eval__every_epochs=None, launch__log_every_steps=50)
    assert launch.run(config) == 0
    status = read_json(forked.folder(config) / "status.json")
    assert (status["state"], status["step"]) == ("diverged", 7)


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize("step", [1, 3])
def test_a_process_that_is_killed_or_wrong_speaks_for_the_run_and_not_those_it_leaves(
    tmp_path: Path,
    forking: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    rank: str,
    step: int,
) -> None:
    """In the first step, too, where other errors are taken for wrong settings."""
    loss, calls = tiny.Task.loss, itertools.count(1)

    def ends(self: Any, *given: Any) -> Any:
        if os.environ.get("RANK") == rank and next(calls) == step:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise UserError("picture 17 is broken")
        return loss(self, *given)

    monkeypatch.setattr(tiny.Task, "loss", ends)
    left = f"process {1 - int(rank)}: {left_alone.LINE}\n"
    for how, code, said in (("killed", 1, "killed by signal 9"), ("wrong", 2, "picture 17")):
        assert launch.run(tiny.config(tmp_path / how, **TWO)) == code
        told = capfd.readouterr().err
        assert left in told and said in told
        assert "Traceback" not in told and "gloo" not in told and told.count("error: ") == 1
    if rank == "1":
        (status,) = (tmp_path / "wrong").glob("*/status.json")
        assert read_json(status)["message"] == f"LeftAlone: {left_alone.LINE}"


def at_step(
    monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None], rank: str = "1"
) -> None:
    """Has one process of a run do something within a step."""
    loss, calls = tiny.Task.loss, itertools.count(1)

    def acting(self: Any, *given: Any) -> Any:
        if os.environ.get("RANK") == rank and next(calls) == step:
            act()
        return loss(self, *given)

    monkeypatch.setattr(tiny.Task, "loss", acting)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("picture 17 is broken"), "picture 17 is broken"),
        (LookupError("picture 17"), "LookupError: picture 17"),
        (None, "a process was killed by signal 9 (9: perhaps the machine ran out of memory)"),
    ],
)
def test_a_cell_of_a_sweep_is_told_what_its_process_has_died_of(
    tmp_path: Path,
    forking: None,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
    said: str,
) -> None:
    """The main process knows only that it was left alone."""

    def end() -> None:
        if error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise error

    at_step(monkeypatch, 3, end)
    config = tiny.config(tmp_path, **TWO)
    ended = run_one(config)
    assert (ended.state, ended.message) == ("failed", said)
    status = read_json(forked.folder(config) / "status.json")
    assert status["message"] == f"LeftAlone: {left_alone.LINE}"


def test_a_process_that_does_not_answer_is_waited_for_as_long_as_is_said(
    tmp_path: Path,
    forking: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.0)
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGSTOP))
    config = tiny.config(tmp_path, **TWO, launch__timeout_minutes=0.025)
    assert launch.run(config) == 2
    told = capfd.readouterr().err
    assert told == f"error: {left_alone.NO_ANSWER}\n"
    status = read_json(forked.folder(config) / "status.json")
    assert status["message"] == f"NoAnswer: {left_alone.NO_ANSWER}"


GONE = """NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.hpp:268, remote process exited or there was a network error, NCCL version 2.21.5
ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.
Last error:
socketProgressOpt: Call to recv from 10.0.0.7<33759> failed : Connection reset by peer"""  # noqa: E501
LATE = """[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=4, OpType=BROADCAST, NumelIn=112, NumelOut=112, Timeout(ms)=600000) ran for 600011 milliseconds before timing out."""  # noqa: E501


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (GONE, left_alone.LeftAlone, "or the network has failed: socketProgressOpt: Call to recv"),
        (
            "NCCL communicator was aborted on rank 0.",
            left_alone.LeftAlone,
            "another process of this run has ended",
        ),
        (
            f"NCCL communicator was aborted on rank 0. Original reason for failure was: {LATE}",
            left_alone.NoAnswer,
            "launch.timeout_minutes",
        ),
        (
            "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:84] Timed out "
            "waiting 1800000ms for recv operation to complete",
            left_alone.NoAnswer,
            "launch.timeout_minutes",
        ),
        ("Application timeout caused pair closure", left_alone.NoAnswer, "launch.timeout_minutes"),
        (
            "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer "
            "[127.0.0.1]:32887",
            left_alone.LeftAlone,
            "another process of this run has ended",
        ),
        ("NCCL error in: x.cpp:1, invalid usage, NCCL version 2.21.5", RuntimeError, "invalid"),
        ("CUDA error: out of memory", RuntimeError, "out of memory"),
    ],
)
def test_what_gloo_and_nccl_say_of_another_process(
    said: str, kind: type[Exception], words: str
) -> None:
    found = left_alone.understood(torch.distributed.DistBackendError(said))
    assert isinstance(found, kind) and words in str(found)
    assert kind is RuntimeError or "\n" not in str(found)
    assert left_alone.understood(ValueError(said)).args == (said,)


def test_two_processes_evaluate_what_two_have_trained(tmp_path: Path, forking: None) -> None:
    config = tiny.config(tmp_path, **TWO, train__epochs=1.0)
    assert launch.run(config) == 0
    before = forked.rows(config)
    assert launch.run(tiny.config(tmp_path, **TWO, train__epochs=1.0, job="evaluate")) == 0
    added = forked.rows(config)[len(before) :]
    assert added in ([], [r for r in before if r["split"] in ("val", "test")])


def test_the_launcher_gives_back_signals_and_leaves_nothing_behind(
    tmp_path: Path, forking: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(launch.tempfile, "tempdir", str(scratch))
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert launch.run(tiny.config(tmp_path / "runs", **TWO, train__epochs=1.0)) == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_to_the_launcher_saves_and_stops_both(
    tmp_path: Path, forking: None, number: signal.Signals
) -> None:
    process = launched(tiny.config(tmp_path, **LONG))
    folder = wait_for_rows(tmp_path)
    os.kill(process.pid, number)
    assert forked.join(process) == 128 + number
    status = read_json(folder / "status.json")
    assert status["state"] == "interrupted"
    assert forked.weights(tiny.config(tmp_path, **LONG))["step"] == status["step"] > 0


def test_the_processes_leave_saved_when_the_launcher_is_killed(
    tmp_path: Path, forking: None
) -> None:
    config = tiny.config(tmp_path, **LONG)
    process = launched(config)
    folder = wait_for_rows(tmp_path)
    process.kill()
    process.join()
    status = forked.wait_for(
        lambda: (s := read_json(folder / "status.json")).get("state") == "interrupted" and s
    )
    assert forked.weights(config)["step"] == status["step"] > 0
    forked.wait_for(lambda: not is_alive(status["pid"]))


def is_alive(pid: int) -> bool:
    """False for a process that has ended, though nobody has asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_that_is_killed_takes_the_run_with_it(
    tmp_path: Path, forking: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "GRACE_SECONDS", 1.0)
    config = tiny.config(tmp_path, **LONG)
    process = launched(config)
    folder = wait_for_rows(tmp_path)
    os.kill(read_json(folder / "status.json")["pid"], signal.SIGKILL)
    assert forked.join(process) == 1
    forked.wait_for(lambda: not list(open_by_others(folder / ".lock")))


def open_by_others(path: Path) -> Iterator[Path]:
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.resolve() == path:
                yield link
        except OSError:
            continue


# --- exit codes, with `sleep` in place of the processes -------------------------------------------


def sleeping(
    monkeypatch: pytest.MonkeyPatch, *commands: str
) -> Callable[[int, int, Path], subprocess.Popen[bytes]]:
    def start(rank: int, count: int, scratch: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sh", "-c", commands[rank]], start_new_session=True)

    monkeypatch.setattr(launch, "_start", start)
    return start


class Scripted:
    """A process that ends when it has been asked so often whether it has."""

    def __init__(self, code: int, after: int) -> None:
        self._code, self._left = code, after

    def poll(self) -> int | None:
        self._left -= 1
        return self._code if self._left < 0 else None

    def wait(self) -> int:
        return self._code

    def kill(self) -> None:
        pass


ORDERS = [
    pytest.param(True, id="the first process fails"),
    pytest.param(False, id="the second process fails"),
]


@pytest.mark.parametrize("in_order", ORDERS)
def test_the_first_failure_gives_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_order: bool
) -> None:
    ends = [Scripted(7, after=3), Scripted(3, after=6)]
    ranks = ends if in_order else ends[::-1]
    monkeypatch.setattr(launch, "_start", lambda rank, *_: ranks[rank])
    assert launch.run(tiny.config(tmp_path, **TWO)) == 7


@pytest.mark.parametrize(("code", "wanted"), [(-9, -9), (0, left_alone.EXIT_CODE)])
def test_who_was_left_alone_gives_the_exit_code_only_where_nobody_else_does(
    code: int, wanted: int
) -> None:
    left, first = Scripted(left_alone.EXIT_CODE, after=0), Scripted(code, after=2)
    assert launch._wait([left, first]) == wanted  # type: ignore[list-item]


@pytest.mark.parametrize("in_order", ORDERS)
def test_who_does_not_leave_in_time_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_order: bool
) -> None:
    """A process that waits for a dead one, as NCCL lets it, would wait for ever."""
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.2)
    commands = ["exit 7", "exec sleep 1000"]  # as good as for ever
    sleeping(monkeypatch, *(commands if in_order else reversed(commands)))
    assert launch.run(tiny.config(tmp_path, **TWO)) == 7


def test_the_others_may_leave_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """They save meanwhile: nobody is killed before the time is over."""
    failed, saving = Scripted(7, after=0), Scripted(143, after=5)
    for one in (failed, saving):
        monkeypatch.setattr(one, "kill", lambda: pytest.fail("killed"))
    monkeypatch.setattr(launch.time, "sleep", lambda _: None)
    assert launch._wait([failed, saving]) == 7  # type: ignore[list-item]
    assert saving._left < 0


def test_each_process_is_told_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place on this machine is its GPU."""
    told: list[dict[str, str]] = []
    started = SimpleNamespace(Popen=lambda _, env, **__: told.append(env), PIPE=subprocess.PIPE)
    monkeypatch.setattr(launch, "subprocess", started)
    monkeypatch.setenv("PYTHONPATH", "mine")
    for rank in range(2):
        launch._start(rank, 2, tmp_path)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    assert [[env[n] for n in names] for env in told] == [["0", "0", "2", "2"], ["1", "1", "2", "2"]]
    assert len({env[launch.STORE_VARIABLE] for env in told}) == 1
    assert len({env[launch.ERROR_VARIABLE] for env in told}) == 2
    assert {env["PYTHONPATH"] for env in told} == {f"{ROOT}{os.pathsep}mine"}


@pytest.mark.parametrize(
    ("numbers", "heard"),
    [
        ([signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGINT]),
        ([signal.SIGTERM, signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM]),
        ([signal.SIGTERM, signal.SIGINT], [signal.SIGTERM, signal.SIGINT]),
    ],
    ids=["Ctrl-C twice", "a scheduler twice", "a scheduler and Ctrl-C"],
)
def test_a_further_ctrl_c_alone_reaches_the_processes_as_it_is(
    numbers: list[int], heard: list[int]
) -> None:
    """The first would be a traceback in one that still imports."""
    found: list[int] = []
    process: Any = SimpleNamespace(poll=lambda: None, send_signal=found.append)
    handler = launch._pass_on([process], [])
    for number in numbers:
        handler(number, None)
    assert found == heard


@pytest.mark.parametrize("code", [-signal.SIGTERM, -signal.SIGINT, 143, 130])
def test_a_stop_that_the_processes_died_of_is_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, capsys: Any
) -> None:
    def start(rank: int, *_: Any) -> Any:
        if rank:
            os.kill(os.getpid(), signal.SIGINT)
        return Scripted(code, after=2)

    monkeypatch.setattr(launch, "_start", start)
    monkeypatch.setattr(Scripted, "send_signal", lambda *_: None, raising=False)
    assert launch.run(tiny.config(tmp_path, **TWO)) == 130
    assert capsys.readouterr().err == ""


def test_a_process_killed_from_outside_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The usual reason is a machine out of memory; the user should read that one died."""
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.1)
    sleeping(monkeypatch, "kill -9 $$", "sleep 60")
    assert launch.run(tiny.config(tmp_path, **TWO)) != 0
    assert "9" in capfd.readouterr().err


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_before_the_first_step_gives_the_shells_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Until `Stopper` listens, which is for seconds, the processes just die of it."""
    sleeping(monkeypatch, f": > {tmp_path}/a; exec sleep 60", f": > {tmp_path}/b; exec sleep 60")
    process = launched(tiny.config(tmp_path / "runs", **TWO))
    forked.wait_for(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
    os.kill(process.pid, number)
    assert forked.join(process) == 128 + number


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("moment", ["before the first", "with the first", "before the second"])
def test_a_signal_while_the_processes_are_started_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, moment: str
) -> None:
    start = sleeping(monkeypatch, "exec sleep 1000", "exec sleep 1000")
    started: list[Any] = []

    def told_while_starting(rank: int, count: int, scratch: Path) -> Any:
        if moment == "before the first" and rank == 0:
            os.kill(os.getpid(), number)
        started.append(start(rank, count, scratch))
        if moment == "with the first" and rank == 0:  # it is not in the launcher's list yet
            os.kill(os.getpid(), number)
        if moment == "before the second" and rank == 1:
            os.kill(os.getpid(), number)
        return started[-1]

    monkeypatch.setattr(launch, "_start", told_while_starting)
    assert launch.run(tiny.config(tmp_path, **TWO)) == 128 + number
    assert len(started) == (2 if moment == "before the second" else 1)
    assert all(process.poll() == -signal.SIGTERM for process in started)


# --- torchrun -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_torchrun_trains_one_run(tmp_path: Path) -> None:
    pages = tmp_path / "pages" / "experiment"
    pages.mkdir(parents=True)
    (pages / "small.yaml").write_text(
        "# @package _global_\n"
        "scale: proxy\n"
        "stands_for: nothing\n"
        "task: {_target_: tiny.Task, horizontal_flip: 0.0}\n"
        "data: {_target_: tiny.images}\n"
        "model: {_target_: tiny.Net}\n"
        "train: {epochs: 1, batch_size: 16}\n"
        "launch: {device: cpu, num_threads: 1}\n"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(ROOT / "run.py"), "--config-dir", str(pages.parent), "experiment=small"]
    command += [f"results_dir={tmp_path}/runs", f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert done.stdout.count("finished, step 6 of 6") == 1
    assert read_json(folder / "run.json")["sessions"][0]["device"] == "cpu x 2"
    assert torch.isfinite(
        torch.tensor([r["value"] for r in read_rows(folder / "metrics.jsonl")])
    ).all()
