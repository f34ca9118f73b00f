"""How often quick looks are wrong: the committed table, what is said of it, and that it is ours."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments.compare.verdict import WRONG_IN_QUICK_LOOK
from scripts import calibrate_quick, calibrate_worlds
from scripts.calibrate_quick import DECAY_RATIOS, DIFFERENCES, LR_RATIOS, ROOT


@pytest.fixture(scope="module")
def committed() -> pd.DataFrame:
    return pd.read_csv(calibrate_quick.OUT)


@pytest.fixture(scope="module")
def means(committed: pd.DataFrame) -> pd.DataFrame:
    """Over the ratios of the learning rates."""
    return committed.groupby(["weight_decay_ratio", "difference"]).mean(numeric_only=True)


def test_every_pair_of_ratios_is_there_once(committed: pd.DataFrame) -> None:
    found = committed.groupby(["lr_ratio", "weight_decay_ratio", "difference"]).size()
    assert len(found) == len(LR_RATIOS) * len(DECAY_RATIOS) * len(DIFFERENCES)
    assert set(found) == {1} and committed.judged.min() > 400
    assert set(committed.difference) == set(DIFFERENCES)


def test_the_page_shows_the_means_of_the_table(means: pd.DataFrame) -> None:
    page = (ROOT / "results/bench/README.md").read_text()
    for ratio in DECAY_RATIOS:
        equal, better, worse = (means.loc[(ratio, d)] for d in DIFFERENCES)
        assert (
            f"| {ratio:g} | {equal.better_percent:.1f} | {equal.worse_percent:.1f} "
            f"| {equal.strict_worse_percent:.1f} | {worse.worse_percent:.0f} "
            f"| {worse.strict_worse_percent:.0f} | {better.better_percent:.0f} |"
        ) in page


def test_what_the_guide_and_the_verdict_say_is_in_the_table(means: pd.DataFrame) -> None:
    guide = " ".join((ROOT / "experiments/compare/README.md").read_text().split())
    worse = means.worse_percent.xs(0.0, level="difference")
    near = worse[[3.0, 5.5, 10.0]]
    assert f"called worse in {near.min():.1f} to {near.max():.1f} %" in guide
    assert f"AdamW's own, in {worse[1.0]:.1f} %" in guide
    better = means.better_percent.xs(0.0, level="difference")
    assert f"in {worse[30.0]:.1f} % (and better in {better[30.0]:.1f} %)" in guide
    assert (round(worse[5.5]), round(worse.max())) == WRONG_IN_QUICK_LOOK


def test_the_committed_table_is_of_this_program(committed: pd.DataFrame) -> None:
    ratios = (3.0, 5.5)
    rows = [calibrate_quick.looked(number, ratios) for number in range(20)]
    equal, better, _ = calibrate_quick.summary(rows, ratios)
    (row,) = committed.query(
        "lr_ratio == 3 and weight_decay_ratio == 5.5 and difference == 3"
    ).to_dict("records")
    error = np.hypot(better["better_error"], row["better_error"])
    assert abs(better["better_percent"] - row["better_percent"]) < 4 * error
    assert (
        equal["pairs"] == 20 and equal["strict_equivalent_percent"] <= equal["equivalent_percent"]
    )


def test_ratios_that_are_given_move_nothing_else_of_a_user() -> None:
    users = [
        calibrate_worlds.draw_user(np.random.default_rng(1), calibrate_worlds.World(ratios=ratios))
        for ratios in (None, (0.1, 30.0))
    ]
    drawn, given = (user.surfaces for user in users)
    assert 10 ** (given["lion"].best - given["adamw"].best) == pytest.approx((0.1, 30.0))
    assert tuple(drawn["adamw"].best) == tuple(given["adamw"].best)
    assert (drawn["lion"].a, drawn["lion"].b) == (given["lion"].a, given["lion"].b)
