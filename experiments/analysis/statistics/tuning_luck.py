"""What the luck of tuning adds to the difference of two optimizers that were each tuned once.

An interval over fresh seeds is one at the two settings found. Another tuning would have found
others, so of the *optimizers* it is wider.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from experiments.analysis.statistics.difference import CONFIDENCE, Difference

BEST_CELL = 0.9
"""Standard deviation, in those of one run, that tuning alone is taken to add to the difference of
two optimizers, each at the best cell of a grid. With it the 95 % interval leaves 0 out for less
than 4 % of equal optimizers, at 5 to 17 fresh seeds, tuned on grids of 16 to 49 cells, or on 3 to 6
learning rates alone, with one to five seeds: simulated, `scripts/calibrate_grids.py`."""


def of_optimizers(
    found: Difference, ours: np.ndarray, theirs: np.ndarray, luck: float = BEST_CELL
) -> tuple[float, float]:
    """The interval of a paired difference with the luck of tuning in it.

    mean +- t sqrt(sd^2 / n + luck^2 s^2), s the pooled standard deviation of one run.

    Args:
        found: Difference over fresh seeds, at the settings found.
        ours: Values of the first optimizer, one a seed.
        theirs: Those of the second.
        luck: In standard deviations of one run.

    Returns:
        Low and high, 95 %; unbounded where the difference is.
    """
    if found.n < 2 or not math.isfinite(found.low):
        return -math.inf, math.inf
    return widened(found, error_of(ours, theirs, luck))


def error_of(ours: np.ndarray, theirs: np.ndarray, luck: float = BEST_CELL) -> float:
    """The standard error that tuning alone makes, in the unit of the values."""
    return luck * math.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / 2)


def widened(found: Difference, luck: float) -> tuple[float, float]:
    """The 95 % interval of a paired difference with another error beside that of seeds.

    Args:
        found: Difference over fresh seeds, at the settings found.
        luck: Standard error that tuning alone makes, in the difference's unit.
    """
    if found.n < 2 or not math.isfinite(found.low):
        return -math.inf, math.inf
    error = math.hypot(found.sd / math.sqrt(found.n), luck)
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, found.n - 1)) * error
    return found.mean - reach, found.mean + reach


def p_of_optimizers(mean: float, low: float, high: float, num_seeds: int) -> float:
    """The p-value of the test whose 95 % interval `of_optimizers` is; for corrections.

    Args:
        mean: Of the differences.
        low: Of the wide interval.
        high: Of the wide interval.
        num_seeds: Pairs.
    """
    free = num_seeds - 1
    error = (high - low) / 2 / float(stats.t.ppf(0.5 + CONFIDENCE / 2, free))
    return 2 * float(stats.t.sf(abs(mean) / error, free))
