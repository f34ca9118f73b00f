"""One row per run that is over: which of its measurements count, and how they are written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import outcomes as judge
from experiments.config import UserError
from experiments.headline import Headline
from experiments.outcomes import COLUMNS, betas, check_alike, circumstances, outcomes

EXAM = Headline("acc", "higher", "", tune="dev", report="exam", weights="ema")
RUN: dict[str, Any] = {
    "experiment": "page", "optimizer": "lion", "lr": 1e-3, "weight_decay": 0.1, "batch_size": 8,
    "seed": 0, "state": "finished", "hyper_parameters": '{"betas": [0.9, 0.99]}', "num_params": 7,
    "data": "set", "scale": "proxy", "commit": "old", "cpu": "c", "threads": 1.0, "launcher": "l",
    "versions": '{"torch": "2.8"}', "headline": EXAM.to_json(), "better": "higher", "unit": "",
    "instrument": None,
}  # fmt: skip
LAST = {"step": 10, "commit": "new", "versions": '{"torch": "2.9"}', "threads": 4.0}


def row(split: str, metric: str, value: float, n: float, seconds: float, **more: Any) -> Any:
    facts = {"split": split, "metric": metric, "value": value, "n": n, "seconds": seconds}
    return {**RUN, "step": 5, "weights": "ema", **facts, **more}


def measured(run: str, **more: Any) -> list[dict[str, Any]]:
    """Two evaluations; the first one was made again after the last (`job=evaluate`)."""
    rows = [
        row("dev", "acc", 1.0, 31, 4.0),
        row("dev", "acc", 60.0, 30, 8.0, **LAST),
        row("exam", "acc", 70.0, 40, 9.0, **LAST),
        row("exam", "acc", 50.0, 41, 9.0, **LAST, weights="raw"),
        row("dev", "loss", 1.5, 30, 8.0, **LAST),
        row("exam", "loss", 1.25, 40, 8.0, **LAST),
        row("exam", "loss", 7.5, 40, 8.0, **LAST, weights="raw"),
        row("train", "loss", 0.5, math.nan, 8.0, **LAST, weights="raw"),
        row("exam", "acc", 2.0, 42, 4.0),
    ]
    return [{"run_id": run, **one, **more} for one in rows]


def test_the_last_step_counts_on_the_splits_and_weights_that_decide() -> None:
    table = outcomes(pd.DataFrame(measured("a")))
    assert list(table.columns) == list(COLUMNS)
    (found,) = table.to_dict("records")
    expected = {"val": 60.0, "test": 70.0, "val_loss": 1.5, "test_loss": 1.25, "n": 40}
    expected |= {"steps": 10, "seconds": 9.0, "beta1": 0.9, "beta2": 0.99, "state": "finished"}
    expected |= {"commit": "new", "torch": "2.9", "threads": 4.0, "lr": 1e-3, "seed": 0}
    expected |= {"tune_split": "dev", "report_split": "exam", "weights": "ema", "metric": "acc"}
    assert found == found | expected


def test_a_run_counts_once_it_is_over_and_a_diverged_one_has_no_values() -> None:
    rows = measured("c") + measured("b", state="diverged") + measured("d", state="interrupted")
    table = outcomes(pd.DataFrame(rows)).set_index("run_id")
    assert list(table.index) == ["b", "c"]
    assert table.loc["b", ["val", "test", "val_loss", "test_loss", "n"]].isna().all()
    assert table.loc["b", "steps"] == 10 and table.loc["c", "val"] == 60
    none = outcomes(pd.DataFrame(measured("d", state="running")))
    assert none.empty and list(none.columns) == list(COLUMNS)


def test_each_run_is_judged_by_its_own_last_step_and_headline() -> None:
    """Those of before a header had a headline by top1, on val and test."""
    short = [one for one in measured("c") if one["step"] == 5]
    old = [
        {
            **one,
            "headline": None,
            "metric": "top1",
            "weights": "raw",
            "split": split,
            "value": value,
        }
        for one, split, value in zip(measured("b")[1:3], ("val", "test"), (3.0, 4.0), strict=True)
    ]
    table = outcomes(pd.DataFrame([*old, *measured("a"), *short]))
    assert table.run_id.tolist() == ["a", "b", "c"]
    assert table.val.tolist() == [60, 3, 1] and table.test.tolist() == [70, 4, 2]
    assert table.metric.tolist() == ["acc", "top1", "acc"]
    assert table.steps.tolist() == [10, 10, 5]


def test_another_metric_has_the_direction_and_unit_that_an_evaluation_gave_it() -> None:
    rows = measured("a", better=None)
    for one in rows:
        if one["metric"] == "loss":
            is_training = one["split"] == "train"
            one["unit"], one["better"] = ("bits", "higher") if is_training else ("nats", None)
    rows = [rows[7], *rows]  # of training first
    (found,) = outcomes(pd.DataFrame(rows), "loss").to_dict("records")
    assert (found["val"], found["test"], found["unit"]) == (1.5, 1.25, "nats")
    assert found["better"] == "lower" and found["weights"] == "ema"
    with pytest.raises(UserError, match="no evaluation has the metric speed; there are: acc, loss"):
        outcomes(pd.DataFrame([*rows, {**rows[0], "split": "run", "metric": "speed"}]), "speed")


def test_a_table_is_written_with_the_digits_that_can_be_told(tmp_path: Path) -> None:
    table = outcomes(pd.DataFrame(measured("a") + measured("b") + measured("c", state="diverged")))
    table["unit"] = ["%", "", "%"]
    table["seconds"] = 12.3472
    for column in ("val", "test", "val_loss", "test_loss"):
        table[column] = [12.3456789, 0.000123456789, math.nan]
    path = tmp_path / "runs.csv"
    judge.write_outcomes(table, path)
    text = pd.read_csv(path, dtype=str)
    assert text.val.tolist()[:2] == text.test.tolist()[:2] == ["12.3457", "0.000123457"]
    assert text.val_loss.tolist()[:2] == text.test_loss.tolist()[:2] == ["12.3457", "0.000123457"]
    assert text.n.tolist()[:2] == ["40", "40"] and text.threads.tolist() == ["4", "4", "4"]
    assert text.seconds.tolist() == ["12.35"] * 3
    assert text[["val", "test", "val_loss", "n"]].isna().iloc[2].all()
    table["unit"], table["val"] = "%", 0.123456789
    judge.write_outcomes(table, path)
    assert pd.read_csv(path, dtype=str).val.tolist() == ["0.1235"] * 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Any, path: Path, **__: Any) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    (tmp_path / "runs.csv").write_text("old")
    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(OSError, match="No space"):
        judge.write_outcomes(outcomes(pd.DataFrame(measured("a"))), tmp_path / "runs.csv")
    assert (tmp_path / "runs.csv").read_text() == "old"


def told(*facts: Any, **more: Any) -> pd.DataFrame:
    made = {"experiment": "page", "split": "val", "metric": "fd", **more}
    return pd.DataFrame([{**made, "instrument": one} for one in facts])


ONE, OTHER = '{"model": "a", "size": 1}', '{"model": "b", "size": 1}'


def test_what_was_not_measured_alike_is_refused_with_what_differs() -> None:
    with pytest.raises(UserError, match="fd was not measured alike: the runs differ in model;"):
        check_alike(told(ONE, OTHER))
    with pytest.raises(UserError, match="the runs differ in draws, model;"):
        check_alike(told(ONE, '{"model": "b", "size": 1, "draws": 3}'))
    with pytest.raises(UserError, match="the runs differ in instrument;"):
        check_alike(told("a ruler", "[1]"))  # of a task from outside
    with pytest.raises(UserError, match="the runs differ in model;"):
        check_alike(told(ONE, OTHER, experiment=None))


def test_what_may_be_compared() -> None:
    pages = pd.concat([told(ONE), told(OTHER, experiment="other page")])
    splits = pd.concat([told(ONE), told(OTHER, split="test")])
    metrics = pd.concat([told(ONE), told(OTHER, metric="is")])
    unsaid = told(ONE, None, "")  # measured with the data alone, or before it was said
    turned = told(ONE, '{"size": 1, "model": "a"}')
    for rows in (pages, splits, metrics, unsaid, turned, told(ONE).drop(columns="instrument")):
        check_alike(rows)


@pytest.mark.parametrize("text", [None, "", math.nan, "no JSON", "[0.9]", "null", 7])
def test_settings_that_cannot_be_read_have_no_betas(text: Any) -> None:
    assert all(math.isnan(beta) for beta in betas(text))


def test_the_first_two_of_three_betas_count() -> None:
    assert betas(json.dumps({"betas": [0.9, 0.95, 0.999], "momentum": 0.5})) == (0.9, 0.95)


def test_circumstances_are_those_of_the_last_row_of_each_run() -> None:
    rows = pd.DataFrame([measured(run)[i] for run in "ab" for i in (0, 1)])
    rows.loc[rows.run_id == "b", "versions"] = None
    found = circumstances(rows)
    assert list(found.columns) == ["run_id", *judge.MACHINE]
    assert found.commit.tolist() == ["new", "new"] and found.torch.tolist() == ["2.9", ""]
    for text in ("no JSON", "{}", "[]"):
        rows["versions"] = text
        assert circumstances(rows).torch.tolist() == ["", ""]
