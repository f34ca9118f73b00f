"""job=landscape end to end: rows in the run's ledger, replaced and not doubled, resumed."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml

import run
from experiments import runner
from experiments.analysis.landscape import eigenvalue_table, noise_table
from experiments.checks import check
from experiments.config import ConfigError, RunConfig, UserError, to_dict
from experiments.identity import run_id
from experiments.jobs import flatness, landscape
from experiments.store import Folder, read_json, read_rows
from experiments.table import read_runs

SMALL: dict[str, Any] = {
    "landscape__sigmas": [0.05],
    "landscape__relative_scales": [0.2],
    "landscape__num_draws": 6,
    "landscape__num_examples": 40,
    "landscape__batch_size": 16,
    "landscape__hessian_examples": 24,
}


def trained(results: Path, **changes: Any) -> RunConfig:
    runner.run(tiny.config(results, train__epochs=1.0, **changes))
    return job(results, **changes)


def job(results: Path, **changes: Any) -> RunConfig:
    return tiny.config(results, train__epochs=1.0, job="landscape", **{**SMALL, **changes})


def folder(config: RunConfig) -> Folder:
    return Folder(Path(config.results_dir) / run_id(config))


def lines(config: RunConfig) -> list[dict[str, Any]]:
    return [json.loads(text) for text in folder(config).metrics.read_text().splitlines()]


def test_weights_kept_in_bfloat16_are_measured_in_float32(tmp_path: Path) -> None:
    """bfloat16 would round the loss to 1/64, and numpy does not know it."""
    kept = {"train__precision": "bf16", "train__param_dtype": "bfloat16", "train__ema_decay": None}
    rows = landscape.measure(trained(tmp_path, **kept))
    found = {row["metric"]: row["value"] for row in rows}
    assert all(math.isfinite(value) for value in found.values())
    assert torch.tensor(found["loss"]).bfloat16().item() != found["loss"]


def test_rows_go_into_the_ledger_of_the_run(tmp_path: Path) -> None:
    config = trained(tmp_path)
    before, status = lines(config), read_json(folder(config).status)
    rows = landscape.measure(config)
    assert lines(config)[: len(before)] == before
    assert read_json(folder(config).status) == status  # the run is what it was
    found = {row["metric"]: row for row in rows}
    assert set(found) == {
        "loss", "loss_sigma_0.05", "loss_sigma_0.05_se", "loss_relative_0.2",
        "loss_relative_0.2_se", "hessian_top", "hessian_top_residual",
    }  # fmt: skip
    assert {row["unit"] for row in rows} == {"nats"}
    assert {row["step"] for row in rows} == {status["step"]}
    assert found["loss_sigma_0.05"]["n"] == 6 and found["loss"]["n"] == 40
    assert found["hessian_top"]["n"] == 24
    assert found["loss_sigma_0.05"]["value"] != found["loss"]["value"]
    assert found["loss_sigma_0.05_se"]["value"] > 0


def test_a_second_call_measures_nothing(tmp_path: Path, monkeypatch) -> None:
    config = trained(tmp_path)
    rows = landscape.measure(config)
    before = folder(config).metrics.read_bytes()
    monkeypatch.setattr(landscape, "pair_loss", None)
    monkeypatch.setattr(landscape, "top_eigenvalue", None)
    assert landscape.measure(config) == rows
    assert folder(config).metrics.read_bytes() == before


def test_a_call_that_was_cut_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch) -> None:
    whole = {r["metric"]: r["value"] for r in landscape.measure(trained(tmp_path / "whole"))}
    config = trained(tmp_path / "cut")
    monkeypatch.setattr(landscape, "SAVE_SECONDS", 0.0)
    calls = []

    def fails_later(*args: Any) -> float:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return flatness.pair_loss(*args)

    monkeypatch.setattr(landscape, "pair_loss", fails_later)
    with pytest.raises(KeyboardInterrupt):
        landscape.measure(config)
    kept = {r["metric"]: r for r in read_rows(folder(config).metrics)}
    assert kept["loss_sigma_0.05"]["n"] == 4  # two pairs were done
    monkeypatch.setattr(landscape, "pair_loss", flatness.pair_loss)
    ended = {r["metric"]: r["value"] for r in landscape.measure(config)}
    assert ended == pytest.approx(whole, rel=1e-9)


def test_more_draws_go_on_and_other_examples_start_anew(tmp_path: Path) -> None:
    config = trained(tmp_path)
    landscape.measure(config)
    more = {r["metric"]: r for r in landscape.measure(job(tmp_path, landscape__num_draws=10))}
    fresh = {r["metric"]: r for r in landscape.measure(
        trained(tmp_path / "fresh", landscape__num_draws=10))}  # fmt: skip
    assert more["loss_sigma_0.05"]["n"] == 10
    for metric, row in fresh.items():
        assert more[metric]["value"] == pytest.approx(row["value"], rel=1e-9)
    other = {r["metric"]: r for r in landscape.measure(job(tmp_path, landscape__seed=1))}
    assert other["loss"]["value"] != more["loss"]["value"]
    kept = [r for r in read_rows(folder(config).metrics) if r["split"] == "landscape"]
    assert len(kept) == len(other) == 7  # replaced, not doubled


def test_the_weights_measured_are_the_runs_and_dropout_is_off(tmp_path: Path) -> None:
    config = trained(tmp_path, task__max_shift=0, model__dropout=0.5)
    found = {r["metric"]: r["value"] for r in landscape.measure(config)}
    again = {r["metric"]: r["value"] for r in landscape.measure(job(
        tmp_path, task__max_shift=0, model__dropout=0.5, landscape__num_examples=41,
        landscape__hessian_examples=0))}  # fmt: skip
    assert again["loss"] == pytest.approx(found["loss"], rel=0.2)  # one more example
    assert "hessian_top" not in again


def test_without_a_checkpoint_it_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    config = job(tmp_path)
    with pytest.raises(UserError, match="no checkpoint to measure; train first"):
        landscape.measure(config)
    assert not folder(config).path.exists()


def test_several_processes_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="without torchrun"):
        landscape.measure(job(tmp_path))


def test_it_does_not_rename_the_run(tmp_path: Path) -> None:
    assert run_id(job(tmp_path)) == run_id(tiny.config(tmp_path, train__epochs=1.0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"landscape__sigmas": [0.0]}, r"landscape.sigmas=\[0.0\]"),
     ({"landscape__num_draws": 3}, "landscape.num_draws=3"),
     ({"landscape__hessian_examples": 41}, "between 0 and landscape.num_examples=40")],
)  # fmt: skip
def test_settings_that_cannot_work(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check(job(tmp_path, **changes))


def test_an_eigenvalue_that_is_not_found_names_the_remedy(tmp_path: Path, monkeypatch) -> None:
    config = trained(tmp_path)

    def fails(*args: Any, **kwargs: Any) -> None:
        raise ArithmeticError("the top eigenvalue was not found")

    monkeypatch.setattr(landscape, "top_eigenvalue", fails)
    with pytest.raises(UserError, match="raise landscape.hessian_iterations"):
        landscape.measure(config)
    kept = [r["metric"] for r in read_rows(folder(config).metrics)]
    assert "loss_relative_0.2" in kept  # what was measured before stays


def test_the_tables_for_the_figure(tmp_path: Path) -> None:
    for seed in (0, 1):
        landscape.measure(trained(tmp_path, seed=seed))
    runs = read_runs(tmp_path)
    table = noise_table(runs)
    assert len(table) == 6
    assert table.noise.tolist()[:3] == ["none", "relative", "sigma"]
    assert table.scale.tolist()[:3] == [0.0, 0.2, 0.05]
    assert table[table.noise != "none"].se.notna().all()
    assert table.draws.tolist()[:3] == [0, 6, 6]
    assert eigenvalue_table(runs).seed.tolist() == [0, 1]
    assert noise_table(runs[runs.split != "landscape"]).empty


# --- the command line -----------------------------------------------------------------------------


def test_by_command_line_and_by_run_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default proxy, one step of training; then the job by the same words and by the id."""
    small = [
        "landscape.num_draws=4", "landscape.sigmas=[0.01]", "landscape.relative_scales=[]",
        "landscape.num_examples=64", "landscape.batch_size=64", "landscape.hessian_examples=8",
    ]  # fmt: skip
    words = [
        "train.epochs=null",
        "train.steps=1",
        f"results_dir={tmp_path}",
        "launch.progress=false",
    ]
    runner.run(run.compose(words))
    (path,) = tmp_path.iterdir()
    monkeypatch.setattr("sys.argv", ["run.py", "job=landscape", *words, *small])
    assert run.main() == 0
    assert capsys.readouterr().out.startswith(f"{path.name}: landscape, loss ")
    named = ["job=landscape", f"run={path.name}", f"results_dir={tmp_path}"]
    config = run.compose([*named, *small, "launch.num_threads=2"])
    assert (run_id(config), config.train.steps) == (path.name, 1)
    assert config.launch.num_threads == 2
    before = (path / "metrics.jsonl").read_bytes()
    assert run.run_job(config) == 0
    assert (path / "metrics.jsonl").read_bytes() == before  # the same rows: nothing to do


