"""What a power loss or a careless copy takes from a run is noticed: made again, or said."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
import tiny
import torch
import yaml

from experiments import checkpoint, ledger, runner, saved_parts
from experiments.config import RunConfig, UserError, from_dict
from experiments.distributed import World
from experiments.identity import run_id
from experiments.jobs import evaluate
from experiments.recorder import Recorder
from experiments.store import Folder, Ledger, read_json, read_rows, write_json
from experiments.sweep.vectorised import run_group
from experiments.table import read_runs

SHORT: dict[str, Any] = {"train__epochs": 2.0, "train__ema_decay": None}
"""12 steps; evaluations at 6 and 12, checkpoints at 5, 10 and 12, training losses at 4, 8, 12."""


@pytest.fixture
def run(tmp_path: Path) -> tuple[RunConfig, Folder]:
    """A finished run."""
    config = tiny.config(tmp_path / "runs", **SHORT)
    return config, Folder(runner.run(config).folder)


def take_rows(folder: Folder, number: int) -> None:
    """As if the last rows had never reached the disk."""
    lines = folder.metrics.read_text().splitlines(keepends=True)
    folder.metrics.write_text("".join(lines[:-number]))


def log_of(folder: Folder) -> str:
    return folder.log.read_text()


# --- rows that are lost ---------------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True])
def test_a_run_whose_end_could_not_be_written_ends_again_without_a_row_twice(
    run: tuple[RunConfig, Folder], together: bool
) -> None:
    config, folder = run
    whole = folder.metrics.read_text()
    folder.write_status("running", 12, 12)  # a full disk, say
    (outcome,) = run_group([config]) if together else [runner.run(config)]
    assert outcome.state == "finished"
    assert folder.metrics.read_text() == whole


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("number", [4, 6, 9])
def test_a_lost_last_evaluation_is_made_again(
    run: tuple[RunConfig, Folder], number: int, keep: int
) -> None:
    """The last 9 rows: loss, lr, four measurements, three times."""
    config, folder = run
    whole = forked.rows(config)
    weights = forked.weights(config)["model"]
    take_rows(folder, number)
    folder.write_status("running", 12, 12)
    if keep == 1:
        for path in checkpoint.list_newest_first(folder.checkpoints)[1:]:
            path.unlink()
    outcome = runner.run(config)
    assert (outcome.state, outcome.step) == ("finished", 12)
    assert [row["step"] for row in outcome.results] == [12] * 4
    found = forked.rows(config)
    if number == 9 and keep == 1:  # the training loss cannot be measured again
        assert found == [row for row in whole if (row["step"], row["split"]) != (12, "train")]
        assert "6 measurements up to step 12 are lost: the ledger lacks them" in log_of(folder)
    else:
        assert found == whole
    if keep == 2 and number > 3:
        assert "up to step 12: going on from step 10, to make them again" in log_of(folder)
    assert all(torch.equal(t, weights[n]) for n, t in forked.weights(config)["model"].items())


@pytest.mark.parametrize(("every", "step"), [(0.5, 6), (None, 12)], ids=["middle", "only one"])
def test_each_evaluation_that_was_due_at_the_checkpoint_is_made_again(
    tmp_path: Path, every: float | None, step: int
) -> None:
    cadence = {"eval__every_epochs": every, "checkpoint__every_steps": 6, "checkpoint__keep": 9}
    config = tiny.config(tmp_path, **SHORT, **cadence)
    folder = Folder(runner.run(config).folder)
    whole = forked.rows(config)
    for path in checkpoint.list_newest_first(folder.checkpoints):
        if checkpoint.step_of(path) != step:
            path.unlink()
    places = [(row["step"], row["split"]) for row in read_rows(folder.metrics)]
    take_rows(folder, len(places) - places.index((step, "val")))
    folder.write_status("running", step, 12)
    assert runner.run(config).state == "finished"
    assert forked.rows(config) == whole


def test_a_group_makes_a_lost_evaluation_again(tmp_path: Path) -> None:
    plain = {"_target_": "tiny.Net", "batch_norm": False, "dropout": 0.0}
    configs = [tiny.config(tmp_path, seed=seed, model=plain, **SHORT) for seed in (0, 1)]
    run_group(configs)
    folders = [Folder(tmp_path / run_id(config)) for config in configs]
    whole = [read_rows(folder.metrics) for folder in folders]
    for folder in folders:
        for path in checkpoint.list_newest_first(folder.checkpoints)[1:]:
            path.unlink()
        take_rows(folder, 5)
        folder.write_status("running", 12, 12)
    assert {ended.state for ended in run_group(configs)} == {"finished"}
    for folder, before in zip(folders, whole, strict=True):
        again = [(r["step"], r["metric"], r["split"]) for r in read_rows(folder.metrics)]
        assert sorted(again) == sorted((r["step"], r["metric"], r["split"]) for r in before)


def test_a_run_that_only_says_it_is_finished_is_not(
    run: tuple[RunConfig, Folder], capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder = run
    whole = forked.rows(config)
    take_rows(folder, 5)  # the times, and two of the four measurements
    with pytest.warns(UserWarning, match="says that it is finished, but lacks its last evaluation"):
        assert set(read_runs(config.results_dir).state) == {"interrupted"}
    assert runner.run(config).state == "finished"
    assert forked.rows(config) == whole
    said = capsys.readouterr().err
    assert "finished at step 12, but" in said and "lacks the evaluation there: going on" in said
    assert set(read_runs(config.results_dir).state) == {"finished"}


def test_lost_times_of_a_finished_run_are_said_and_train_nothing(
    run: tuple[RunConfig, Folder], capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder = run
    take_rows(folder, 2)
    with pytest.warns(UserWarning, match="has lost 2 of its measurements"):
        assert set(read_runs(config.results_dir).state) == {"finished"}
    before = folder.metrics.stat().st_mtime_ns
    assert runner.run(config).state == "finished"
    assert folder.metrics.stat().st_mtime_ns == before
    assert "2 of its measurements are no longer in its ledger" in capsys.readouterr().err


def test_a_ledger_that_was_changed_since_is_said(
    run: tuple[RunConfig, Folder], capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder = run
    evaluate.measure(replace(config, job="evaluate"))  # what is added is no change
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_runs(config.results_dir)
    runner.run(config)
    assert capsys.readouterr().err == ""
    folder.metrics.write_text(folder.metrics.read_text().replace('"top1"', '"top2"', 1))
    with pytest.warns(UserWarning, match="metrics.jsonl has been changed since the run ended"):
        read_runs(config.results_dir)
    assert runner.run(config).state == "finished"
    assert "metrics.jsonl has been changed since" in capsys.readouterr().err


def test_a_run_of_an_older_version_without_its_last_evaluation_goes_on(
    run: tuple[RunConfig, Folder],
) -> None:
    config, folder = run
    status = {k: v for k, v in read_json(folder.status).items() if not k.startswith("num_")}
    write_json(folder.status, status)
    assert runner.run(config).state == "finished" and "resumed" not in log_of(folder)
    take_rows(folder, 7)
    assert runner.run(config).state == "finished" and "resumed" in log_of(folder)
    assert len(evaluate_rows(folder, 12)) == 4


def evaluate_rows(folder: Folder, step: int) -> list[dict[str, Any]]:
    rows = read_rows(folder.metrics)
    return [row for row in rows if row["step"] == step and row["split"] in ("val", "test")]


def test_rows_reach_the_disk_before_the_checkpoint_that_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each rename of a checkpoint, what was synced holds all rows that it counts."""
    synced: dict[str, int] = {}
    fsync, replace = os.fsync, Path.replace
    seen: list[tuple[int, int]] = []

    def note(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if path.endswith(".jsonl"):
            synced["rows"] = len(read_rows(Path(path)))
        fsync(handle)

    def rename(self: Path, target: Path) -> Path:
        if Path(target).suffix == ".pt":
            seen.append((synced["rows"], checkpoint.load(self)["num_rows"]))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", rename)
    runner.run(tiny.config(tmp_path, **SHORT))
    assert len(seen) == 3 and all(there == counted for there, counted in seen)
    assert [counted for _, counted in seen] == [2, 8, 14]


def test_counted_rows_stay_right_where_a_measurement_is_made_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    row = {"split": "val", "metric": "loss", "weights": "raw", "value": 1.0}
    first = Ledger(path)
    first.append([{**row, "step": 5}, {**row, "step": 6}, {**row, "step": 6, "split": "run"}])
    again = Ledger(path)
    again.start_after(6)
    again.append([{**row, "step": 6, "split": "run"}, {**row, "step": 7}])
    assert again.num_rows == len(read_rows(path)) == 4
    assert ledger.num_lost(path, 4, 7) == 0 and ledger.num_lost(path, 6, 7) == 2
    assert ledger.num_lost(path, None, 7) == 0


# --- checkpoints of others ------------------------------------------------------------------------


def rename(path: Path, step: int) -> Path:
    return path.rename(path.with_name(f"step_{step:09d}-{path.stem.partition('-')[2]}.pt"))


def as_another(path: Path, **changes: Any) -> Path:
    """A file that is whole, with another content."""
    content = {**checkpoint.load(path), **changes}
    step = checkpoint.step_of(path)
    path.unlink()
    return checkpoint.save(path.parent, step, content, keep=9)


def foreign_copy(newest: Path, other: Path) -> None:
    shutil.copy(checkpoint.find_good(other) or "", newest.parent)


WRONG: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "of another run": (foreign_copy, "it is of run tiny-lion-s1-"),
    "far too far": (lambda path, _: rename(path, 10**9 - 1), "it is of step 12, and this run has"),
    "past the end": (lambda p, _: rename(as_another(p, step=999), 999), "it is of step 999"),
    "another step": (lambda path, _: rename(path, 11), "it is of step 12"),
    "other weights": (lambda path, _: as_another(path, model={"a": torch.ones(2)}), "Missing key"),
    "no optimizer": (lambda path, _: as_another(path, optimizer={}), "param_groups"),
    "odd losses": (lambda path, _: as_another(path, losses="abc"), ""),
    "odd seconds": (lambda path, _: as_another(path, seconds={"train": "x"}), ""),
    "no seconds": (lambda path, _: as_another(path, seconds={}), ""),
}


