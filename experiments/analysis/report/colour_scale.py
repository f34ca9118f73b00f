"""The ends of a heatmap's colour scale: fine where the choice is made, cut where all is bad."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from experiments.analysis.figures.lr_wd_heatmaps import CLIP


@dataclass(frozen=True)
class Scale:
    """Values of the smallest and largest colour, and which is better."""

    low: float
    high: float
    is_higher_better: bool
    is_cut: bool  # some values are worse than the scale shows, and look like its end


def scale_of(values: Iterable[float], unit: str, is_higher_better: bool = True) -> Scale:
    """From the best value to 5 below it in per cent, in other units to the median.

    One bad corner would otherwise take the whole scale, and the settings to choose from would be
    of one colour.

    Args:
        values: Of all cells that share the scale; at least one, finite.
        unit: Of the values.
        is_higher_better: Or lower.
    """
    ranked = sorted(values, reverse=is_higher_better)
    best, worst = ranked[0], ranked[-1]
    reach = CLIP if unit == "%" else abs(best - ranked[len(ranked) // 2])
    is_cut = 0 < reach < abs(best - worst)
    end = worst if not is_cut else best - reach if is_higher_better else best + reach
    return Scale(min(best, end), max(best, end), is_higher_better, is_cut)
