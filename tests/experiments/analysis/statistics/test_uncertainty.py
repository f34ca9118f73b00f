"""Intervals and tests against numbers worked out by hand, and their coverage in simulations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.analysis.statistics.difference import p_sign_flip
from experiments.analysis.statistics.uncertainty import MIN_BOOTSTRAP, holm, mean_interval


def test_few_values_get_students_interval() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    reach = 2.776445 * math.sqrt(2.5 / 5)  # t(0.975, 4)
    assert (found.estimate, found.n, found.method) == (3.0, 5, "Student's t")
    assert (found.low, found.high) == pytest.approx((3 - reach, 3 + reach), rel=1e-6)


def test_two_values_have_an_interval_already() -> None:
    found = mean_interval([1.0, 3.0])  # t(0.975, 1) = 12.7062, standard error 1
    assert (found.low, found.high) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)


def test_shares_get_a_bootstrap_however_narrow_and_from_twenty_on() -> None:
    shares = np.linspace(0.90, 0.95, 20)
    assert mean_interval(shares).method == "BCa bootstrap"
    assert mean_interval(shares[:19]).method == "Student's t"


def test_many_values_get_a_bootstrap_that_says_so() -> None:
    values = np.random.default_rng(0).exponential(size=MIN_BOOTSTRAP)
    found = mean_interval(values)
    assert found.method == "BCa bootstrap"
    assert found.low < values.mean() < found.high
    # Skew: the upper arm of an exponential's mean is the longer one.
    assert found.high - found.estimate > found.estimate - found.low
    # By the formula, over 100,000 draws of its own; percentiles alone are [0.77, 2.05].
    assert (found.low, found.high) == pytest.approx((0.851, 2.234), abs=0.03)
    assert mean_interval(values) == found  # no luck in it


@pytest.mark.parametrize("values", [[3.0], [3.0, math.nan], [3.0, math.inf]])
def test_one_value_has_no_interval(values: list[float]) -> None:
    found = mean_interval(values)
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


# --- the sign-flip test --------------------------------------------------------------------------


def exact_p(differences: list[float]) -> float:
    """Share of all sign patterns with a mean at least as far from 0."""
    signs = itertools.product((1, -1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(p, differences, strict=True))) for p in signs]
    return sum(s >= abs(sum(differences)) - 1e-9 for s in sums) / len(sums)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8))
def test_the_sign_flip_test_counts_every_pattern(differences: list[int]) -> None:
    found = p_sign_flip(np.array(differences, float))
    assert found == pytest.approx(min(1.0, exact_p(differences)), abs=1e-9)


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
