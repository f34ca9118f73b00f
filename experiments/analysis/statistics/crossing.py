"""When a digitised falling curve (points with step and value) first reaches another's end."""

from __future__ import annotations

import pandas as pd


def last(points: pd.DataFrame) -> float:
    """Value at the last step."""
    return float(points.sort_values("step").value.iloc[-1])


def first_below(points: pd.DataFrame, target: float) -> float | None:
    """Step at which a falling curve first reaches the target, on straight lines between points."""
    points = points.sort_values("step")
    before = None
    for step, value in zip(points.step, points.value, strict=True):
        if value <= target:
            if before is None:
                return float(step)
            share = (before[1] - target) / (before[1] - value)
            return before[0] + share * (step - before[0])
        before = (float(step), float(value))
    return None


def times_sooner(ours: pd.DataFrame, theirs: pd.DataFrame) -> float | None:
    """How many times fewer steps our curve needs to their last value; None where it never is.

    Their own curve, where it is noisy and flat, may have had that value long before its end, too:
    `times_sooner(theirs, theirs)` is what the number must be held against.
    """
    reached = first_below(ours, last(theirs))
    end = float(theirs.step.max())
    return None if reached is None or reached >= end else end / reached
