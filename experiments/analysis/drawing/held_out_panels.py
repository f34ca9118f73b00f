"""Tuned optimizers on seeds that did not pick their settings: means, and paired differences.

Of the tables that `experiments.analysis.confirmed` makes.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib import ticker

from experiments.analysis.confirmed import FRESH
from experiments.analysis.drawing import dot_panels, figure_style
from experiments.analysis.statistics.difference import BETTER, INCONCLUSIVE, NOT_TUNED, WORSE

HEADROOM = 0.55
"""Rows of a panel above the first, of three: the word proxy stands there."""
ARMS = ("row", "optimizer", "value", "error", "n", "hollow", "colour")


def arms(found: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error of each optimizer that some comparisons of one measure are of.

    Args:
        found: Rows of `confirmed.COLUMNS`; ours may stand in several.

    Returns:
        A row per optimizer, baselines first: `ARMS`. No value where it has none.
    """
    rows = []
    for side in ("theirs", "ours"):
        for item in found.to_dict("records"):
            name = figure_style.name_of(item[side])
            value, error = item[f"{side}_mean"], item[f"{side}_error"]
            is_untuned = item[side] in str(item["edges"]).split(", ")
            look = is_untuned, figure_style.colour_of(name)
            rows.append((name, item[side], value, error, item["n"], *look))
    table = pd.DataFrame(rows, columns=list(ARMS))
    table = table.sort_values("value", key=lambda values: values.isna(), kind="stable")
    once = table.drop_duplicates("optimizer")
    return once.loc[sorted(once.index)].reset_index(drop=True)


def means(axis: Any, values: pd.DataFrame, label: str, decimals: int = 1) -> None:
    """A panel of dots, marked as a proxy's.

    Args:
        axis: To draw on.
        values: As `arms` gives them; rows from top to bottom.
        label: Of the axis: metric and unit.
        decimals: Of the numbers.
    """
    dot_panels.as_proxy(axis)
    dot_panels.dots(axis, values, list(values.row), decimals)
    low, high = axis.get_xlim()
    axis.set_xlim(low, high + 0.14 * (high - low))  # these panels are narrow
    axis.xaxis.set_major_locator(ticker.MaxNLocator(3))
    _finish(axis, label)


def _finish(axis: Any, label: str) -> None:
    low, high = axis.get_ylim()
    axis.set_ylim(low, high - HEADROOM * max(1.0, abs(high - low) / 3))
    axis.set_xlabel(label)


def differences(axis: Any, found: pd.DataFrame, label: str) -> None:
    """A panel of intervals, marked as a proxy's; coloured where one of the two is shown ahead.

    Args:
        axis: To draw on.
        found: Rows of `confirmed.COLUMNS` with their name in `row`.
        label: Of the axis: what is subtracted, and the unit.
    """
    dot_panels.as_proxy(axis)
    rows = []
    for item in found.dropna(subset="difference").itertuples():
        winner = {"better": item.ours, "worse": item.theirs}.get(item.verdict, "")
        ends = float(item.low), float(item.high)
        is_tuned = item.verdict != NOT_TUNED
        wide = (float(item.wide_low), float(item.wide_high)) if item.seeds == FRESH else None
        rows.append(dot_panels.Difference(item.row, item.difference, *ends, winner, is_tuned, wide))
    dot_panels.differences(axis, rows, list(found.row))
    _finish(axis, label)


def caption(found: pd.DataFrame, shown: str, has_differences: bool = True) -> str:
    """Sentences on how the panels came about; that they are not there, where none is.

    Short: every letter of a caption is a shape of the SVG.

    Args:
        found: Rows of `confirmed.COLUMNS`.
        shown: What the panels show, without a point.
        has_differences: Whether a panel shows them.
    """
    known = found[found.n > 0]
    if known.empty:
        return "Ours: not run yet."
    counts = sorted({int(n) for n in known.n})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    is_fresh = (known.seeds == FRESH).all()
    how = "fresh seeds, at the settings found" if is_fresh else "seeds, each as the others pick"
    said = f"Ours: a proxy in each panel below. {shown}; mean, standard error, n = {n} {how}."
    judged = int(known.verdict.isin([BETTER, WORSE, INCONCLUSIVE]).sum())
    if has_differences:
        said += " Differences in pairs, 95 %" + (" (thin: of the optimizers)" if is_fresh else "")
        at = " at these settings" if is_fresh else ""
        said += (
            f"; coloured: shown{at} (Holm, {judged} questions); grey: not shown, which is not "
            "“equal”."
            if judged
            else "; grey: nothing is shown."
        )
    if names := [figure_style.name_of(name) for name in untuned(found)]:
        said += f" Hollow: best setting on an edge, so not tuned ({', '.join(names)})."
    if lost := len(found) - len(known):
        said += f" Without runs, or diverged: {lost} of {len(found)}."
    return said


def untuned(found: pd.DataFrame) -> Sequence[str]:
    """Optimizers whose best setting lies on the edge of its grid."""
    named = (name for text in found.edges.fillna("") for name in str(text).split(", "))
    return list(dict.fromkeys(name for name in named if name))