def test_a_recorded_run_finds_its_data_where_they_lie_now(tmp_path: Path) -> None:
    section = {"_target_": "experiments.data.image_files.ImageFiles", "root": "/old"}
    config = tiny.config(tmp_path, train__epochs=1.0)
    config.data = {**section, "val_root": None}
    name = run_id(config)
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(to_dict(config)))
    named = ["job=evaluate", f"run={name}", f"results_dir={tmp_path}"]
    found = run.compose([*named, "data.root=/new, of (today)", "++data.val_root=~/val"])
    assert found.data["root"] == "/new, of (today)"
    assert found.data["val_root"] == os.path.expanduser("~/val")
    with pytest.raises(ConfigError, match="data.tokenizer_file: the data of .* no such key"):
        run.compose([*named, "data.tokenizer_file=x"])


def test_a_run_that_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    where = f"results_dir={tmp_path}"
    with pytest.raises(UserError, match="has no run nothing-s0: train it first"):
        run.compose(["job=landscape", "run=nothing-s0", where])
    with pytest.raises(ConfigError, match="it needs job="):
        run.compose(["run=nothing-s0", where])
    with pytest.raises(ConfigError, match="optimizer.lr cannot be changed"):
        run.compose(["job=landscape", "run=nothing-s0", where, "optimizer.lr=1"])
    named = ["job=evaluate", "run=nothing-s0", where]
    with pytest.raises(ConfigError, match="launch.num_thread: no such key; did you mean launch"):
        run.compose([*named, "launch.num_thread=2"])
    for key in ("data.test_split=held", "model.no_such=1", "data.num_train=9"):
        what = f"{key.partition('=')[0]} cannot be changed .*: start_from=nothing-s0"
        with pytest.raises(ConfigError, match=what):
            run.compose([*named, key])
    for key in ("task.judge.clip", "task.one_shot.tasks"):  # no part of which run it is
        with pytest.raises(ConfigError, match=f"{key} would .* command that trained it, and job="):
            run.compose([*named, f"{key}=null"])
    runner.run(tiny.config(tmp_path, train__epochs=1.0))
    (path,) = tmp_path.iterdir()
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("seed: 0\n", "seed: 5\n", 1))
    with pytest.raises(ConfigError, match="recorded by another version"):
        run.compose(["job=landscape", f"run={path.name}", where])
