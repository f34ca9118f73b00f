"""The local launcher: workers with their share of the machine, alive from cell to cell."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import multiprocessing.util
import os
import signal
import threading
import types
from pathlib import Path
from typing import Any

import forked
import pytest
import swept
import tiny

from experiments.config import UserError
from experiments.store import read_json
from experiments.sweep import local, manifest
from experiments.sweep.local import _slots, find_gpus

pytestmark = pytest.mark.usefixtures("signals_as_in_a_terminal")

SHORT: dict[str, Any] = {"train__epochs": 1.0}


@pytest.fixture(autouse=True)
def forking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.multiprocessing, "get_context", lambda _: forked.Context())


def pids(sweep: swept.Sweep) -> list[int]:
    return [read_json(sweep.folder(cell).status)["pid"] for cell in sweep.cells]


def test_workers_stay_alive_from_cell_to_cell(tmp_path: Path, capsys: Any) -> None:
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 4, **SHORT))
    assert local.launch(sweep.path, num_workers=1) == 0
    assert len(set(pids(sweep))) == 1 and os.getpid() not in pids(sweep)
    assert "trial: 4 of 4 cells to train, 1 at a time" in capsys.readouterr().out
    assert multiprocessing.active_children() == []
    assert local.launch(sweep.path) == 0
    assert "to train" not in capsys.readouterr().out


def test_a_fresh_process_for_every_cell_if_wanted(tmp_path: Path) -> None:
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 3, **SHORT))
    assert local.launch(sweep.path, num_workers=1, fresh_process=True) == 0
    assert len(set(pids(sweep))) == 3


def test_a_worker_gives_back_what_it_shares_and_waits_for_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(self: Any, **_: Any) -> int:
        multiprocessing.util.Finalize(None, (tmp_path / "given back").touch, exitpriority=0)
        threading.Thread(target=threading.Event().wait).start()  # of a library; never ends
        return 3

    monkeypatch.setattr("experiments.sweep.worker.Worker.work", work)
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 1, **SHORT))
    arguments = (sweep.path, tmp_path / "log", {"max_group": None, "max_cells": None})
    process = forked.Context().Process(target=local._work, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 3 and (tmp_path / "given back").exists()


def test_a_failing_cell_is_told_by_the_exit_code(tmp_path: Path) -> None:
    wrong = swept.cell_of(tiny.config(tmp_path / "runs", seed=7, model__widht=3))
    sweep = swept.sweep(tmp_path, [wrong, *swept.cells(tmp_path, 1, **SHORT)], max_tries=1)
    assert local.launch(sweep.path, num_workers=1) == 1
    assert list(sweep.states().values()) == ["failed", "finished"]
    (log,) = (sweep.path / "workers").glob("*.txt")
    assert "ConfigError: model.widht" in log.read_text()


def crash() -> None:
    faulthandler.disable()  # pytest's, which would tell of it at length
    os.kill(os.getpid(), signal.SIGSEGV)


DEATHS = {
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed", "SIGKILL; perhaps the mem"),
    "a crash": (lambda: crash(), "failed", "died of SIGSEGV"),
    "left": (lambda: os._exit(9), "failed", "died of exit code 9"),
}


@pytest.mark.parametrize(("die", "outcome", "word"), DEATHS.values(), ids=list(DEATHS))
def test_what_kills_a_worker_is_told_from_what_its_cell_does(
    tmp_path: Path, monkeypatch: Any, capsys: Any, die: Any, outcome: str, word: str
) -> None:
    loss = tiny.Task.loss

    def deadly(self: Any, *args: Any) -> Any:
        if self.source.name == "deadly" and self.calls == 2:
            die()
        return loss(self, *args)

    monkeypatch.setattr(tiny.Task, "loss", deadly)
    monkeypatch.setattr(manifest, "MAX_KILLS", 3)
    bad = swept.cell_of(tiny.config(tmp_path / "runs", data__name="deadly", **SHORT))
    sweep = swept.sweep(tmp_path, [bad, *swept.cells(tmp_path, 1, **SHORT)], max_tries=1)
    assert local.launch(sweep.path, num_workers=1) == 1
    assert list(sweep.states().values()) == ["failed", "finished"]
    leases = sweep.leases.of(bad.run_id)
    assert [lease.outcome for lease in leases] == [outcome] * {"killed": 3, "failed": 1}[outcome]
    assert word in leases[-1].facts["message"] and sweep.cure in leases[-1].facts["message"]
    assert f"{sweep.cure} tries again" in capsys.readouterr().out


def test_what_kills_a_worker_is_not_told_of_one_that_had_its_number_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(path: Path, *_: Any) -> None:
        leases = manifest.Sweep(path).leases
        for run in ("mine", "another's"):
            lease = leases.claim(run, leases.of(run))
            assert lease is not None
            born = {"born": "12345"} if run == "another's" else {}
            lease.path.write_text(json.dumps({**lease.facts, **born}))
        os._exit(3)

    monkeypatch.setattr(local, "_work", die)
    monkeypatch.setattr(local.Crew, "_is_needed", lambda *_: False)
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 1))
    local.launch(sweep.path, num_workers=1)
    assert swept.outcomes(sweep) == {"mine": ["failed"], "another's": [None]}


def test_workers_that_die_at_once_end_the_launcher(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(local, "_work", lambda *_: os._exit(3))
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 1, **SHORT))
    with pytest.raises(UserError, match="workers end with exit code 3 at once: see"):
        local.launch(sweep.path, num_workers=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_the_next_call_does_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    loss = tiny.Task.loss

    def told(self: Any, *args: Any) -> Any:
        if self.calls == 12:
            os.killpg(0, number)  # as a terminal does: the launcher and its workers
        return loss(self, *args)

    cells = swept.cells(tmp_path, 2, train__epochs=10.0, eval__every_epochs=None)
    sweep = swept.sweep(tmp_path, cells)

    def work() -> None:
        os.setsid()
        os._exit(local.launch(sweep.path, num_workers=1))

    with monkeypatch.context() as patch:
        patch.setattr(tiny.Task, "loss", told)
        process = forked._fork.Process(target=work)
        process.start()
        assert forked.join(process) == 128 + number
    assert sweep.states()[cells[0].run_id] == "interrupted"
    assert sweep.checkpoint_step(cells[0]) == 13
    assert sweep.states()[cells[1].run_id] == "waiting"
    assert local.launch(sweep.path, num_workers=2) == 0
    assert set(sweep.states().values()) == {"finished"}


class Deaf:
    """A worker that has started when its launcher is told, and is not known to it yet."""

    started: list[Deaf] = []

    def __init__(self, **_: Any) -> None:
        self.exitcode: int | None = None
        self.num_looks, self.pid = 0, 2**22 + 1

    def start(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        self.started.append(self)

    def terminate(self) -> None:
        self.exitcode = -signal.SIGTERM

    def is_alive(self) -> bool:
        return self.exitcode is None

    def join(self, _: float) -> None:
        self.num_looks += 1
        assert self.num_looks < 9, "nobody tells it to stop"


def test_a_worker_that_starts_while_the_launcher_is_told_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = types.SimpleNamespace(Process=Deaf)
    monkeypatch.setattr(local.multiprocessing, "get_context", lambda _: context)
    monkeypatch.setattr(Deaf, "started", [])
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 3))
    assert local.launch(sweep.path, num_workers=3) == 128 + signal.SIGTERM
    assert len(Deaf.started) == 1, "told to stop, and workers are started"


def test_each_worker_has_its_own_threads_and_gpus() -> None:
    slots = _slots(2, 3, [0, 1, 2, 3], num_cells=9, num_processes=2)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0,1", "2,3"]
    assert {slot["OMP_NUM_THREADS"] for slot in slots} == {"3"}
    assert len(_slots(None, None, [4, 5, 6], 9, 1)) == 3, "a worker per GPU"
    assert len(_slots(None, None, [4, 5, 6], 2, 1)) == 2, "no more workers than cells"
    (one,) = _slots(1, None, "none", 9, 1)
    cores = len(os.sched_getaffinity(0))
    assert one == {
        "OMP_NUM_THREADS": str(cores), "MKL_NUM_THREADS": str(cores),
        "CUDA_VISIBLE_DEVICES": "", "LION_LAUNCHER": "local",
    }  # fmt: skip


def test_gpus_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert find_gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 1,-1,2")
    assert find_gpus() == ["3", "1"], "CUDA stops at the first that is none"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert find_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(local.shutil, "which", lambda _: None)
    monkeypatch.setattr(local, "DEVICES", Path("/nowhere"))
    assert find_gpus() == []


def test_gpus_of_a_machine_without_nvidia_smi_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else as many workers as cores would share the first. CUDA counts from 0 what it sees."""
    for name in ("nvidia2", "nvidia5", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(local.shutil, "which", lambda _: None)
    monkeypatch.setattr(local, "DEVICES", tmp_path)
    assert find_gpus() == ["0", "1"]


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("GPU 0: NVIDIA A100 (UUID: GPU-5a)\nGPU 1: NVIDIA A100 (UUID: GPU-6b)\n", ["0", "1"]),
        ("GPU 0: NVIDIA H100 (UUID: GPU-1)\n  MIG 1g.10gb     Device  0: (UUID: MIG-a1)\n"
         "  MIG 1g.10gb     Device  1: (UUID: MIG-b2)\nGPU 1: NVIDIA H100 (UUID: GPU-2)\n",
         ["MIG-a1", "MIG-b2", "1"]),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure\n"
         "that the latest NVIDIA driver is installed and running.\n", []),
        ("No devices were found\n", []),
    ],
    ids=["two", "slices", "no driver", "none"],
)  # fmt: skip
def test_only_gpus_are_counted(
    monkeypatch: pytest.MonkeyPatch, said: str, names: list[str]
) -> None:
    """Not the slices of one beside it, nor the lines of an error: those runs would find no GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(local.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    done = types.SimpleNamespace(stdout=said)
    monkeypatch.setattr(local.subprocess, "run", lambda *_, **__: done)
    assert find_gpus() == names


def test_a_workers_environment_is_its_slots(tmp_path: Path, monkeypatch: Any) -> None:
    loss = tiny.Task.loss

    def note(self: Any, model: Any, batch: Any, world: Any) -> Any:
        names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
        (tmp_path / "seen").write_text(" ".join(os.environ[name] for name in names))
        return loss(self, model, batch, world)

    monkeypatch.setattr(tiny.Task, "loss", note)
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 1, **SHORT))
    assert local.launch(sweep.path, threads=3, gpus=[7]) == 0
    assert (tmp_path / "seen").read_text() == "7 3"
