"""Lion with AdamW's learning rate / r and weight decay x r, untuned: what does that cost?

The studies `carried_over` train, with the same seeds, AdamW as it was tuned here, Lion as it was
tuned here, and Lion with AdamW's setting carried over by some r. Source of the rule:
arXiv:2302.06675, section 5 (r of 3 to 10).
"""

# pyright: reportArgumentType=false, reportReturnType=false, reportAttributeAccessIssue=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis import confirmed
from experiments.analysis.statistics.difference import of_pairs
from experiments.analysis.studies import read_study
from experiments.headline import of_table
from experiments.store import UserError

STUDY = "carried_over"
TOLERANCE = 0.01  # of lr x weight decay, which is rounded to four digits in the runs


def arms(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with a column `ratio`: 0 of Lion as tuned, r where it was carried over, NaN AdamW.

    Raises:
        UserError: where AdamW has several settings, or Lion several that are not carried over.
    """
    theirs = runs[runs.optimizer == "adamw"][["lr", "weight_decay"]].drop_duplicates()
    page = runs.experiment.iloc[0]
    if len(theirs) != 1:
        raise UserError(f"{page}, {STUDY}: AdamW has {len(theirs)} settings in place of one")
    lr, decay = map(float, theirs.iloc[0])
    product = runs.lr * runs.weight_decay / (lr * decay)
    ratio = (lr / runs.lr).round(1).where((product - 1).abs() <= TOLERANCE, 0.0)
    ratio = ratio.where(runs.optimizer == "lion")
    tuned = runs[ratio == 0][["lr", "weight_decay"]].drop_duplicates()
    if len(tuned) != 1:
        raise UserError(f"{page}, {STUDY}: Lion has {len(tuned)} tuned settings in place of one")
    return runs.assign(ratio=ratio)


def comparisons(results: Path) -> pd.DataFrame:
    """A row for each page, ratio and opponent (AdamW or Lion as tuned), Holm-corrected over each.

    Returns:
        experiment, ratio, against (adamw or lion), unit, digits, ours_mean, ours_error,
        theirs_mean, theirs_error, difference, low, high (95 %, at these settings), n, p_holm,
        verdict on what was carried over, holds (False: the luck of AdamW's tuning is not bounded).
    """
    rows = [
        row
        for path in sorted((results / "studies").glob(f"*/{STUDY}/runs.csv"))
        for row in _of_page(arms(read_study(path)))
    ]
    found = pd.DataFrame(rows)
    if found.empty:
        return found
    return pd.concat([confirmed.corrected(part) for _, part in found.groupby("against")])


def _of_page(runs: pd.DataFrame) -> list[dict[str, Any]]:
    headline = of_table(runs)
    sides = {"adamw": runs[runs.optimizer == "adamw"], "lion": runs[runs.ratio == 0]}
    rows = []
    for ratio in sorted(set(runs.ratio[runs.ratio > 0])):
        for name, theirs in sides.items():
            facts = {"experiment": runs.experiment.iloc[0], "ratio": ratio, "against": name}
            facts |= {"unit": headline.points, "digits": headline.digits}
            mine = runs[runs.ratio == ratio]
            rows.append({**facts, **_judged(mine, theirs)})
    return rows


def _judged(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, Any]:
    both = pd.concat([ours, theirs])
    row: dict[str, Any] = dict.fromkeys(("difference", "low", "high", "p_holm"), math.nan)
    for arm, runs in (("ours", ours), ("theirs", theirs)):
        row |= {f"{arm}_mean": runs.test.mean(), f"{arm}_error": runs.test.sem()}
    row |= {"n": 0, "holds": False, "verdict": confirmed.DIVERGED}
    if (both.state == "diverged").any():
        return row
    of_seed = [runs.set_index("seed").test for runs in (ours, theirs)]
    pairs = pd.DataFrame(dict(zip(("ours", "theirs"), of_seed, strict=True)))
    step = confirmed.resolution(both, "test", has_own_n=False)
    found = of_pairs(pairs, resolution=step, better=of_table(both).better)
    row |= {**confirmed.numbers(found), "n": found.n, "p_holm": found.p_t}
    return row | {"verdict": found.verdict}
