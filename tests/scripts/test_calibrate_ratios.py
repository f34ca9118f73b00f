"""The intervals of ratios of best settings hold what they promise, in made-up worlds."""

from __future__ import annotations

import pandas as pd
import pytest

from scripts import calibrate_ratios


@pytest.fixture(scope="module")
def committed() -> pd.DataFrame:
    return pd.read_csv(calibrate_ratios.OUT)


def test_ratios_of_learning_rates_are_held(committed: pd.DataFrame) -> None:
    assert len(committed) == len(calibrate_ratios.DESIGNS) * len(calibrate_ratios.WORLDS)
    has_one_top = committed.world != "two tops"
    assert committed[has_one_top].lr_holds_percent.min() >= 96
    assert committed[~has_one_top].lr_holds_percent.min() >= 85
    made_up = committed[committed.world.isin(["made up", "losses explode"])]
    assert made_up.weight_decay_holds_percent.min() >= 94  # without those that tell none


def test_the_committed_table_is_of_this_program(committed: pd.DataFrame) -> None:
    design, factors = calibrate_ratios.DESIGNS[0]
    (row,) = committed[
        (committed.world == "made up")
        & (committed.num_lrs == design.num_lrs)
        & (committed.num_weight_decays == design.num_weight_decays)
    ].to_dict("records")
    found = calibrate_ratios.measure("made up", design, factors, 25)
    assert found["lr_width"] == pytest.approx(row["lr_width"], rel=0.15)
    assert found["lr_holds_percent"] >= 90
    assert abs(found["weight_decay_untold_percent"] - row["weight_decay_untold_percent"]) < 30


def test_a_place_is_told_from_the_truth() -> None:
    ratio = calibrate_ratios.BestRatio(10.0, 5.0, 20.0)
    places = [calibrate_ratios.found(ratio, truth) for truth in (0.5, 1.0, 1.5)]
    assert [one and one.place for one in places] == [1, 0, -1]
    assert calibrate_ratios.found(calibrate_ratios.BestRatio(1.0, 1.0, 1.0, "edge"), 0.0) is None
