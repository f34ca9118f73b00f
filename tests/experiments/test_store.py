"""The ledger loses no row, doubles none, and reads back as one table whatever lies beside it."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import multiprocessing
import os
import signal
import socket
import warnings
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny

from experiments import runner, store
from experiments.config import UserError
from experiments.jobs import evaluate
from experiments.store import SCHEMA, Folder, HeldError, Ledger, read_config, read_rows
from experiments.table import read_runs

_fork = multiprocessing.get_context("fork")


def row(step: int, value: float = 1.0, **more: Any) -> dict[str, Any]:
    facts = {"step": step, "epoch": step / 8, "split": "val", "metric": "top1", "value": value}
    facts |= {"unit": "%", "weights": "raw", "n": 7, "seconds": 0.5, "session": 0}
    return facts | more


def write_run(root: Path, name: str, rows: list[dict[str, Any]], **header: Any) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    Ledger(folder / "metrics.jsonl").append(rows)
    session = {"start_step": 0, "commit": "abc", "versions": "{}", "device": "cpu x 1"}
    facts = {"run_id": name, "experiment": "tiny", "optimizer": "lion", "lr": 1e-3, "seed": 0}
    facts |= {"schema_version": 1, "sessions": [session]}
    (folder / "run.json").write_text(json.dumps(facts | header))
    (folder / "status.json").write_text(json.dumps({"state": "finished"}))
    return folder


# --- one ledger ---------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "metrics.jsonl")
    rows = [row(1, 0.1 + 0.2, n=None), row(2, 1e-300), row(3, -7.0, split="größer")]
    ledger.append(rows[:2])
    ledger.append(rows[2:])
    assert read_rows(ledger.path) == rows


def test_numbers_that_json_does_not_know_survive(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "metrics.jsonl")
    ledger.append([row(1, float("nan")), row(2, float("inf")), row(3, float("-inf"))])
    ledger.append([row(4, 1.5, error=float("nan")), row(5, float("nan"), error=float("inf"))])
    for line in ledger.path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    values = [r["value"] for r in read_rows(ledger.path)]
    assert math.isnan(values[0])
    assert values[1:4] == [float("inf"), float("-inf"), 1.5]
    assert [r["error"] for r in read_rows(ledger.path)[3:]] == [None, None]


def test_a_last_line_cut_anywhere_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    Ledger(path).append([row(1), row(2), row(3)])
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert [r["step"] for r in read_rows(path)] == [1, 2]


@pytest.mark.parametrize("end", ["whole", "", '{"step": 3, "va'])
@pytest.mark.parametrize(
    "damage",
    ["nonsense", '{"step": 2', '{"step": 2}', '{"value": "x"}', "7", "[" * 9999]
    + [json.dumps(row(2) | {"step": odd}) for odd in ("2", -2, 2.5)],
)
def test_a_damaged_line_in_the_middle_is_named_kept_and_hides_no_other(
    tmp_path: Path, damage: str, end: str
) -> None:
    path = tmp_path / "metrics.jsonl"
    Ledger(path).append([row(1), row(2), row(3)])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], damage, lines[2] + "\n" if end == "whole" else end]))
    with pytest.warns(UserWarning, match=r"metrics.jsonl: damaged and left out: line 2$"):
        found = [r["step"] for r in read_rows(path)]
    assert found == ([1, 3] if end == "whole" else [1])
    Ledger(path).start_after(3)
    assert [r["step"] for r in read_rows(path)] == found
    assert (tmp_path / "metrics.jsonl.damaged").read_text() == damage + "\n"


def test_a_ledger_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match="metrics.jsonl cannot be read: Is a directory"):
        read_rows(tmp_path / "metrics.jsonl")


def test_resuming_drops_what_was_measured_after_the_resumed_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    Ledger(path).append([row(4), row(5), row(5, metric="loss"), row(6), row(8)])
    with path.open("a") as file:
        file.write('{"step": 5, "val')
    ledger = Ledger(path)
    ledger.start_after(5)
    ledger.append([row(6, 2.0)])
    assert [(r["step"], r["value"]) for r in read_rows(path)] == [(4, 1), (5, 1), (5, 1), (6, 2)]
    assert path.read_bytes().endswith(b"\n")


def test_starting_from_nothing_makes_an_empty_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "metrics.jsonl")
    ledger.start_after(0)
    assert ledger.path.exists() and read_rows(ledger.path) == []


def test_a_row_added_after_a_cut_line_is_not_lost(tmp_path: Path) -> None:
    """`job=evaluate` appends without `start_after`."""
    path = tmp_path / "metrics.jsonl"
    Ledger(path).append([row(1)])
    with path.open("a") as file:
        file.write('{"step": 2, "val')
    Ledger(path).append([row(3), row(4)])
    assert [r["step"] for r in read_rows(path)] == [1, 3, 4]


# --- a full disk ----------------------------------------------------------------------------------


class FullDisk:
    """Stands in for os.write: takes `room` bytes, then fails until there is more room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, raises: bool) -> None:
        self.room: float = math.inf
        self._raises = raises
        self._write = os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, handle: int, data: bytes) -> int:
        taken = int(min(self.room, len(data)))
        self.room -= taken
        if taken == 0 or (self._raises and taken < len(data)):
            self._write(handle, data[:taken])
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(handle, data[:taken])


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("room", [0, 1, 60, 190, 250])
def test_a_disk_that_is_full_for_a_while_costs_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, raises: bool
) -> None:
    ledger = Ledger(tmp_path / "metrics.jsonl")
    ledger.append([row(1)])
    disk = FullDisk(monkeypatch, raises)
    disk.room = room
    for step in (2, 3, 4):
        with pytest.warns(UserWarning, match="will try again"):
            ledger.append([row(step), row(step, metric="loss")])
        assert [r["step"] for r in read_rows(ledger.path)] == [1]
        assert ledger.path.read_bytes().endswith(b"\n")
    disk.room = math.inf
    ledger.append([row(5)])
    assert [r["step"] for r in read_rows(ledger.path)] == [1, 2, 2, 3, 3, 4, 4, 5]


