"""How far a step goes beside its learning rate: from the ledger, and beside the ratios."""

# pyright: reportAttributeAccessIssue=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
import pytest
import tiny

from experiments import runner
from experiments.analysis import best_ratios, step_sizes, text_best_ratios
from experiments.table import read_runs


def test_lions_step_is_its_learning_rate(tmp_path: Path) -> None:
    words = {"train__epochs": None, "train__steps": 12, "tracking__telemetry_every_steps": 2}
    run = runner.run(tiny.config(tmp_path, optimizer__weight_decay=0.0, **words))
    found = step_sizes.measured(read_runs(tmp_path), {run.run_id: 12})
    assert set(found.group) == {"decay", "no_decay"} and set(found.steps) == {12}
    # The last look is at a learning rate of 0 or nearly so: it weighs as little.
    assert list(found.looks) == [6, 6]
    assert list(found.step_over_lr) == pytest.approx([1.0, 1.0], abs=0.02)


def test_a_mean_is_of_steps_over_that_of_learning_rates() -> None:
    fixed = {"split": "telemetry", "state": "finished", "run_id": "a", "experiment": "x"}
    fixed |= {"optimizer": "adamw", "batch_size": 4, "lr": 0.1, "weight_decay": 0.0, "seed": 0}
    values = {
        2: {"lr/decay": 0.1, "lr/no_decay": 0.1, "update_rms/decay": 0.02, "sign_flips/decay": 0.5},
        4: {"lr/decay": 0.0, "lr/no_decay": 0.0, "update_rms/decay": 0.01, "grad_norm": 3.0},
    }
    rows = [
        {**fixed, "step": step, "metric": metric, "value": value}
        for step, of_step in values.items()
        for metric, value in of_step.items()
    ]
    other = [{**row, "run_id": "b", "state": "running"} for row in rows]
    found = step_sizes.measured(pd.DataFrame([*rows, *other]), {"a": 5})
    assert found.to_dict("records") == [
        {
            **{key: fixed[key] for key in step_sizes.KEYS},
            **{"steps": 5, "group": "decay", "looks": 2, "step_over_lr": pytest.approx(0.3)},
        }
    ]


def test_what_is_committed_is_of_the_picks() -> None:
    """Every run that the tables name, at its own setting, and no other."""
    wanted = step_sizes.wanted().set_index("run_id")
    files = sorted((best_ratios.RESULTS / "studies").glob("*/step_sizes/sizes.csv"))
    sizes = pd.concat([pd.read_csv(file) for file in files])
    assert set(sizes.run_id) == set(wanted.index)
    for row in sizes.itertuples():
        words = shlex.split(wanted.command[row.run_id])
        assert f"train.steps={row.steps}" in words and f"optimizer={row.optimizer}" in words
        assert row.batch_size == best_ratios.BATCH and row.looks >= 50


def test_the_ratio_of_steps() -> None:
    """Of one committed condition, by hand."""
    found = step_sizes.table()
    one = found[(found.experiment == "mlp_proxy") & (found.steps == 620)].iloc[0]
    assert one.step_ratio == pytest.approx(one.lion / one.adamw / one.lr_ratio)
    ratios = best_ratios.table()
    is_it = (ratios.experiment == "mlp_proxy") & (ratios.kind == "parted") & (ratios.steps == 620)
    assert one.lr_ratio == ratios[is_it & (ratios.batch_size == 4)].lr_estimate.iloc[0]
    assert found.groupby(["experiment", "steps"]).size().max() == 1


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    assert step_sizes.table(tmp_path).empty and step_sizes.wanted(tmp_path).empty
    assert "not run yet" in text_best_ratios.step_sizes_said(tmp_path)