@pytest.mark.parametrize("with_older", [True, False])
@pytest.mark.parametrize(("spoil", "reason"), WRONG.values(), ids=list(WRONG))
def test_a_checkpoint_that_is_not_this_runs_is_passed_over_or_refused(
    tmp_path: Path, with_older: bool, spoil: Callable[[Path, Path], Any], reason: str
) -> None:
    config = tiny.config(tmp_path / "runs", **SHORT)
    folder = Folder(runner.run(config).folder)
    whole, weights = forked.rows(config), forked.weights(config)["model"]
    other = runner.run(tiny.config(tmp_path / "others", **SHORT, seed=1)).folder / "checkpoints"
    newest, *older = checkpoint.list_newest_first(folder.checkpoints)
    is_copy = spoil is foreign_copy
    spoil(newest, other)
    if is_copy:
        newest.unlink()
    folder.write_status("running", 12, 12)
    if with_older:
        with pytest.warns(UserWarning, match="cannot be taken: .*" + reason):
            assert runner.run(config).state == "finished"
        assert forked.rows(config) == whole
        newest, *_ = checkpoint.list_newest_first(folder.checkpoints)
        found = checkpoint.load(newest)["model"]
        assert all(torch.equal(tensor, weights[name]) for name, tensor in found.items())
        assert len(list(folder.checkpoints.glob("*.damaged"))) == 1  # nothing is thrown away
        return
    for path in older:
        path.unlink()
    files = sorted(folder.checkpoints.iterdir())
    with (
        pytest.warns(UserWarning, match="cannot be taken"),
        pytest.raises(UserError, match=f"{reason}.*; move it away, and call the same"),
    ):
        runner.run(config)
    assert sorted(folder.checkpoints.iterdir()) == files


