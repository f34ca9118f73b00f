"""By what factor the best settings of two optimizers differ, from all runs of their grids.

A smooth top is fitted to each (`fitted_top`, as in `compare`), so that the answer is finer than the
grid and one lucky cell does not move it. The interval is that of a bootstrap of the fit, widened by
what a quadratic does not fit; by simulation that of learning rates holds the truth in 95 % or more,
but for optimizers with two tops (`scripts/calibrate_ratios.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from experiments.analysis.statistics.difference import CONFIDENCE
from experiments.analysis.statistics.fitted_top import MOST_ON_BOX, Fit, fit
from experiments.headline import of_table
from experiments.store import UserError

AXES = ("lr", "weight_decay")
COLUMNS = (*AXES, "effective_decay")
"""What has a ratio: both numbers, and their product."""
WIDER = {"lr": 0.08, "weight_decay": 0.2, "effective_decay": 0.22}
"""Decades added to both ends of an interval."""
MIN_LRS, MIN_DECAYS = 4, 3
"""Fewest values of a grid along which a top is looked for; of three rates the middle one is all."""
NUM_DRAWS = 2000
_MAX_TURNS, _SETTLED = 20, 0.01


@dataclass(frozen=True)
class BestRatio:
    """Best value of one optimizer over the best value of another; NaN where there is none."""

    estimate: float
    low: float  # 95 %
    high: float
    reason: str = ""  # why there is none: edge, flat, few values, one value
    over: float = math.nan  # the two best values themselves
    under: float = math.nan


@dataclass(frozen=True)
class _Top:
    """The fitted top of one optimizer."""

    at: np.ndarray  # (2,) log10 of lr and weight decay
    draws: np.ndarray  # (draws, 2) tops of the bootstrap
    reasons: dict[str, str]  # by axis, where no top is known


def fitted_ratios(
    results: pd.DataFrame, over: str = "adamw", under: str = "lion"
) -> dict[str, BestRatio]:
    """Ratios of the best settings, `over`'s divided by `under`'s, by the names of `COLUMNS`.

    Cells without weight decay have no place on a logarithmic axis: they are left out, unless all
    are such.

    Args:
        results: A study, or `comparison.final_results`, of one batch size, model and length, and
            one pair of betas for each optimizer.
        over: Optimizer in the numerator.
        under: Optimizer in the denominator.

    Raises:
        UserError: where the table has no run of one of them, or several of one cell and seed.
    """
    tops = [_top(results, name, number) for number, name in enumerate((over, under))]
    found = {}
    for column in COLUMNS:
        axes = (column,) if column in AXES else AXES
        weights = np.isin(AXES, axes).astype(float)
        reason = next((top.reasons[x] for x in axes for top in tops if x in top.reasons), "")
        values = [float(weights @ top.at) for top in tops]
        middle = values[0] - values[1]
        draws = (tops[0].draws - tops[1].draws) @ weights
        tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
        low, high = np.quantile(draws, tails) + np.array([-1, 1]) * WIDER[column]
        numbers = [10.0**x for x in (middle, min(low, middle), max(high, middle), *values)]
        ratio, of_both = numbers[:3], numbers[3:]
        found[column] = (
            BestRatio(*(math.nan,) * 3, reason) if reason else BestRatio(*ratio, "", *of_both)
        )
    return found


def _top(results: pd.DataFrame, optimizer: str, number: int) -> _Top:
    mine = _runs(results, optimizer)
    places = np.log10(mine[list(AXES)].to_numpy(float))
    center = places.mean(0)
    values = of_table(results).sign * mine.val.to_numpy(float)
    values[(mine.state == "diverged").to_numpy()] = np.nan
    found = _fitted(places - center, values, number)
    return _Top(found.top + center, found.draws + center, _reasons(found, mine))


def _runs(results: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    mine = results[results.optimizer == optimizer]
    if mine.empty:
        there = ", ".join(sorted(results.optimizer.unique()))
        raise UserError(f"no runs of {optimizer} in this table; it has {there}")
    decays = mine.weight_decay.fillna(0.0)
    if mine.assign(weight_decay=decays).duplicated([*AXES, "seed"]).any():
        raise UserError(
            f"{optimizer}: several runs of one cell and seed; "
            "filter the table to one batch size, model and pair of betas"
        )
    return mine.assign(weight_decay=1.0) if (decays == 0).all() else mine[decays > 0]


def _fitted(places: np.ndarray, values: np.ndarray, number: int) -> Fit:
    """The fit in units of its own residuals: the standard deviation of one run is not known."""
    sd = float(np.nanstd(values)) / 10 or 1.0
    for _ in range(_MAX_TURNS):
        spread = fit(places, values / sd).spread
        if not math.isfinite(spread) or spread == 0:
            break
        sd *= spread
        if abs(spread - 1) < _SETTLED:
            break
    return fit(places, values / sd, np.random.default_rng(number), NUM_DRAWS)


def _reasons(found: Fit, mine: pd.DataFrame) -> dict[str, str]:
    reasons = {}
    fewest = dict(zip(AXES, (MIN_LRS, MIN_DECAYS), strict=True))
    for place, axis in enumerate(AXES):
        number = mine[axis].nunique()
        if number == 1 and axis == "weight_decay":
            reasons[axis] = "one value"
        elif number < fewest[axis]:
            reasons[axis] = "few values"
        elif found.rising[place]:
            reasons[axis] = "edge"
        elif axis == "weight_decay" and found.is_flat:
            reasons[axis] = "flat"
        elif found.on_box[:, place].max() > MOST_ON_BOX:
            reasons[axis] = "edge"
    return reasons
