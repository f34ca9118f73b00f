"""Noisy curves held against a target: a value counts once it holds, and only like meets like.

A noisy flat curve crosses a target by chance. The rule here: a target is reached at the first
evaluation from which on `hold` evaluations in a row are at it or better (the last ones of a run
count with those that there are).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.analysis.statistics.targets import speed_up
from experiments.analysis.statistics.uncertainty import Interval
from experiments.outcomes import check_alike

HOLD = 2
"""Evaluations in a row, unless said."""


def held(curves: pd.DataFrame, hold: int = HOLD) -> pd.DataFrame:
    """Each value replaced by the worst of it and the `hold` - 1 that follow it in its curve.

    Args:
        curves: run_id, step, split, metric, weights, value and better, as `read_runs` gives them.
        hold: 1 changes nothing.
    """
    curve = ["run_id", "split", "metric", "weights"]
    ordered = curves.sort_values([*curve, "step"], kind="stable").reset_index(drop=True)
    sign = ordered.better.map({"higher": 1.0, "lower": -1.0}).fillna(1.0)
    scores = (sign * ordered.value).fillna(-np.inf)  # what is no number is worse than any
    worst = scores  # (`rolling` passes over what is not finite)
    for further in range(1, hold):
        later = scores.groupby([ordered[key] for key in curve], sort=False).shift(-further)
        worst = np.minimum(worst, later.fillna(np.inf))
    return ordered.assign(value=worst * sign)


def compute_saving(
    curves: pd.DataFrame,
    runs: pd.DataFrame,
    ours: str,
    theirs: str,
    *,
    split: str | None = None,
    metric: str | None = None,
    hold: int = HOLD,
) -> Interval:
    """`targets.speed_up` by the rule of this module.

    Raises:
        UserError: as `speed_up`, and for values that were not measured alike.
    """
    if metric is not None:
        mine = curves[curves.run_id.isin(runs.run_id) & (curves.metric == metric)]
        check_alike(mine if split is None else mine[mine.split == split])
    return speed_up(held(curves, hold), runs, ours, theirs, split=split, metric=metric)
