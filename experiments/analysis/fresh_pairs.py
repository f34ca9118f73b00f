"""Two optimizers, tuned on some seeds and compared on fresh ones: one cell of a table of such."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from experiments.analysis.statistics.comparison import choose, compare, has_loss, held_out_pairs
from experiments.analysis.statistics.difference import (
    ALPHA,
    BETTER,
    INCONCLUSIVE,
    NOT_TUNED,
    WORSE,
    Difference,
)
from experiments.analysis.statistics.tuning_luck import of_optimizers
from experiments.analysis.statistics.uncertainty import holm

DIVERGED, UNTESTED = "diverged", "not run"


def judge(tuning: pd.DataFrame, fresh: pd.DataFrame, ours: str, theirs: str) -> dict[str, Any]:
    """Picks, test means and differences of two optimizers.

    Args:
        tuning: Runs that pick a setting of each optimizer.
        fresh: Runs of the picks with seeds of their own; may be empty.
        ours: Optimizer.
        theirs: Optimizer.

    Returns:
        Named by optimizer: its test mean, and with _lr and _weight_decay its pick. difference
        (ours minus theirs) with low and high (95 %, at the settings found), wide_low and wide_high
        (of the optimizers: with the luck of tuning), loss_difference, loss_low and loss_high where
        there is a loss beside the headline; n, num_settings, num_tuning_seeds; edges, the
        optimizers whose pick lies on one; p_holm, not corrected yet; holds: the wide interval does
        not hold 0; the verdict on ours.
    """
    cell: dict[str, Any] = {"num_tuning_seeds": tuning.seed.nunique(), "n": 0, "holds": False}
    edges = []
    for name in (theirs, ours):
        try:
            picked = choose(tuning, name)
        except ValueError:  # no setting has finished with every seed
            return cell | {"verdict": DIVERGED}
        cell |= {f"{name}_lr": picked.lr, f"{name}_weight_decay": picked.weight_decay}
        cell["num_settings"] = picked.num_settings
        edges += [name] if picked.on_edge else []
    cell["edges"] = ", ".join(edges)
    runs = fresh[fresh.optimizer.isin([ours, theirs])]
    if runs.empty:
        return cell | {"verdict": NOT_TUNED if edges else UNTESTED}
    if (runs.state == "diverged").any():
        return cell | {"verdict": DIVERGED}
    found = compare(runs, ours, theirs)
    pairs = held_out_pairs(runs, ours, theirs)
    low, high = of_optimizers(found, pairs.ours.to_numpy(), pairs.theirs.to_numpy())
    cell |= {theirs: pairs.theirs.mean(), ours: pairs.ours.mean(), **_numbers(found)}
    cell |= {"wide_low": low, "wide_high": high, "holds": low > 0 or high < 0, "n": found.n}
    if has_loss(runs):
        cell |= _numbers(compare(runs, ours, theirs, "test_loss"), "loss_")
    verdict = NOT_TUNED if edges else found.verdict
    return cell | {"p_holm": found.p_t, "verdict": verdict}


def corrected(cells: pd.DataFrame) -> pd.DataFrame:
    """Holm's correction over cells that belong to one question, and the verdicts by it.

    Args:
        cells: A row each, as `judge` gives them.
    """
    judged = cells.verdict.isin([BETTER, WORSE, INCONCLUSIVE])
    cells.loc[judged, "p_holm"] = holm(cells.p_holm[judged])
    lost = judged & (cells.p_holm.astype(float) >= ALPHA)
    cells.loc[lost, "verdict"] = INCONCLUSIVE
    cells["holds"] = cells.verdict.isin([BETTER, WORSE]) & cells.holds.astype(bool)
    return cells


def _numbers(found: Difference, prefix: str = "") -> dict[str, float]:
    finite = found if math.isfinite(found.low) else Difference(found.mean, *2 * [math.nan], found.n)
    return {
        f"{prefix}difference": finite.mean,
        f"{prefix}low": finite.low,
        f"{prefix}high": finite.high,
    }