def test_another_runs_weights_are_not_measured_under_this_name(tmp_path: Path) -> None:
    own, other = (tiny.config(tmp_path, **SHORT, seed=seed) for seed in (0, 1))
    folders = [runner.run(config).folder / "checkpoints" for config in (own, other)]
    for path in folders[0].iterdir():
        path.unlink()
    foreign_copy(folders[0] / "x", folders[1])
    with pytest.warns(UserWarning), pytest.raises(UserError, match="it is of run tiny-lion-s1"):
        evaluate.measure(tiny.config(tmp_path, **SHORT, job="evaluate"))


# --- the configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [None, "a: [1", "just text", "", "seed: 7\n"])
def test_the_configuration_is_written_whenever_it_cannot_be_read(
    run: tuple[RunConfig, Folder], damage: str | None
) -> None:
    config, folder = run
    for state in ("finished", "running"):
        folder.config.unlink()
        if damage is not None:
            folder.config.write_text(damage)
        folder.write_status(state, 12, 12)
        runner.run(config)
        assert from_dict(yaml.safe_load(folder.config.read_text())) == config
    kept = sorted(path.read_text() for path in folder.path.glob("config.yaml.damaged*"))
    assert kept == ([] if damage is None else [damage] * 2)


def test_the_configuration_is_there_before_the_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.recorder.write_json", lambda *_, **__: os.kill(os.getpid(), 9))
    config = tiny.config(tmp_path, **SHORT)
    assert forked.run(config) == -9
    assert (forked.folder(config) / "config.yaml").exists()


