"""Curves against the optimizer step, with names at their ends instead of a legend."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.analysis.drawing import figure_style as style
from experiments.analysis.statistics.crossing import last as last
from experiments.analysis.statistics.crossing import times_sooner

PALE = 0.38  # opacity of what was hard to read in the picture


def curve(axis: Any, points: pd.DataFrame, optimizer: str, width: float = 1.9) -> None:
    """One line: full where it was read well, pale where quality is `low`, with its uncertainty.

    Args:
        axis: To draw on; x is thousands of optimizer steps.
        points: step, value, uncertainty (half width), quality (ok or low).
        optimizer: Gives the colour and the dashes.
        width: Of the line.
    """
    points = points.sort_values("step")
    x, y = points.step / 1000, points.value
    look = {"color": style.colour_of(optimizer), "linestyle": style.dash_of(optimizer)}
    axis.fill_between(x, y - points.uncertainty, y + points.uncertainty,
                      color=look["color"], alpha=0.25, linewidth=0)  # fmt: skip
    sure = y.where(points.quality != "low")
    if sure.isna().any():
        axis.plot(x, y, linewidth=width, alpha=PALE, **look)
    axis.plot(x, sure, linewidth=width, solid_capstyle="butt", **look)


def mark_reach(axis: Any, ours: pd.DataFrame, theirs: pd.DataFrame) -> float | None:
    """Draws from theirs' last point back to where our falling curve first has that value.

    Args:
        axis: With both curves drawn.
        ours: Points of the curve that may get there sooner.
        theirs: Points of the other.

    Returns:
        How many times fewer steps that is; None where ours never gets there sooner.
    """
    target, end = last(theirs), float(theirs.step.max())
    ratio = times_sooner(ours, theirs)
    if ratio is None:
        return None
    reached = end / ratio
    axis.plot([reached / 1000, end / 1000], [target] * 2, color=style.INK, linewidth=0.9)
    axis.plot([reached / 1000], [target], marker="<", color=style.INK, markersize=6)
    return ratio


def finish(axis: Any, title: str, y_label: str = "") -> None:
    """Heading, axis labels and a pale grid."""
    style.panel_title(axis, title)
    axis.set_xlabel("optimizer step (thousands)")
    axis.set_ylabel(y_label)
    axis.grid(axis="y")
    axis.set_xlim(left=0)
