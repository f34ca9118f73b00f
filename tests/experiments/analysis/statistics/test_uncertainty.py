"""Intervals and tests against numbers worked out by hand, and their coverage in simulations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.analysis.statistics.uncertainty import (
    MIN_BOOTSTRAP,
    bootstrap_interval,
    holm,
    mean_interval,
    paired_test,
)

SAMPLES = st.lists(st.floats(-100, 100), min_size=2, max_size=8)


def test_few_values_get_students_interval() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    reach = 2.776445 * math.sqrt(2.5 / 5)  # t(0.975, 4)
    assert (found.estimate, found.n, found.method) == (3.0, 5, "Student's t")
    assert (found.low, found.high) == pytest.approx((3 - reach, 3 + reach), rel=1e-6)


def test_many_values_get_a_bootstrap_that_says_so() -> None:
    values = np.random.default_rng(0).exponential(size=MIN_BOOTSTRAP)
    found = mean_interval(values)
    assert found.method == "BCa bootstrap"
    assert found.low < values.mean() < found.high
    # Skew: the upper arm of an exponential's mean is the longer one.
    assert found.high - found.estimate > found.estimate - found.low
    assert mean_interval(values) == found  # no luck in it


def test_a_bootstrap_of_five_admits_that_it_is_too_narrow() -> None:
    found = bootstrap_interval([1.0, 2.0, 3.0, 4.0, 9.0], np.median)
    assert (found.estimate, found.n) == (3.0, 5)
    assert found.method == "percentile bootstrap, too narrow at this n"
    assert 1.0 <= found.low <= 3.0 <= found.high <= 9.0


@pytest.mark.parametrize("interval", [mean_interval, bootstrap_interval])
@pytest.mark.parametrize("values", [[3.0], [3.0, math.nan]])
def test_one_value_has_no_interval(interval, values) -> None:
    found = interval(values)
    assert (found.estimate, found.low, found.high, found.n) == (3.0, -math.inf, math.inf, 1)


def test_missing_values_are_left_out() -> None:
    assert mean_interval([1.0, math.nan, 3.0]) == mean_interval([1.0, 3.0])


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = mean_interval([2.0] * MIN_BOOTSTRAP)
    assert (found.low, found.high) == (2.0, 2.0)


@pytest.mark.parametrize(("n", "low", "high"), [(3, 0.93, 0.97), (5, 0.93, 0.97)])
def test_students_interval_covers_what_it_says(n: int, low: float, high: float) -> None:
    draws = np.random.default_rng(7).normal(4.0, 2.0, size=(1500, n))
    inside = [i.low <= 4.0 <= i.high for i in map(mean_interval, draws)]
    assert low < np.mean(inside) < high


def test_the_bootstrap_covers_as_stated_at_twenty(monkeypatch) -> None:
    monkeypatch.setattr("experiments.analysis.statistics.uncertainty.NUM_RESAMPLES", 499)
    draws = np.random.default_rng(8).normal(size=(400, MIN_BOOTSTRAP))
    found = [mean_interval(x) for x in draws]
    assert found[0].method == "BCa bootstrap"
    assert 0.88 < np.mean([i.low <= 0.0 <= i.high for i in found]) < 0.96


# --- tests of a difference ------------------------------------------------------------------------


def test_a_known_t_test() -> None:
    """Sleep data of Student (1908), as in R's documentation: t = -4.0621, p = 0.002833."""
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired_test(one, two)
    assert found.p_t == pytest.approx(0.002833, abs=5e-7)
    assert (found.mean, found.n) == (pytest.approx(-1.58), 10)


def exact_p(differences: list[float]) -> float:
    """Share of all sign patterns with a mean at least as far from 0."""
    signs = itertools.product((1, -1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(p, differences, strict=True))) for p in signs]
    return sum(s >= abs(sum(differences)) - 1e-9 for s in sums) / len(sums)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8))
def test_the_sign_flip_test_counts_every_pattern(differences: list[int]) -> None:
    found = paired_test(differences, [0] * len(differences))
    assert found.p_sign_flip == pytest.approx(min(1.0, exact_p(differences)), abs=1e-9)
    assert found.p_sign_flip >= found.p_smallest - 1e-12


def test_five_seeds_cannot_give_a_small_p_without_normality() -> None:
    found = paired_test([10.0, 11.0, 12.0, 13.0, 14.0], [0.0] * 5)
    assert found.p_smallest == found.p_sign_flip == 0.0625
    assert found.p_t < 0.001


def test_both_tests_raise_false_alarms_as_often_as_they_say() -> None:
    draws = np.random.default_rng(3).normal(size=(600, 2, 6))
    found = [paired_test(a, b) for a, b in draws]
    assert 0.03 < np.mean([f.p_t < 0.05 for f in found]) < 0.075
    assert 0.01 < np.mean([f.p_sign_flip <= 2 / 64 for f in found]) < 0.055  # exactly 1/32


@settings(deadline=None, max_examples=25)
@given(SAMPLES, st.floats(-50, 50))
def test_what_a_seed_does_to_both_cancels(values: list[float], shift: float) -> None:
    ours, theirs = np.array(values), np.zeros(len(values))
    found, moved = paired_test(ours, theirs), paired_test(ours + shift, theirs + shift)
    assert moved.mean == pytest.approx(found.mean, abs=1e-9)
    swapped = paired_test(theirs, ours)
    assert swapped.p_sign_flip == pytest.approx(found.p_sign_flip)
    assert swapped.mean == -found.mean


def test_values_that_are_not_in_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="not in pairs: 3 and 2"):
        paired_test([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="use the seeds of both"):
        paired_test([1, math.nan], [1, 2])


def test_no_spread() -> None:
    assert paired_test([1, 2, 3], [1, 2, 3]).p_t == 1.0
    assert paired_test([2, 3, 4], [1, 2, 3]).p_t == 1.0
    assert paired_test([0.3, 1.3, 2.3], [0.0, 1.0, 2.0]).p_t == 1.0  # alike but for rounding
    assert paired_test([2], [1]).p_t == 1.0


# --- Holm -----------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    # Sorted .005, .01, .03, .04 times 4, 3, 2, 1: .02, .03, .06, .04; the last may not fall.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_lies_between_no_correction_and_bonferronis(p: list[float]) -> None:
    adjusted = np.array(holm(p))
    assert (adjusted >= np.array(p) - 1e-12).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_holm_holds_the_chance_of_any_false_alarm() -> None:
    p = stats.uniform.rvs(size=(4000, 8), random_state=5)
    assert np.mean([min(holm(row)) < 0.05 for row in p]) == pytest.approx(0.05, abs=0.012)
