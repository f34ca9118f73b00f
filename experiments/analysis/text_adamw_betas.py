"""Block of RESULTS.md on AdamW's betas and its learning rate; see `text_tables`."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis import adamw_betas
from experiments.analysis.markdown import NO_STUDY, table
from experiments.analysis.statistics.uncertainty import Interval, mean_interval
from experiments.analysis.text_best_ratios import two_digits
from experiments.rounded import ends, rounded

WITHIN, MOVED_BY, BESIDE_LION = 1.25, 1.5, 0.5
"""What the page `sweep=betas_of_adamw` said before its runs: see there."""


def ratios(results: Path) -> str:
    """AdamW's best learning rate for other betas over that for its own; what was predicted."""
    found = adamw_betas.table(results)
    if found.empty:
        return NO_STUDY
    moved = adamw_betas.moved(results).set_index("name")
    pairs = found.drop_duplicates(["beta1", "beta2"]).sort_values(["beta1", "beta2"])
    heads = [f"({item.beta1:g}, {item.beta2:g})" for item in pairs.itertuples()]
    rows = []
    for name, part in found.groupby("name", sort=False):
        cells = {(item.beta1, item.beta2): _cell(item) for item in part.itertuples()}
        beside = [cells.get((item.beta1, item.beta2), "–") for item in pairs.itertuples()]
        rows.append((name, *beside, *_moves(moved, str(name))))
    columns = ("family", *heads, "β1 0 → 0.99: AdamW's", "Lion's")
    return f"{table(columns, rows)}\n\n{_said(found, moved)}"


def _cell(item: Any) -> str:
    if item.reason:
        return f"– ({item.reason})"
    return f"{two_digits(item.estimate)} {ends(item.low, item.high, 2)}"


def _moves(moved: pd.DataFrame, name: str) -> tuple[str, str]:
    if name not in moved.index:
        return "–", "–"
    row = moved.loc[name]
    own = f"{two_digits(row.adamw)} {ends(row.adamw_low, row.adamw_high, 2)}"
    return own, f"1 / {two_digits(1 / row.lion)}"


def _said(found: pd.DataFrame, moved: pd.DataFrame) -> str:
    told = found.dropna(subset="estimate")
    parts = [part for _, part in told.groupby(["beta1", "beta2"])]
    means = [_mean(part.estimate) for part in parts]
    within = sum(abs(mean.estimate) < math.log(WITHIN) for mean in means)
    beside = adamw_betas.in_logs(moved)
    holds = ((told.low <= 1) & (told.high >= 1)).sum()
    smallest, largest = ((found.decay_end == end).sum() for end in ("smallest", "largest"))
    of_each = "; ".join(
        f"{_factor(mean)} at ({part.beta1.iloc[0]:g}, {part.beta2.iloc[0]:g})"
        for mean, part in zip(means, parts, strict=True)
    )
    return (
        f"Predicted: for each pair within a factor of {WITHIN} of 1, geometric mean of the "
        f"families. It is {of_each} (Student's over the families): so of {within} of {len(means)}. "
        f"Predicted: from β1 = 0 to 0.99 it moves by less than a factor of {MOVED_BY} on average, "
        f"and in each family by less than half of what Lion's moved, in logs. It moves by "
        f"{_factor(_mean(moved.adamw))}; by less than half in {(beside.abs() < BESIDE_LION).sum()} "
        f"of {len(beside)} ({rounded(beside.min(), 2)} to {rounded(beside.max(), 2)} of Lion's). "
        f"The interval of a ratio holds 1 in {holds} of {len(told)}. Of the {len(found)} best "
        f"cells {smallest} have the smallest weight decay that was tried, {largest} the largest."
    )


def _mean(ratios: pd.Series) -> Interval:
    return mean_interval(list(np.log(ratios)))


def _factor(mean: Interval) -> str:
    low, high = (math.exp(x) for x in (mean.low, mean.high))
    return f"{rounded(math.exp(mean.estimate), 2)} {ends(low, high, 2)}"


BLOCKS = {"adamw_betas": ratios}