def test_a_ledger_that_cannot_be_closed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "metrics.jsonl")
    disk = FullDisk(monkeypatch, raises=False)
    disk.room = 10
    with pytest.warns(UserWarning, match="will try again"):
        ledger.append([row(1)])
    with pytest.raises(OSError, match="full|No space"):
        ledger.close()
    disk.room = math.inf
    ledger.close()
    ledger.close()
    assert [r["step"] for r in read_rows(ledger.path)] == [1]


def test_a_run_on_a_disk_that_is_full_for_a_while_has_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny.config(tmp_path / "whole")
    runner.run(whole)
    disk = FullDisk(monkeypatch, raises=True)
    calls, loss = 0, tiny.Task.loss

    def watched(self: Any, model: Any, batch: Any, world: Any) -> Any:
        nonlocal calls
        calls += 1
        disk.room = 100 if 6 < calls < 15 else math.inf
        return loss(self, model, batch, world)

    monkeypatch.setattr(tiny.Task, "loss", watched)
    poor = tiny.config(tmp_path / "poor")
    with pytest.warns(UserWarning, match="will try again"):
        assert runner.run(poor).state == "finished"
    assert forked.rows(poor) == forked.rows(whole)


def test_replacing_a_file_fails_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "status.json"
    store.write_json(path, {"a": 1})

    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        store.write_json(path, {"a": 2})
    assert store.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


# --- all runs as one table ------------------------------------------------------------------------


def test_the_table_has_the_columns_of_the_schema(tmp_path: Path) -> None:
    changes = {"train__epochs": None, "train__steps": 3, "launch__log_every_steps": 2}
    runner.run(tiny.config(tmp_path, **changes))
    runner.run(tiny.config(tmp_path, seed=1, **changes))
    table = read_runs(tmp_path)
    assert list(table.columns) == list(SCHEMA)
    assert sorted(table.seed.unique()) == [0, 1]
    assert table.run_id.nunique() == 2
    sometimes = {"stands_for", "n", "better", "error", "evaluation", "start_from", "init_optimizer"}
    always = [c for c in SCHEMA if c not in sometimes | {"instrument"}]
    assert not table[always].isna().any().any()
    assert set(table.state) == {"finished"}
    assert set(table.data) == {"tiny"} and set(table.model) == {"Net"}
    assert json.loads(table.hyper_parameters.iloc[0])["lr"] == table.lr.iloc[0] == 3e-3
    assert set(table[table.metric == "top1"].n) == {37, 41}


@pytest.mark.parametrize("there", [True, False])
def test_no_run_gives_an_empty_table(tmp_path: Path, there: bool) -> None:
    root = tmp_path if there else tmp_path / "missing"
    table = read_runs(root)
    assert table.empty
    assert list(table.columns) == list(SCHEMA)