def test_a_lost_header_is_made_again_with_the_sessions_that_the_rows_name(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, **SHORT)
    world = World(0, 1, torch.device("cpu"))
    row = {"step": 1, "split": "val", "metric": "top1", "value": 1.0, "weights": "raw"}
    for start in (0, 1):
        with Recorder.opened(config, world) as writer:
            writer.start(start, 12, data="tiny", model="Net", num_params=7)
            writer.add([{**row, "step": start + 1}])
            writer.end("interrupted", start + 1)
    writer.folder.header.write_text('{"run_id": "x", "sess')
    with pytest.warns(UserWarning, match="run.json is missing or damaged: what config.yaml does"):
        table = read_runs(tmp_path)
    assert list(table.step) == [1, 2] and set(table.lr) == {3e-3}
    with Recorder.opened(config, world) as writer:
        writer.start(2, 12, data="tiny", model="Net", num_params=7)
        writer.add([{**row, "step": 3}])
        writer.end("interrupted", 3)
    assert [r["session"] for r in read_rows(writer.folder.metrics)] == [0, 1, 2]
    assert len(read_json(writer.folder.header)["sessions"]) == 3
    assert "run.json was damaged: made anew, the old one is run.json.damaged" in log_of(
        writer.folder
    )
    table = read_runs(tmp_path)
    assert set(table.model) == {"Net"} and table.device.isna().tolist() == [True, True, False]


def test_where_all_checkpoints_count_rows_that_are_lost_the_newest_is_taken_whole(
    tmp_path: Path,
) -> None:
    """Those before it were looked at meanwhile: none of their weights may be left."""
    config = tiny.config(tmp_path, train__epochs=2.0, checkpoint__keep=9)
    outcome = runner.run(config)
    wanted = {r["metric"]: r["value"] for r in outcome.results if r["split"] == "val"}
    (outcome.folder / "metrics.jsonl").write_text("")
    again = runner.run(config)
    assert {r["metric"]: r["value"] for r in again.results if r["split"] == "val"} == wanted
    assert "up to step 12 are lost" in (outcome.folder / "log.txt").read_text()


def test_what_the_main_process_cannot_restore_is_an_error_in_all() -> None:
    word = None, "checkpoint x cannot be taken"
    parts: Any = SimpleNamespace(world=SimpleNamespace(is_main=False, share=lambda _: word))
    with pytest.raises(UserError, match="checkpoint x cannot be taken"):
        saved_parts.restore_parts(parts, SimpleNamespace())  # type: ignore[arg-type]
