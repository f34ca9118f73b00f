"""Sensitivities of grids whose truth is known."""

from __future__ import annotations

import math

import known_truth
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.analysis.statistics.tuning import sensitivity, sensitivity_difference
from experiments.store import UserError


def study(adamw_lr=1e-2, adamw_decay=0.1, lion_lr=1e-3, lion_decay=1.0, **more) -> pd.DataFrame:
    rows = known_truth.grid("adamw", adamw_lr, adamw_decay, **more)
    return pd.DataFrame(rows + known_truth.grid("lion", lion_lr, lion_decay, **more))


def test_what_cannot_be_answered_is_said() -> None:
    table = study()
    with pytest.raises(UserError, match="no runs of sgd in this table; it has adamw, lion"):
        sensitivity(table, "sgd")
    with pytest.raises(UserError, match="several runs of one cell"):
        sensitivity(pd.concat([table, table.assign(batch_size=128)]), "lion")
    # Each seed lacks another cell.
    mine = table[table.optimizer == "lion"].sort_values(["seed", "lr", "weight_decay"])
    gaps = table.drop([group.index[seed] for seed, group in mine.groupby("seed")])
    with pytest.raises(UserError, match="no seed has every cell"):
        sensitivity(gaps, "lion")


def flat(optimizer: str, values: list[float], seeds=(0, 1, 2)) -> list[dict]:
    """A row of cells with the same values for every seed, but for a shift."""
    lrs = [10.0**k for k in range(len(values))]
    return [
        known_truth.run(optimizer, seed, value + seed, lr=lr)
        for lr, value in zip(lrs, values, strict=True)
        for seed in seeds
    ]


def test_share_and_spread_by_hand() -> None:
    table = pd.DataFrame(flat("lion", [90.0, 89.5, 89.0, 80.0]))
    found = sensitivity(table, "lion", points=1.0)
    assert sensitivity(table.assign(weight_decay=math.nan), "lion", points=1.0) == found
    assert (found.share_within.estimate, found.spread.estimate) == (0.75, 10.0)
    assert (found.num_cells, found.share_within.n) == (4, 3)
    assert (found.share_within.low, found.spread.high) == (0.75, 10.0)  # no spread over seeds


@pytest.mark.filterwarnings("error")
def test_a_diverged_cell_is_not_within_and_not_in_the_spread() -> None:
    table = pd.DataFrame(flat("lion", [90.0, 89.5, 89.0, 80.0]))
    table.loc[table.lr == 1000.0, "state"] = "diverged"
    found = sensitivity(table, "lion")
    assert (found.share_within.estimate, found.spread.estimate) == (0.75, 1.0)
    assert found.num_diverged == 3
    table.loc[table.seed == 2, "state"] = "diverged"  # wholly
    assert sensitivity(table, "lion").share_within.estimate == 0.5


def test_more_points_never_give_a_smaller_share() -> None:
    table = study(noise=1.0)
    shares = [sensitivity(table, "lion", x).share_within.estimate for x in (0.1, 1, 5, 20, 100)]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_the_less_sensitive_optimizer_shows() -> None:
    rows = known_truth.grid("lion", 1e-3, 1.0, slope=0.2) + known_truth.grid("adamw", 1e-2, 0.1)
    share, spread = sensitivity_difference(pd.DataFrame(rows), "lion", "adamw")
    assert (share.verdict, spread.verdict) == ("better", "worse")  # a larger share, a smaller range
    back = sensitivity_difference(pd.DataFrame(rows), "adamw", "lion")
    assert back[0].mean == pytest.approx(-share.mean)


@pytest.mark.filterwarnings("error")
def test_the_difference_of_sensitivities_by_hand() -> None:
    """Of four cells each; the best of a seed is 90, and who lies at 89.5 is within a point."""

    def rows(optimizer: str, near: list[int], worst: list[float]) -> list[dict]:
        values = [
            [90.0, *[89.5] * k, *[85.0] * (2 - k), w] for k, w in zip(near, worst, strict=True)
        ]
        return [
            known_truth.run(optimizer, seed, value, lr=10.0**cell)
            for seed, of_seed in enumerate(values)
            for cell, value in enumerate(of_seed)
        ]

    table = pd.DataFrame(
        rows("lion", [2, 1, 2, 2, 0], [80.0, 79.0, 78.0, 81.0, 75.0])
        + rows("adamw", [0, 0, 1, 0, 0], [70.0, 68.0, 71.0, 69.0, 60.0])
    )
    share, spread = sensitivity_difference(table, "lion", "adamw")
    ours, theirs = np.array([0.75, 0.5, 0.75, 0.75, 0.25]), np.array([0.25, 0.25, 0.5, 0.25, 0.25])
    for found, one, other in (
        (share, ours, theirs),
        (spread, np.array([10.0, 11, 12, 9, 15]), np.array([20.0, 22, 19, 21, 30])),
    ):
        expected = stats.ttest_rel(one, other)
        assert found.n == 5 and found.p_t == pytest.approx(expected.pvalue)
        assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
        assert found.correlation == pytest.approx(stats.pearsonr(one, other).statistic)
        divided = stats.permutation_test(
            (one, other), lambda a, b: a.mean() - b.mean(), n_resamples=np.inf
        )
        assert found.p_exact == pytest.approx(divided.pvalue)
    table.loc[(table.optimizer == "lion") & (table.seed == 4), "state"] = "diverged"
    share, spread = sensitivity_difference(table, "lion", "adamw")
    assert (share.n, share.mean) == (5, pytest.approx((0.5 + 0.25 + 0.25 + 0.5 - 0.25) / 5))
    assert (spread.n, spread.mean) == (4, pytest.approx(-10.0)), "a seed that has no spread"


def test_unlike_grids_are_not_compared() -> None:
    table = study()
    less = table[~((table.optimizer == "lion") & (table.lr == 1e-3))]
    with pytest.raises(UserError, match=r"grids of lion \(12 cells .* and adamw \(15 cells"):
        sensitivity_difference(less, "lion", "adamw")
    wide = table.assign(lr=table.lr.where(table.lr != 1e-2 * (table.optimizer == "lion"), 1.0))
    with pytest.raises(UserError, match="differ"):
        sensitivity_difference(wide, "lion", "adamw")
