"""The commands that the report shows do what it says: they compose to the run's own settings."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
import pytest
import synthetic

from experiments.analysis.report.commands import run_again, run_cell
from experiments.analysis.report.studies import read_studies, tidy
from experiments.config import to_dict
from experiments.identity import run_id
from run import compose

ROOT = Path(__file__).resolve().parents[4]


def composed(command: str):
    python, script, *overrides = shlex.split(command)
    assert (python, script) == ("python", "run.py")
    return compose(overrides)


def test_columns_of_a_study_become_the_configuration() -> None:
    table = synthetic.runs(("lion",), lrs=(1 / 3000,), decays=(0.1,), batch_sizes=(128,), seeds=2)
    row = tidy(table, Path("study/runs.csv")).iloc[1].to_dict()
    config = composed(run_again(row))
    assert (config.experiment, config.optimizer_name, config.seed) == ("vit_proxy", "lion", 1)
    assert config.optimizer["lr"] == 1 / 3000  # no digit is lost
    assert config.optimizer["weight_decay"] == 0.1
    assert config.optimizer["betas"] == [0.9, 0.99]
    assert (config.train.batch_size, config.train.epochs) == (128, 30)


@pytest.mark.parametrize("name", ["vit_proxy", "resnet_proxy"])
def test_published_comparisons_can_be_run_again(name: str) -> None:
    study = next(s for s in read_studies(ROOT / "results") if s.name == name)
    for _, rows in study.runs.groupby("optimizer"):
        row = rows.iloc[-1].to_dict()
        config = composed(run_again(row))
        assert config.optimizer["lr"] == row["lr"]
        assert config.optimizer["weight_decay"] == row["weight_decay"]
        assert config.seed == row["seed"]


def test_a_manifest_cell_composes_to_the_same_run() -> None:
    settings = {
        **{"optimizer.lr": 0.0005, "optimizer.betas": [0.95, 0.98], "train.epochs": 7},
        **{"schedule.warmup_steps": None, "train.compile": False, "eval.every_epochs": 3.5},
    }
    words = [f"{k}={str(v).replace('None', 'null')}" for k, v in settings.items()]
    config = compose(["experiment=vit_proxy", "optimizer=lion", "seed=3", *words])
    cell = {"optimizer": "lion", "seed": 3, "settings": settings, "config": to_dict(config)}
    assert run_id(composed(run_cell(cell))) == run_id(config)


def test_what_is_missing_is_left_to_the_pages() -> None:
    row = {"experiment": "vit_proxy", "optimizer": "sgd", "lr": 0.1, "weight_decay": float("nan")}
    assert run_again({**row, "beta1": 0.9, "beta2": float("nan"), "seed": 0}) == (
        "python run.py experiment=vit_proxy optimizer=sgd optimizer.lr=0.1 seed=0"
    )


def test_a_shell_finds_nothing_in_a_name() -> None:
    row = pd.Series({"experiment": "a; rm -rf ~", "optimizer": "$(id)", "seed": 0})
    assert shlex.split(run_again(row.to_dict()))[2:4] == [
        *("experiment=a; rm -rf ~", "optimizer=$(id)")
    ]


STUDIES = [s for s in read_studies(ROOT / "results") if s.kind == "study"]


@pytest.mark.parametrize("study", STUDIES, ids=[s.name for s in STUDIES])
def test_run_it_again_is_the_same_run(study) -> None:
    """Every optimizer of every committed study, under one of its conditions."""
    for number, (_, rows) in enumerate(study.runs.groupby("optimizer")):
        row = rows.iloc[(7 * number) % len(rows)].to_dict()
        assert (
            run_id(composed(study.commands.get(row["run_id"]) or run_again(row))) == (row["run_id"])
        )
