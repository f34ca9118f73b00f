"""Every setting that a sweep tried, with its mean on the split that picks, and how it is drawn."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis.swept.picks import Picked, value_text
from experiments.selection import shared_seeds

FULL_GRID = 1 / 3
"""Share of all combinations of two keys' values from which on they are a grid, not points."""


def cells_of(one: Picked) -> pd.DataFrame:
    """Every setting that was planned.

    Returns:
        The tuned keys; value, the mean over the seeds that the settings share, of the runs that
        finished; low and high of these; n of them; num_diverged; is_complete (each shared seed is
        over); num_over; is_picked; is_edge (of the pick).
    """
    keys, runs = list(one.arm.keys), one.arm.tuning
    seeds = list(one.found.seeds) if one.found else shared_seeds(runs, keys) or list(runs.seed)
    if not keys:
        keys, runs = ["trial"], runs.assign(trial="")
    mine = runs[runs.seed.isin(seeds)].assign(val=lambda t: t.val.where(t.state != "diverged"))
    grouped = mine.groupby(keys, dropna=False)
    found = grouped.val.agg(value="mean", low="min", high="max", n="count")
    found["num_diverged"] = grouped.state.agg(lambda state: int((state == "diverged").sum()))
    found["num_over"] = grouped.size()
    planned = one.arm.planned.assign(trial="")[keys].drop_duplicates()
    table = planned.merge(found.reset_index(), on=keys, how="left").fillna(
        {"n": 0, "num_diverged": 0, "num_over": 0}
    )
    table["is_complete"] = table.num_over >= len(set(seeds))
    table["is_edge"] = bool(one.found and one.found.edges)
    table["is_picked"] = [bool(one.found) and _is(one, row) for row in table.to_dict("records")]
    return table


def _is(one: Picked, row: dict[str, Any]) -> bool:
    return all(_same(row[key], value) for key, value in one.setting.items())


def _same(first: Any, second: Any) -> bool:
    return first == second or (first != first and second != second)


def plane(one: Picked, cells: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, str], str]:
    """The cells that a panel with two axes shows, its keys, and a word on the others.

    Of a grid of more than two keys it is the slice through the pick; of points that make no grid
    (`FULL_GRID`) it is all of them.

    Returns:
        Cells; the keys of x and y ("" where an axis has none); what the panel is a slice at.
    """
    keys = list(one.arm.keys)
    x, y, *others = [*keys, "", ""][: max(2, len(keys))]
    if not others or not is_grid(cells, keys):
        return cells, (x, y), ""
    at = one.setting or dict(cells.iloc[0][keys])
    kept = cells[[all(_same(row[k], at[k]) for k in others) for row in cells.to_dict("records")]]
    said = ", ".join(f"{key} {value_text(at[key])}" for key in others)
    return kept, (x, y), said


def is_grid(cells: pd.DataFrame, keys: Sequence[str]) -> bool:
    """Whether the cells fill enough of all combinations of the keys' values."""
    keys = [key for key in keys if key]
    combinations = math.prod(cells[key].nunique(dropna=False) for key in keys)
    return len(cells.drop_duplicates(keys)) >= FULL_GRID * combinations if keys else True


def ordered(values: pd.Series) -> list[Any]:
    """The values of a key from the smallest to the largest, lists by their numbers, names last."""
    return sorted(values.drop_duplicates(), key=_order)


def _order(value: Any) -> tuple[int, Any]:
    if value is None or value != value:
        return 3, ""
    if is_number(value):
        return 0, value
    try:
        parts = json.loads(value)
        return 1, [float(part) for part in parts]
    except (TypeError, ValueError):
        return 2, str(value)


def is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and value == value


def best_of(cells: Sequence[pd.DataFrame], sign: int) -> float:
    """The best mean of some arms' cells of which no shared seed diverged; NaN where there is none.

    `sign`: 1 where larger is better.
    """
    whole = pd.concat([c[c.is_complete & (c.num_diverged == 0)] for c in cells])
    values = (whole if whole.value.notna().any() else pd.concat(list(cells))).value.dropna()
    finite = values[np.isfinite(values)]
    return math.nan if finite.empty else float(finite.max() if sign > 0 else finite.min())


def scale_end(cells: Sequence[pd.DataFrame], best: float) -> float:
    """The distance from the best at which a colour scale ends: half of the cells lie within it.

    Rounded up to 1, 2 or 5 times a power of ten.
    """
    away = (pd.concat(list(cells)).value - best).abs()
    away = away[np.isfinite(away) & (away > 0)]
    if away.empty:
        return 1.0
    middle = float(away.median())
    power = 10.0 ** math.floor(math.log10(middle))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= middle * (1 - 1e-9))
