"""The luck of tuning in an interval, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.analysis.statistics.difference import difference_of
from experiments.analysis.statistics.tuning_luck import BEST_CELL, of_optimizers, widened


def test_two_seeds_have_a_wide_interval() -> None:
    """Differences 1 and 3: their mean has the error 1; one run the variances 8 and 2, so 5."""
    ours, theirs = np.array([1.0, 5.0]), np.array([0.0, 2.0])
    found = difference_of(ours - theirs, (ours, theirs))
    for luck, error in ((1.0, math.sqrt(1 + 5)), (BEST_CELL, math.sqrt(1 + 0.81 * 5))):
        low, high = of_optimizers(found, ours, theirs, luck)
        assert (low, high) == pytest.approx((2 - 12.7062 * error, 2 + 12.7062 * error), rel=1e-5)
    assert widened(found, 2.0) == pytest.approx(
        (2 - 12.7062 * math.sqrt(5), 2 + 12.7062 * math.sqrt(5)), rel=1e-5
    )


def test_equal_differences_bound_nothing() -> None:
    ours, theirs = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0])
    found = difference_of(ours - theirs, (ours, theirs))
    assert of_optimizers(found, ours, theirs) == (-math.inf, math.inf)
    assert widened(found, 1.0) == (-math.inf, math.inf)
