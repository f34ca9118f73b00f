"""Studies from tables and from run folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import synthetic

from experiments.analysis.report import studies
from experiments.store import UserError


def test_a_study_without_optional_columns_is_read(tmp_path: Path) -> None:
    table = synthetic.runs()[["optimizer", "lr", "weight_decay", "seed", "state", "val", "test"]]
    folder = tmp_path / "studies/vit_proxy/short"
    folder.mkdir(parents=True)
    table.to_csv(folder / "runs.csv", index=False)
    (study,) = studies.read_studies(tmp_path)
    assert len(study.runs) == len(table) and study.runs.run_id.is_unique
    assert study.curves.empty and study.commands == {}


def test_a_command_column_is_taken_as_exact(tmp_path: Path) -> None:
    table = synthetic.runs(("lion",)).assign(command="python run.py something")
    synthetic.write_study(tmp_path, "exact", table)
    (study,) = studies.read_studies(tmp_path)
    assert study.commands == dict.fromkeys(table.run_id, "python run.py something")


@pytest.mark.parametrize("column", ["optimizer", "lr", "seed", "val"])
def test_a_needed_column_is_named(tmp_path: Path, column: str) -> None:
    synthetic.write_study(tmp_path, "bad", synthetic.runs())
    path = tmp_path / "studies/vit_proxy/bad/runs.csv"
    synthetic.runs().drop(columns=column).to_csv(path, index=False)
    with pytest.raises(UserError, match=rf"bad/runs\.csv has no column {column}"):
        studies.read_studies(tmp_path)


def test_a_number_that_is_none_is_named(tmp_path: Path) -> None:
    synthetic.write_study(tmp_path, "bad", synthetic.runs().assign(lr="fast"))
    with pytest.raises(UserError, match="column lr"):
        studies.read_studies(tmp_path)


def test_runs_are_grouped_by_experiment_and_by_sweep(tmp_path: Path) -> None:
    for seed in range(3):
        synthetic.write_run(tmp_path / "runs", f"r{seed}", seed=seed)
    synthetic.write_run(tmp_path / "runs", "other", experiment="fashion")
    cell = {"optimizer": "lion", "seed": 2, "settings": {"optimizer.lr": 0.002}}
    cell |= {"run_id": "r2", "config": {"experiment": "vit_proxy"}}
    (tmp_path / "sweeps/tuning").mkdir(parents=True)
    manifest = {"name": "tuning", "cells": [cell]}
    (tmp_path / "sweeps/tuning/manifest.json").write_text(json.dumps(manifest))
    ledger = studies.read_ledger(tmp_path / "runs")
    cells = studies.read_cells(tmp_path / "sweeps")
    found = {s.name: s for s in studies.studies_of_ledger(ledger, tmp_path / "runs", cells)}
    assert {name: len(s.runs) for name, s in found.items()} == {
        **{"vit_proxy": 2, "fashion": 1, "tuning": 1}
    }
    assert found["tuning"].commands["r2"] == (
        "python run.py experiment=vit_proxy optimizer=lion optimizer.lr=0.002 seed=2"
    )
    row = found["vit_proxy"].runs.iloc[0]
    assert (row.val, row.test, row.beta2, row.steps) == (100.0, 99.0, 0.99, 50)
    assert found["vit_proxy"].commands == {}  # their sessions were a sweep's


def test_an_empty_runs_folder_has_no_studies(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    ledger = studies.read_ledger(tmp_path / "runs")
    assert studies.studies_of_ledger(ledger, tmp_path / "runs", {}) == []
