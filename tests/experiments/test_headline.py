"""Which number decides: runs that are judged by another one are never mixed in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from experiments.config import UserError
from experiments.headline import IMAGE, Headline, of_rows, of_table, usual_splits, with_metric
from experiments.measuring import in_words

OWN = Headline("top1", "higher", "%", margin=0.5)
OTHERS = [
    {"metric": "f1"}, {"better": "lower"}, {"unit": "points"}, {"tune": "dev"},
    {"report": "books"}, {"weights": "ema"},
]  # fmt: skip


@pytest.mark.parametrize("change", OTHERS, ids=str)
def test_runs_that_are_judged_by_different_numbers_are_refused(change: dict[str, str]) -> None:
    both = [OWN, replace(OWN, **change)]  # type: ignore[arg-type]
    texts = [one.to_json() for one in both]
    with pytest.raises(UserError, match="judged by different numbers"):
        of_rows(texts)
    assert of_rows(texts, asked="loss") in both, "whoever names one number may compare them"
    with pytest.raises(UserError, match="judged by different numbers"):
        of_table(pd.DataFrame([one.columns() for one in both]))


def test_how_a_number_is_shown_is_no_other_number() -> None:
    shown = replace(OWN, digits=4, margin=None)
    assert of_rows([OWN.to_json(), shown.to_json()]).metric == "top1"
    assert of_table(pd.DataFrame([OWN.columns()] * 2)) == replace(OWN, margin=None)


def test_another_metric_has_its_own_direction_and_unit_and_no_margin() -> None:
    found = with_metric(OWN, "nll", {"nll": {"better": "lower", "unit": "nats"}})
    assert found == Headline("nll", "lower", "nats")
    assert with_metric(OWN, "loss", {"loss": {}}).better == "lower", "known before rows said so"
    with pytest.raises(UserError, match="does not say whether"):
        with_metric(OWN, "nll", {"nll": {"unit": "nats"}})
    with pytest.raises(UserError, match="no evaluation has the metric nll; there are: loss"):
        with_metric(OWN, "nll", {"loss": {}})


def test_the_usual_splits() -> None:
    assert usual_splits(["books", "val"]) == ("val", "val")
    assert usual_splits(["dev", "test"]) == ("dev", "test")
    assert usual_splits([]) == ("val", "val")


def test_a_table_of_before_is_of_images_and_an_empty_unit_survives_a_file(tmp_path: Path) -> None:
    runs = pd.DataFrame({"optimizer": ["lion", "adamw"], "metric": [None, None]})
    assert of_table(runs) == of_table(runs[["optimizer"]]) == IMAGE
    ratio = Headline("f1", "higher", digits=3, weights="ema")
    pd.DataFrame([ratio.columns()] * 2).to_csv(tmp_path / "runs.csv", index=False)
    assert of_table(pd.read_csv(tmp_path / "runs.csv")) == ratio
    both = pd.DataFrame([ratio.columns(), {**ratio.columns(), "metric": None}])
    with pytest.raises(UserError, match="does not say its metric and better"):
        of_table(both)


def test_a_measurement_in_words_has_a_gap_only_before_a_unit() -> None:
    row = {"split": "val", "metric": "x", "weights": "raw", "value": 2.5}
    said = [*in_words([{**row, "unit": unit} for unit in ("%", "", "nats")])]
    assert said == ["val x 2.5%", "val x 2.5", "val x 2.5 nats"]


def test_a_number_in_words() -> None:
    loss = Headline("loss", "lower", "nats", report="books", weights="ema", digits=3)
    assert (OWN.text(93.456), loss.text(1.23456), loss.text(float("nan"))) == (
        "93.46%", "1.235 nats", "-",
    )  # fmt: skip
    assert OWN.phrase == "test top1 (%), higher is better"
    assert loss.phrase == "books loss (nats), ema weights, lower is better"
    assert (OWN.reported, loss.reported) == ("test top1 (%)", "books loss (nats), ema weights")
    assert Headline("f1", "higher").reported == "test f1"
    assert (OWN.points, loss.points) == ("points", "nats")
    assert (OWN.resolution(250), OWN.resolution(None), loss.resolution(250)) == (0.4, 0.0, 0.0)
