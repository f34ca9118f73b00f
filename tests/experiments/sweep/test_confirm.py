"""The picks of a sweep are trained again with seeds that had no part in picking them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import swept
import tiny
from pretended import Values, planned, pretend

from experiments.config import UserError
from experiments.identity import run_id
from experiments.sweep import __main__ as script
from experiments.sweep import results
from experiments.sweep.confirm import confirm
from experiments.sweep.manifest import Cell, Sweep
from experiments.table import read_runs

SHORT: dict[str, Any] = {"train__epochs": None, "train__steps": 3, "eval__every_epochs": None}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two optimizers, two batch sizes, two learning rates, two seeds, trained for real."""
    root = tmp_path_factory.mktemp("tuned")
    cells = []
    for name in ("lion", "adamw"):
        for size in (16, 32):
            for lr in (1e-3, 1e-2):
                for seed in (0, 1):
                    changes = {"optimizer_name": name, "seed": seed, "train__batch_size": size}
                    made = tiny.config(root / "runs", **SHORT, **changes, optimizer__lr=lr)
                    settings = {"optimizer.lr": lr, "train.batch_size": size}
                    cells.append(Cell.of(made, settings))
    sweep = swept.sweep(root, cells, conditions=["batch_size"])
    assert swept.work(sweep.path) == 0
    return sweep


def test_each_pick_gets_every_fresh_seed_and_nothing_else(tuned: Sweep) -> None:
    fresh = confirm(tuned, [100, 101, 102])
    picked = {(b.optimizer, b.settings["batch_size"]): b for b in results.best_cells(tuned)}
    assert len(picked) == 4 and len(fresh.cells) == 12
    for cell in fresh.cells:
        best = picked[cell.optimizer, cell.config["train"]["batch_size"]]
        assert cell.config["optimizer"]["lr"] == best.settings["lr"]
        assert cell.config["seed"] == cell.seed
    assert {cell.seed for cell in fresh.cells} == {100, 101, 102}
    assert fresh.name == f"{tuned.name}-fresh" and fresh.manifest["budget_is_equal"]
    assert "on an edge of what was tried" in fresh.manifest["about"], "two rates: both are edges"
    again = confirm(tuned, [100, 101, 102])
    assert [c.run_id for c in again.cells] == [c.run_id for c in fresh.cells]