def test_runs_without_a_row_yet_and_unfinished_runs_are_no_trouble(tmp_path: Path) -> None:
    write_run(tmp_path, "whole", [row(1), row(2)])
    write_run(tmp_path, "fresh", [])
    cut = write_run(tmp_path, "cut", [row(1), row(2)])
    (cut / "status.json").write_text('{"sta')
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "val')
    (tmp_path / "draft").mkdir()
    (tmp_path / "a file").write_text("")
    table = read_runs(tmp_path)
    assert table.groupby("run_id").step.apply(list).to_dict() == {"whole": [1, 2], "cut": [1, 2]}
    assert set(table[table.run_id == "cut"].state) == {"unknown"}


def test_each_row_has_the_commit_and_device_of_its_session(tmp_path: Path) -> None:
    sessions = [{"commit": c, "versions": "{}", "device": f"gpu {c}"} for c in "ab"]
    write_run(tmp_path, "r", [row(1), row(2, session=1)], sessions=sessions)
    assert list(read_runs(tmp_path).commit) == ["a", "b"]
    assert list(read_runs(tmp_path).device) == ["gpu a", "gpu b"]


FOREIGN = {
    "empty sessions": {"sessions": []},
    "a session of an older version": {"sessions": [{"start_step": 0}]},
    "a list where text should be": {"hyper_parameters": [1, 2, 3]},
}


@pytest.mark.parametrize("header", FOREIGN.values(), ids=list(FOREIGN))
def test_a_foreign_or_old_run_does_not_take_the_table_down(
    tmp_path: Path, header: dict[str, Any]
) -> None:
    write_run(tmp_path, "good", [row(1)])
    write_run(tmp_path, "odd", [row(1)], **header)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = read_runs(tmp_path)
    assert "good" in set(table.run_id)
    assert ("odd" in set(table.run_id)) != any("odd is left out" in str(w.message) for w in caught)


@pytest.mark.parametrize("text", ['{"run_id": "odd"}', "[1]", '"text"'])
def test_a_foreign_run_json_does_not_take_the_table_down(tmp_path: Path, text: str) -> None:
    write_run(tmp_path, "good", [row(1)])
    (write_run(tmp_path, "odd", [row(1)]) / "run.json").write_text(text)
    with pytest.warns(UserWarning, match="odd is left out of the table"):
        assert set(read_runs(tmp_path).run_id) == {"good"}


def test_rows_of_an_older_version_do_not_take_the_table_down(tmp_path: Path) -> None:
    write_run(tmp_path, "good", [row(1)])
    odd = write_run(tmp_path, "odd", [])
    (odd / "metrics.jsonl").write_text('{"step": 1, "value": 2}\n')
    with pytest.warns(UserWarning, match="odd/metrics.jsonl: damaged and left out: line 1"):
        assert set(read_runs(tmp_path).run_id) == {"good"}


def test_many_rows_are_read_back_in_order(tmp_path: Path) -> None:
    write_run(tmp_path, "long", [row(step, step / 3) for step in range(20_000)])
    table = read_runs(tmp_path)
    assert list(table.step) == list(range(20_000))
    assert list(table.value) == [step / 3 for step in range(20_000)]


def test_evaluating_a_finished_run_twice_doubles_no_measurement(tmp_path: Path) -> None:
    changes = {"train__epochs": None, "train__steps": 3}
    first = runner.run(tiny.config(tmp_path, **changes))
    for _ in range(2):
        again = evaluate.measure(tiny.config(tmp_path, job="evaluate", **changes))
        assert [{**row, "session": 0} for row in again.rows] == first.results
    table = read_runs(tmp_path)
    key = ["run_id", "step", "split", "metric", "weights"]
    assert not table.duplicated(key).any()


# --- the lock -------------------------------------------------------------------------------------


def hold(path: Path, *, with_status: bool = True) -> Any:
    """A process that holds the run's folder until it is killed."""

    def work() -> None:
        with Folder(path).locked():
            if with_status:
                Folder(path).write_status("running", 3, 9)
            (path / "held").touch()
            signal.pause()

    process = _fork.Process(target=work)
    process.start()
    forked.wait_for((path / "held").exists)
    return process


def test_a_second_writer_is_told_who_holds_the_run(tmp_path: Path) -> None:
    holder = hold(tmp_path / "run")
    try:
        named = f"process {holder.pid} on {socket.gethostname()}"
        with pytest.raises(UserError, match=named), Folder(tmp_path / "run").locked():
            pass
        assert Folder(tmp_path / "run").is_held()
    finally:
        holder.kill()
        holder.join()


