"""Checkpoints in shards: complete or not there, for any number of processes."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
import tiny
import torch
import torch.distributed.fsdp
import torch.distributed.tensor
from in_shards import (
    INT8_TOLERANCE,
    STATE_TOLERANCE,
    TOLERANCE,
    config,
    difference,
    state_difference,
)

from experiments import (
    checkpoint,
    runner,
    saved_parts,
    saved_shards,
    shard_files,
    shard_storage,
)
from experiments.checkpoint import find_good, list_newest_first
from experiments.config import CheckpointConfig, ConfigError
from experiments.identity import run_id
from experiments.jobs import evaluate

SHORT = {"train__steps": 6, "eval__every_steps": None, "checkpoint__every_steps": 2}


def steps_of(made: Any) -> list[int]:
    return [checkpoint.step_of(p) for p in list_newest_first(forked.folder(made) / "checkpoints")]


# --- several processes ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = config(tmp_path_factory.mktemp("alone"), "lion int8")
    assert runner.run(made).state == "finished"
    return made


def test_saved_by_two_by_one_and_by_four(tmp_path: Path, alone: Any) -> None:
    """The four are two groups that each share a model; all but the last are killed."""
    sharded = {"checkpoint__format": "sharded"}
    made = config(tmp_path, "lion int8", **sharded)
    assert -signal.SIGKILL in forked.run_ranks(made, 2, **{tiny.KILL_VARIABLE: "15"})
    assert forked.run(made, **{tiny.KILL_VARIABLE: "25"}) == -signal.SIGKILL
    assert steps_of(made) == [10, 5]
    four = config(tmp_path, "lion int8", "hsdp", launch__shard_size=2, **sharded)
    assert forked.run_ranks(four, 4) == [0] * 4
    assert not list(forked.folder(made).glob("checkpoints/*.pt"))
    assert difference(alone, made) <= INT8_TOLERANCE
    assert state_difference(alone, made) <= STATE_TOLERANCE
    found = evaluate.measure(config(tmp_path, "lion int8", job="evaluate")).rows
    kept = [r for r in forked.rows(made) if r["step"] == 20 and r.get("evaluation")]
    values = {(r["split"], r["metric"], r["weights"]): r["value"] for r in kept}
    for row in found:
        wanted = values[row["split"], row["metric"], row["weights"]]
        assert row["value"] == pytest.approx(wanted, rel=1e-5)


def test_a_run_begins_with_weights_in_shards(tmp_path: Path, whole: Any) -> None:
    path = find_good(forked.folder(whole) / "checkpoints")
    assert path is not None and path.suffix == ".shards"
    still = {"train__steps": 1, "optimizer__lr": 0.0, "eval__every_steps": None}
    for number, source in enumerate((forked.folder(whole), path)):
        section = {"source": str(source), "weights": "ema"}
        made = config(tmp_path / str(number), "lion", **still, start_from=section)
        assert runner.run(made).state == "finished"
        found, wanted = forked.weights(made)["model"], checkpoint.load(path)["average"]
        for name, tensor in found.items():
            assert torch.equal(tensor, wanted[f"module.{name}"]), name


def test_groups_that_share_a_model_train_as_ddp_does(tmp_path: Path) -> None:
    """Clipping, two micro-batches a step that weigh unlike, averages."""
    few = {"train__micro_batch_size": 2, "train__steps": 8, "eval__every_steps": None}
    both = [
        config(tmp_path / "ddp", "adamw", "ddp", **few),
        config(tmp_path / "hsdp", "adamw", "hsdp", launch__shard_size=2, **few),
    ]
    for made in both:
        assert forked.run_ranks(made, 4) == [0] * 4
    assert difference(*both) <= TOLERANCE
    assert run_id(both[0]) == run_id(both[1])
    path = find_good(forked.folder(both[1]) / "checkpoints")
    assert path is not None
    pieces = shard_files.manifest(path)["tensors"]["model/blocks.0.inner.weight"]["pieces"]
    assert len(pieces) == 2  # of four processes, two hold each


def killed_at(place: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Has a process die within its second save; returns the step whose checkpoint is then kept."""
    calls = []

    def die(rank: int, at: int = 2) -> None:
        calls.append(place)
        if int(os.environ.get("RANK", "0")) == rank and len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(target: Any, name: str, rank: int) -> None:
        real = getattr(target, name)

        def dying(*a: Any, **k: Any) -> Any:
            die(rank)
            return real(*a, **k)

        monkeypatch.setattr(target, name, dying)

    if place == "written":
        real = shard_storage.Writer.write_data

        def write(*a: Any) -> Any:
            result = real(*a)
            die(1)
            return result

        monkeypatch.setattr(shard_storage.Writer, "write_data", write)
    else:
        owner, name, rank = {
            "not written": (shard_storage.Writer, "write_data", 1),
            "no manifest": (shard_storage.Writer, "finish", 0),
            "no name": (checkpoint, "adopt_shards", 0),
            "none removed": (checkpoint, "_retire", 0),
        }[place]
        before(owner, name, rank)
    return 4 if place == "none removed" else 2