def test_picks_of_a_sweep_that_is_not_done_are_confirmed_with_a_warning(
    tuned: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "find", lambda name: tuned)
    monkeypatch.setattr(script.command, "launch", lambda *_: 0)
    assert script.main(["confirm", "x", "--seeds", "100"]) == 0
    assert "Beware" not in capsys.readouterr().out
    states = dict(tuned.states())
    states[tuned.cells[0].run_id] = "interrupted"
    monkeypatch.setattr(Sweep, "states", lambda sweep: states if sweep is tuned else {})
    monkeypatch.setattr(script.report, "show", lambda *_, **__: None)
    assert script.main(["confirm", "x", "--seeds", "100"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Beware: 1 of 16 cells of ") and f"resume {tuned.name}" in said


def test_a_confirmed_cell_is_the_run_that_the_command_line_would_make(tuned: Sweep) -> None:
    sweep = confirm(tuned, [100])
    assert swept.work(sweep.path) == 0
    table = results.runs_table(sweep).set_index("run_id")
    cell = sweep.cells[0]
    alone = tiny.config(
        tuned.path.parents[1] / "runs", **SHORT, optimizer_name=cell.optimizer, seed=100,
        train__batch_size=cell.settings["train.batch_size"],
        optimizer__lr=cell.settings["optimizer.lr"],
    )  # fmt: skip
    assert run_id(alone) == cell.run_id and table.state[cell.run_id] == "finished"


def test_a_seed_that_took_part_and_an_unfinished_sweep_are_refused(
    tuned: Sweep, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="seed 1 had a part in picking"):
        confirm(tuned, [100, 1])
    empty = swept.sweep(tmp_path, swept.cells(tmp_path, 2))
    with pytest.raises(UserError, match="no setting has finished with every seed yet"):
        confirm(empty, [100])


def test_picks_that_are_picks_no_more_do_not_stay_beside_the_new_ones(
    tuned: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a wider grid: the pick of one optimizer has changed, its former runs are out."""
    fresh = confirm(tuned, [110])
    picked = results.best_cells(tuned)
    other = {1e-3: 1e-2, 1e-2: 1e-3}
    changed = replace(
        picked[0], settings={**picked[0].settings, "lr": other[picked[0].settings["lr"]]}
    )
    monkeypatch.setattr("experiments.sweep.confirm.best_cells", lambda *_: [changed, *picked[1:]])
    again = confirm(tuned, [110])
    assert again.path == fresh.path and len(again.cells) == len(picked)
    assert {c.trial for c in again.cells} != {c.trial for c in fresh.cells}
    assert f"is now {fresh.name}-before" in capsys.readouterr().err
    assert len(Sweep(fresh.path.with_name(f"{fresh.name}-before")).cells) >= len(picked)

    monkeypatch.setattr(Sweep, "states", lambda self: {"a": "running"})
    monkeypatch.setattr("experiments.sweep.confirm.best_cells", lambda *_: picked)
    with pytest.raises(UserError, match="is being trained, and the picks have changed"):
        confirm(tuned, [110])
    assert len(Sweep(again.path).cells) == len(picked)


def test_fresh_runs_may_measure_more_but_train_alike(tuned: Sweep) -> None:
    plain = confirm(tuned, [103])
    fresh = confirm(tuned, [103], measured=["eval.every_steps=1"])
    assert swept.work(plain.path) == swept.work(fresh.path) == 0
    alike = [cell for cell in plain.cells if cell.seed == 103]  # a manifest only grows
    for one, other in zip(alike, fresh.cells, strict=True):
        assert one.run_id != other.run_id and other.config["eval"]["every_steps"] == 1
        ends, values = [], []
        for cell in (one, other):
            runs = read_runs(fresh.path.parents[1] / "runs", runs=[cell.run_id])
            val = runs[(runs.split == "val") & (runs.metric == "top1")]
            values.append(val.step.nunique())
            ends.append(val.loc[val.step == 3, "value"].tolist())
        assert ends[0] == ends[1] and values == [1, 3]
    command = results.runs_table(fresh).command.iloc[0]
    assert "eval.every_steps=1" in command


@pytest.mark.parametrize(
    "text", ["optimizer.lr=1", "eval.every_steps", "eval.nothing=1", "eval.every_steps=-1"]
)
def test_nothing_but_what_is_measured_may_be_changed(text: str, tuned: Sweep) -> None:
    with pytest.raises(UserError, match="eval|--measure"):
        confirm(tuned, [100], measured=[text])


def test_where_one_optimizer_has_no_pick_the_others_are_confirmed_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was refused for an unequal budget, or without a condition left out without a word."""
    values: Values = {(name, lr, 0.1): (50, 50) for name in ("lion", "sgd") for lr in (1e-3, 1e-2)}
    both = [planned(tmp_path, values, train__batch_size=size) for size in (16, 32)]
    cases = {
        "two sizes": (both, ["batch_size"], "lion (batch_size 32)", {"sgd": 2, "lion": 1}),
        "one size": ([[], both[1]], [], "lion", {"sgd": 1}),
    }
    for case, (parts, conditions, lost, budget) in cases.items():
        cells = [cell for part in parts for cell in part]
        sweep = swept.sweep(tmp_path / case, cells, conditions=conditions)
        for cell in cells:
            is_lost = cell.optimizer == "lion" and cell in parts[1]
            if not sweep.folder(cell).path.exists():
                pretend(sweep, cell, 50, 50, "diverged" if is_lost else "finished")
        script.report.show(sweep)
        assert f"nothing is picked of {lost}: no setting has" in capsys.readouterr().out
        fresh = confirm(sweep, [100])
        assert fresh.manifest["budget"] == budget and len(fresh.cells) == sum(budget.values())
        assert fresh.manifest["about"].endswith(f"; without a pick: {lost}")
        assert f"nothing is picked of {lost}: no setting has" in capsys.readouterr().err
