"""Study tables: read, checked, and made from the ledger."""

from __future__ import annotations

from pathlib import Path

import known_truth
import pandas as pd
import pytest

from experiments.analysis.studies import (
    DEFAULT_EXPERIMENT,
    name_betas,
    read_study,
    study_path,
)
from experiments.store import UserError

ROOT = Path(__file__).resolve().parents[3]


def test_a_study_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = pd.DataFrame(known_truth.grid("lion", 1e-3, 1.0))
    table.to_csv(tmp_path / "runs.csv", index=False)
    read = read_study(tmp_path / "runs.csv")
    pd.testing.assert_frame_equal(read, table, check_dtype=False, check_column_type=False)
    assert {str(kind) for kind in read.dtypes} == {"object", "int64", "float64"}


def test_runs_that_stand_twice_count_once_and_unfinished_ones_not(tmp_path: Path) -> None:
    table = pd.DataFrame(known_truth.arms({"lion": 95.0}))
    open_run = table.head(1).assign(run_id="open", state="running")
    pd.concat([table, table, open_run]).to_csv(tmp_path / "runs.csv", index=False)
    assert len(read_study(tmp_path / "runs.csv")) == 6


@pytest.mark.parametrize("name", ["fashion", "vit_proxy", "resnet_proxy"])
def test_the_published_proxies_are_studies(name: str) -> None:
    assert len(read_study(ROOT / "results" / "proxies" / f"{name}.csv")) >= 30


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "is no table"), ("a,b\n1,2\n", "lacks the columns optimizer, lr, weight_decay"),
     ("optimizer,lr,weight_decay,seed,state,val,test,seconds\nlion,x,1,0,finished,1,1,1\n",
      "column lr: .*collect it anew")],
)  # fmt: skip
def test_what_is_no_study_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read_study(tmp_path / "runs.csv")
    with pytest.raises(UserError, match="no such study; python scripts/sweep.py collect"):
        read_study(tmp_path / "nothing.csv")


def test_a_study_of_another_experiment_stands_in_for_none(tmp_path: Path) -> None:
    """A claim on images must not be answered by a sweep of a language model with that name."""
    path = tmp_path / "studies" / "a_language_proxy" / "heatmap" / "runs.csv"
    path.parent.mkdir(parents=True)
    path.touch()
    assert study_path(tmp_path, "heatmap") is None
    assert study_path(tmp_path, "heatmap", "a_language_proxy") == path
    ours = tmp_path / "studies" / DEFAULT_EXPERIMENT / "heatmap" / "runs.csv"
    ours.parent.mkdir(parents=True)
    ours.touch()
    assert study_path(tmp_path, "heatmap") == ours


def test_betas_become_arms() -> None:
    table = pd.DataFrame(known_truth.arms({"lion": 95.0}, beta1=0.9, beta2=0.9, seeds=[0]))
    assert name_betas(table).optimizer.tolist() == ["lion (0.9, 0.9)"]