def test_the_lock_goes_with_kill_9(tmp_path: Path) -> None:
    holder = hold(tmp_path / "run")
    holder.kill()
    holder.join()
    assert not Folder(tmp_path / "run").is_held()
    with Folder(tmp_path / "run").locked():
        assert store.read_json(tmp_path / "run" / "status.json")["state"] == "running"


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Folder(tmp_path).locked():
        raise ZeroDivisionError
    assert not Folder(tmp_path).is_held()


def test_the_holder_is_named_right_while_it_still_builds(tmp_path: Path) -> None:
    """The status is written when the first step is near; until then it is of the last session."""
    path = tmp_path / "run"
    path.mkdir()
    store.write_json(path / "status.json", {"state": "interrupted", "pid": 1, "host": "elsewhere"})
    holder = hold(path, with_status=False)
    try:
        with pytest.raises(UserError, match=f"process {holder.pid} on"), Folder(path).locked():
            pass
    finally:
        holder.kill()
        holder.join()


def test_the_lock_goes_with_kill_9_though_a_loading_process_lives_on(tmp_path: Path) -> None:
    path = tmp_path / "run"

    def work() -> None:
        with Folder(path).locked():
            child = os.fork()
            if child == 0:
                signal.pause()
            (path / "child").write_text(str(child))
            (path / "held").touch()
            signal.pause()

    holder = _fork.Process(target=work)
    holder.start()
    forked.wait_for((path / "held").exists)
    holder.kill()
    holder.join()
    try:
        assert not Folder(path).is_held()
    finally:
        os.kill(int((path / "child").read_text()), signal.SIGKILL)


def test_the_holder_is_named_and_nothing_of_the_one_before(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 4194304 on a machine with quite a long name")
    with Folder(tmp_path).locked():
        said = (tmp_path / ".lock").read_text()
    assert said == f"process {os.getpid()} on {socket.gethostname()}"


def test_two_may_ask_at_once_whether_a_run_is_held(tmp_path: Path) -> None:
    with Folder(tmp_path).locked():
        assert Folder(tmp_path).is_held()
    asking = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    assert not Folder(tmp_path).is_held()
    os.close(asking)


def test_asking_whether_a_run_is_held_makes_no_folder(tmp_path: Path) -> None:
    assert not Folder(tmp_path / "never").is_held()
    assert not (tmp_path / "never").exists()


# --- the configuration of a run -------------------------------------------------------------------


def test_a_configuration_is_read_back_or_its_absence_said(tmp_path: Path) -> None:
    (tmp_path / "vit-lion-s0-abc").mkdir()
    path = tmp_path / "vit-lion-s0-abc" / "config.yaml"
    path.write_text("seed: 3\ntrain: {epochs: 2}\n")
    assert read_config(path.parent) == {"seed": 3, "train": {"epochs": 2}}
    with pytest.raises(UserError, match="has no run vit-lion-s0-abd; did you mean vit-lion-s0-abc"):
        read_config(tmp_path / "vit-lion-s0-abd")
    with pytest.raises(UserError, match="has no run mlp-lion-s0-abd: train it first, or say res"):
        read_config(tmp_path / "mlp-lion-s0-abd")  # a run of another experiment is not meant
    for damaged in ("a: [1", "just text"):
        path.write_text(damaged)
        with pytest.raises(UserError, match="config.yaml"):
            read_config(path.parent)


def test_who_only_asks_whether_a_run_is_held_keeps_nobody_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who asks, and another who begins, hold a share at the very moment."""
    with Folder(tmp_path).locked():
        pass
    lock, shares = fcntl.flock, list[int]()
    for _ in range(2):
        shares.append(os.open(tmp_path / ".lock", os.O_RDONLY))
        lock(shares[-1], fcntl.LOCK_SH)

    def pause(_: float) -> None:
        os.close(shares.pop())
        if not shares:  # two that wait for each other would both hold one
            other = os.open(tmp_path / ".lock", os.O_RDONLY)
            lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(other)

    monkeypatch.setattr(store.time, "sleep", pause)
    with Folder(tmp_path).locked():
        assert not shares
        with pytest.raises(HeldError), Folder(tmp_path).locked():
            pass


def test_a_sweep_that_is_made_while_it_is_looked_for_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missed(path: Path) -> dict[str, Any]:
        path.write_text("{}")
        return {}

    monkeypatch.setattr(store, "read_json", missed)
    with pytest.raises(UserError, match="no sweep there"):
        store.read_sweep(tmp_path)
    with pytest.raises(UserError, match="is damaged"):
        store.read_sweep(tmp_path)
