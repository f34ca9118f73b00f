"""Two optimizers, tuned on some seeds and compared on fresh ones: one cell of a table of such."""

# pyright: reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.analysis.confirmed import DIVERGED as DIVERGED
from experiments.analysis.confirmed import UNTESTED as UNTESTED
from experiments.analysis.confirmed import corrected as corrected
from experiments.analysis.confirmed import judged, numbers
from experiments.analysis.statistics.comparison import choose, compare, has_loss


def judge(tuning: pd.DataFrame, fresh: pd.DataFrame, ours: str, theirs: str) -> dict[str, Any]:
    """Picks, test means and differences of two optimizers.

    Args:
        tuning: Runs that pick a setting of each optimizer.
        fresh: Runs of the picks with seeds of their own; may be empty.
        ours: Optimizer.
        theirs: Optimizer.

    Returns:
        As `confirmed.judged`, but named by optimizer: its test mean, and with _lr and _weight_decay
        its pick. Besides, loss_difference, loss_low and loss_high where there is a loss beside the
        headline, num_settings and num_tuning_seeds.
    """
    try:
        picked = [choose(tuning, name) for name in (theirs, ours)]
    except ValueError:  # no setting has finished with every seed
        picked = []
    found = judged(tuning, fresh, ours, theirs, picked=picked)
    arms = {"ours_mean": ours, "theirs_mean": theirs}
    cell = {arms.get(key, key): value for key, value in found.items()}
    cell["num_tuning_seeds"] = tuning.seed.nunique()
    for one in picked:
        cell |= {f"{one.optimizer}_lr": one.lr, f"{one.optimizer}_weight_decay": one.weight_decay}
        cell["num_settings"] = one.num_settings
    if picked and cell["n"] and has_loss(fresh):
        runs = fresh[fresh.optimizer.isin([ours, theirs])]
        cell |= numbers(compare(runs, ours, theirs, "test_loss"), "loss_")
    return cell
