"""Two independent arms of values: difference of the means, its interval, an exact test."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from experiments.analysis.statistics.difference import CONFIDENCE, p_exact


def welch(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Difference of two means and its interval, for unequal variances."""
    if min(len(ours), len(theirs)) == 0:
        return math.nan, -math.inf, math.inf
    mean = float(ours.mean() - theirs.mean())
    if min(len(ours), len(theirs)) < 2:
        return mean, -math.inf, math.inf
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(CONFIDENCE)
    return mean, float(interval.low), float(interval.high)


def exact(ours: np.ndarray, theirs: np.ndarray) -> float:
    """p of all ways of dividing the values over two groups of one size."""
    n = min(len(ours), len(theirs))
    if len(ours) == len(theirs) and n < 6:  # the suite's exact test of two arms
        return p_exact(ours - theirs, (ours.tolist(), theirs.tolist()))
    test = stats.permutation_test((ours, theirs), _difference, permutation_type="independent",
                                  vectorized=False, rng=np.random.default_rng(0))  # fmt: skip
    return float(test.pvalue)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.mean(ours) - np.mean(theirs))