@pytest.mark.parametrize(
    "place", ["not written", "written", "no manifest", "no name", "none removed"]
)
def test_killed_while_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, whole: Any
) -> None:
    made = config(tmp_path, "lion bf16", **SHORT)
    with monkeypatch.context() as patched:
        kept = killed_at(place, patched)
        assert -signal.SIGKILL in forked.run_ranks(made, 2)
    found = find_good(forked.folder(made) / "checkpoints")
    assert found is not None and checkpoint.step_of(found) == kept
    assert forked.run_ranks(made, 2) == [0, 0]
    forked.assert_same_end(whole, made)
    assert not list(forked.folder(made).glob("checkpoints/*.tmp"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that nothing happened to."""
    made = config(tmp_path_factory.mktemp("whole"), "lion bf16", **SHORT)
    assert forked.run_ranks(made, 2) == [0, 0]
    return made


def test_saving_goes_on_beside_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Any
) -> None:
    """Each checkpoint is written after the next step was made, and is of the step before."""
    beside = {"checkpoint__asynchronous": True, "checkpoint__keep": 3}
    made = config(tmp_path / "runs", "lion bf16", **SHORT, **beside)
    stepped = threading.Event()
    step, write = runner._step, shard_storage.Writer.write_data

    def stepping(*a: Any) -> Any:
        found = step(*a)
        stepped.set()
        return found

    def write_later(writer: Any, *a: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            assert stepped.wait(forked.NET_SECONDS)
            with (tmp_path / f"beside-{os.environ['RANK']}").open("a") as file:
                file.write(".")
        return write(writer, *a)

    begin = saved_shards.ShardSaver.save

    def saving(*a: Any, **k: Any) -> None:
        stepped.clear()
        begin(*a, **k)

    monkeypatch.setattr(runner, "_step", stepping)
    monkeypatch.setattr(shard_storage.Writer, "write_data", write_later)
    monkeypatch.setattr(saved_shards.ShardSaver, "save", saving)
    assert forked.run_ranks(made, 2) == [0, 0]
    assert steps_of(made) == [6, 4, 2]
    assert [(tmp_path / f"beside-{rank}").read_text() for rank in (0, 1)] == ["..", ".."]
    forked.assert_same_end(whole, made)
    by_step = [
        {checkpoint.step_of(p): p for p in list_newest_first(forked.folder(c) / "checkpoints")}
        for c in (whole, made)
    ]
    a, b = (checkpoint.load(paths[4]) for paths in by_step)
    for part in ("model", "average"):
        for name, tensor in a[part].items():
            assert torch.equal(tensor, b[part][name]), name
    for number, state in a["optimizer"]["state"].items():
        for key, tensor in state.items():
            assert torch.equal(tensor, b["optimizer"]["state"][number][key]), key


def test_every_process_learns_that_a_draft_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes that for a checkpoint, and nobody waits for shards that will not come."""
    told: list[Any] = []

    def share(said: Any) -> Any:
        told.append(said)
        return told[0]

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    for is_main in (True, False):
        world: Any = SimpleNamespace(is_main=is_main, size=2, share=share)
        saver = saved_shards.ShardSaver(CheckpointConfig(), world)
        with pytest.raises(checkpoint.CheckpointError, match="cannot save .* No space left"):
            saver.save(tmp_path, 1, {}, now=True)


def test_every_process_that_saves_learns_that_the_ledger_cannot_be_written() -> None:
    """Else the others would wait for the main process in their next save."""
    told: list[str] = []

    def share(said: str) -> str:
        told.append(said)
        return told[0]

    def close() -> None:
        raise OSError("no room for rows")

    recorder: Any = SimpleNamespace(ledger=SimpleNamespace(close=close))
    for is_main in (True, False):
        world = SimpleNamespace(is_main=is_main, share=share)
        parts: Any = SimpleNamespace(world=world, saver=True)
        with pytest.raises(OSError, match="no room for rows"):
            saved_parts._close_ledger(parts, recorder)
    assert told == ["no room for rows", ""]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_full_disk_in_one_process_stops_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    write, calls = shard_storage.Writer.write_data, []

    def fail_once(*a: Any) -> Any:
        calls.append(1)
        if os.environ.get("RANK") == "1" and len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(*a)

    monkeypatch.setattr(shard_storage.Writer, "write_data", fail_once)
    made = config(tmp_path, "lion bf16", **SHORT, checkpoint__asynchronous=asynchronous)
    assert forked.run_ranks(made, 2) == [0, 0]
    assert steps_of(made) == [6, 2]
    log = (forked.folder(made) / "log.txt").read_text()
    assert "not saved, will try again: cannot save a checkpoint in shards" in log
    assert "No space left" in log
    assert not list(forked.folder(made).glob("checkpoints/*.tmp"))


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes,said",
    [
        (
            {"launch__strategy": "hsdp", "launch__num_processes": 4, "launch__shard_size": 3},
            "hsdp: 4 processes are no groups of 3 .*set launch.shard_size to one of 2, 4$",
        ),
        ({"launch__shard_size": 2}, "shard_size=2 does nothing with launch.strategy=fsdp"),
        (
            {"checkpoint__asynchronous": True, "checkpoint__format": "whole"},
            "only shards are written while training goes on; set checkpoint.format=sharded",
        ),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config(tmp_path, **changes)
