"""A run that is over: what is said of it, what makes it go on; and its header and configuration."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from experiments import checkpoint, ended, header, ledger, store
from experiments.config import RunConfig, UserError
from experiments.distributed import World
from experiments.recorder import Recorder
from experiments.store import Folder

MAIN = World(0, 1, torch.device("cpu"))
FACTS = {"data": "tiny", "model": "Net", "num_params": 7}


def row(step: int, split: str, **more: Any) -> dict[str, Any]:
    facts = {"step": step, "split": split, "metric": "loss", "value": 1.0, "weights": "raw"}
    return facts | more


def over(config: RunConfig, state: str = "finished", *more: dict[str, Any]) -> Folder:
    """The folder of a run that has ended, without training."""
    with Recorder.opened(config, MAIN) as writer:
        writer.start(0, 24, **FACTS)
        writer.add([row(12, "val"), row(24, "train"), *more])
        writer.add([row(24, "val"), row(24, "test"), row(24, "run")])
        writer.end(state, 24)
    return writer.folder


def asked(folder: Folder, config: RunConfig) -> tuple[bool, list[str]]:
    """Whether it is over, and what is said."""
    said: list[str] = []
    return ended.is_over(folder, config, said.append), said


def drop(folder: Folder, *splits: str) -> None:
    """Takes the rows of the last step."""
    lines = folder.metrics.read_text().splitlines(keepends=True)
    names = {f'"split": "{split}"' for split in splits}
    kept = [one for one in lines if '"step": 12' in one or not any(n in one for n in names)]
    folder.metrics.write_text("".join(kept))


@pytest.mark.parametrize("state", ["finished", "diverged"])
def test_what_is_as_it_was_is_over_without_a_word(tmp_path: Path, state: str) -> None:
    config = tiny.config(tmp_path)
    folder = over(config, state)
    assert asked(folder, config) == (True, [])
    checkpoint.save(folder.checkpoints, 24, {}, keep=1)
    assert asked(folder, config) == (True, [])


@pytest.mark.parametrize("state", ["finished", "diverged"])
def test_a_single_lost_row_is_said_once(tmp_path: Path, state: str) -> None:
    config = tiny.config(tmp_path)
    folder = over(config, state)
    drop(folder, "run")
    is_over, said = asked(folder, config)
    assert is_over and len(said) == 1
    assert "1 of its measurements are no longer in its ledger" in said[0]


def test_a_row_that_was_counted_later_than_the_end_is_no_loss(tmp_path: Path) -> None:
    """Rows up to the end are counted, not all that there are."""
    config = tiny.config(tmp_path)
    folder = over(config)
    folder.write_status("finished", 12, 24, num_rows=1, num_evaluations=1)
    assert asked(folder, config) == (True, [])
    folder.write_status("finished", 24, 24, num_rows=6, num_evaluations=2)
    assert "1 of its measurements" in asked(folder, config)[1][0]


def test_a_changed_value_is_said_and_trains_nothing(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    folder = over(config)
    folder.metrics.write_text(folder.metrics.read_text().replace("1.0", "2.0", 1))
    is_over, said = asked(folder, config)
    assert is_over and len(said) == 1 and "has been changed since" in said[0]


def test_a_finished_run_without_its_last_evaluation_goes_on_and_a_diverged_one_does_not(
    tmp_path: Path,
) -> None:
    for state in ("finished", "diverged"):
        config = tiny.config(tmp_path / state)
        folder = over(config, state)
        drop(folder, "test")
        is_over, said = asked(folder, config)
        assert is_over == (state == "diverged") and len(said) == 1
        expected = "lacks the evaluation there: going on" if state == "finished" else "1 of its"
        assert expected in said[0]


@pytest.mark.parametrize("with_checkpoint", [True, False])
def test_a_header_is_made_again_where_there_is_something_to_go_on_from(
    tmp_path: Path, with_checkpoint: bool
) -> None:
    config = tiny.config(tmp_path)
    folder = over(config)
    folder.header.unlink()
    if with_checkpoint:
        checkpoint.save(folder.checkpoints, 24, {}, keep=1)
    is_over, said = asked(folder, config)
    assert is_over == (not with_checkpoint)
    assert ["making it again" in one for one in said] == [True] * with_checkpoint


def test_telemetry_that_is_asked_for_and_is_not_there_is_said(tmp_path: Path) -> None:
    config = tiny.config(tmp_path / "without")
    wanted = replace(config, tracking=replace(config.tracking, telemetry_every_steps=3))
    (said,) = asked(over(config), wanted)[1]
    assert "not trained again, though telemetry is asked for, of which it has none" in said
    config = tiny.config(tmp_path / "with")
    folder = over(config, "finished", row(3, "telemetry"))
    for one in (config, replace(wanted, results_dir=config.results_dir)):
        assert asked(folder, one) == (True, [])


def test_a_finished_run_that_is_to_be_measured_otherwise_says_how(tmp_path: Path) -> None:
    def made(**judge: Any) -> RunConfig:
        config = tiny.config(tmp_path)
        return replace(config, task={**config.task, "judge": judge})

    before = made(sets={"mine": {"root": "/a"}}, ks=[1, 5])
    folder = over(before)
    for same in (before, made(sets={"mine": {"root": "/a"}}, ks=[1, 5], eta=0.0)):  # a newer key
        assert asked(folder, same) == (True, [])
    others = [
        made(sets={"mine": {"root": "/b"}}, ks=[1, 5]),
        made(sets={"mine": {"root": "/a"}}, ks=[1]),
    ]
    others += [made(sets={"mine": {"root": "/a"}, "more": {"root": "/c"}}, ks=[1, 5])]
    for other in others:
        (said,) = asked(folder, other)[1]
        assert "not measured again, though task.judge was another: job=evaluate does it" in said


def test_a_configuration_that_cannot_be_written_again_is_no_reason_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    config = tiny.config(tmp_path)
    folder = over(config)
    folder.config.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(header, "write_text", full)
        assert asked(folder, config)[0] and not folder.config.exists()
    assert asked(folder, config)[0] and folder.config.exists()


# --- where the data lay ---------------------------------------------------------------------------

PLACES = {"root": "/a/../b", "tokenizer_file": "~/t", "encoder": "e", "eval_roots": {"v2": "/v"}}


def with_data(tmp_path: Path, **data: Any) -> RunConfig:
    return replace(tiny.config(tmp_path), data={"_target_": "tiny.images", **data})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({**PLACES, "root": "/b", "encoder": os.path.abspath("e")}, ""),
        ({**PLACES, "tokenizer_file": os.path.expanduser("~/t")}, ""),
        ({"root": "/c"}, "data.root was /b and is /c, where nothing has been looked at"),
        ({"encoder": "/f"}, f"data.encoder was {os.path.abspath('e')} and is /f, "),
        ({"tokenizer_file": "/f"}, f"data.tokenizer_file was {os.path.expanduser('~/t')} and"),
        ({"eval_roots": {"v2": "/w"}}, "data.eval_roots.v2 was /v and is /w, "),
        ({"root": "/c", "eval_roots": {"v2": "/w", "a": "/a"}}, "is /c, data.eval_roots.v2 was /v"),
        ({"root": None, "eval_roots": {"new": "/w"}}, ""),
        ({}, ""),
    ],
)
def test_data_that_lie_elsewhere_are_named(tmp_path: Path, data: dict[str, Any], said: str) -> None:
    folder = Folder(tmp_path / "run")
    folder.path.mkdir()
    header.keep_config(folder, with_data(tmp_path, **PLACES))
    found = header.other_data(folder, with_data(tmp_path, **data))
    assert said in found and bool(said) == bool(found)
    folder.config.write_text("data: 7\n")
    assert header.other_data(folder, with_data(tmp_path, **data)) == ""


# --- the header -----------------------------------------------------------------------------------


def test_what_a_header_says_stays_and_what_it_lacks_is_added(tmp_path: Path) -> None:
    folder, config = Folder(tmp_path), tiny.config(tmp_path)
    config.optimizer = {"weight_decay": 0.1, "_target_": "x.Y", "_partial_": True}
    there = {"run_id": "x", "num_params": 5, "sessions": [{"start_step": 0}]}
    folder.header.write_text(json.dumps(there))
    found, kept = header.whole(folder, config, FACTS, [])
    assert (found["num_params"], found["model"], found["sessions"]) == (
        5,
        "Net",
        [{"start_step": 0}],
    )
    assert kept == "" and found["run_id"] == "x"
    assert found["lr"] is None and found["weight_decay"] == 0.1
    assert found["hyper_parameters"] == '{"_target_": "x.Y", "weight_decay": 0.1}'
    del config.optimizer["weight_decay"]
    assert header.of_config(config, "x")["weight_decay"] is None


@pytest.mark.parametrize("sessions", [None, {}, [7], [{}, "x"]])
def test_a_damaged_header_has_as_many_sessions_as_the_rows_name(
    tmp_path: Path, sessions: Any
) -> None:
    folder, config = Folder(tmp_path), tiny.config(tmp_path)
    folder.header.write_text(json.dumps({"run_id": "x", "sessions": sessions}))
    rows = [row(1, "val", session=number) for number in (0, 2, 1, "x", None)]
    found, kept = header.whole(folder, config, FACTS, rows)
    assert found["sessions"] == [{}, {}, {}] and found["run_id"] == tmp_path.name
    assert kept == "run.json.damaged" and not folder.header.exists()


def test_the_configuration_is_on_the_disk_and_stays_as_it_was_written(
    tmp_path: Path, synced: list[str]
) -> None:
    folder, config = Folder(tmp_path), tiny.config(tmp_path / "runs")
    header.keep_config(folder, config)
    assert [name[:11] for name in synced] == ["config.yaml", tmp_path.name[:11]]
    before = folder.config.stat()
    header.keep_config(folder, replace(config, results_dir="elsewhere"))
    assert folder.config.stat().st_ino == before.st_ino, "of the same run"


@pytest.mark.parametrize("text", ["data: 7\n", "train: 7\n", "nonsense: 7\n", "seed: 7\n", "[1"])
def test_a_configuration_of_anything_else_is_set_aside(tmp_path: Path, text: str) -> None:
    folder, config = Folder(tmp_path), tiny.config(tmp_path / "runs")
    folder.config.write_text(text)
    header.keep_config(folder, config)
    assert (tmp_path / "config.yaml.damaged").read_text() == text
    assert header.run_id(header.from_dict(header.read_config(tmp_path))) == header.run_id(config)


def test_a_header_and_its_sessions_are_read_apart_or_told_by_the_configuration(
    tmp_path: Path,
) -> None:
    folder, config = Folder(tmp_path), tiny.config(tmp_path / "runs", scale="paper")
    folder.header.write_text('{"run_id": "x", "seed": 3, "sessions": [{"commit": "a"}]}')
    assert header.read_header(folder) == ({"run_id": "x", "seed": 3}, [{"commit": "a"}])
    header.keep_config(folder, config)
    folder.header.unlink()
    with pytest.warns(UserWarning, match="run.json is missing or damaged"):
        told, sessions = header.read_header(folder)
    assert sessions == [] and told["run_id"] == tmp_path.name and told["scale"] == "paper"


def test_a_run_of_old_that_never_evaluated_lacks_nothing() -> None:
    """Its status counts no evaluations."""
    status = {"state": "finished", "step": 24}
    assert not ledger.lacks_end(status, [row(24, "train"), row(24, "run")])
    assert ledger.lacks_end(status, [row(24, "train"), row(12, "val")])
    assert not ledger.lacks_end(status, [row(24, "val")])
    counted = {**status, "num_evaluations": 1}
    assert not ledger.lacks_end(counted, [row(24, "val"), row(24, "test")]), "one more, later"
    assert ledger.lacks_end(counted, [row(24, "run")])


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_a_sweep_of_any_other_version_is_refused(tmp_path: Path, version: Any) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": version, "cells": []}))
    with pytest.raises(UserError, match="made by another version"):
        store.read_sweep(tmp_path)


@pytest.mark.parametrize("text", [b"[" * 5000, b"\xff\xfe\xff", b"a: [1", b"7"])
def test_a_configuration_that_is_none_is_one_line(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(text)
    with pytest.raises(UserError, match="config.yaml") as caught:
        store.read_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_that_is_nothing_like_it_is_not_meant() -> None:
    assert store.run_meant("vit-lion-s0-0123", ["vit-qqqqqqqqqqqqqqqqqqqqq"]) == ""
    assert (
        store.run_meant("vit-lion-s0-0123", ["vit-lion-s0-0124"])
        == "; did you mean vit-lion-s0-0124?"
    )


def test_a_configuration_runs_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "config.yaml").write_text(f"a: !!python/object/apply:os.mkdir ['{mark}']\n")
    with pytest.raises(UserError, match="config.yaml"):
        store.read_config(tmp_path)
    assert not mark.exists()
