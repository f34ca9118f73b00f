"""The final test: Welch with the luck of tuning, two looks, equivalence."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.compare import judging

SAMPLE = st.lists(st.floats(-10, 10), min_size=3, max_size=8)


def test_levels_are_those_of_lan_and_demets():
    assert judging.levels(0.5, 0.05) == pytest.approx((0.0031, 0.049), abs=2e-4)
    assert judging.levels(1.0, 0.05) == (0.05, 0.05)


@pytest.mark.parametrize(
    ("budget", "effect", "n"),
    [(25, 4, 3), (25, 3, 5), (25, 2, 10), (25, 1.5, 25), (36, 2, 8), (36, 1.5, 15), (36, 1, 65)],
)
def test_seeds_are_planned_as_designed(budget, effect, n):
    assert judging.seeds_needed(effect, judging.tau_of(budget)) == n


def test_an_effect_within_the_luck_takes_more_seeds_than_there_are():
    assert judging.seeds_needed(1.0, 0.35, most=65) == 65


@settings(max_examples=50, deadline=None)
@given(SAMPLE, SAMPLE)
def test_without_luck_and_step_it_is_welch(ours, theirs):
    if min(np.ptp(ours), np.ptp(theirs)) < 1e-3:
        return
    found = judging.interval(ours, theirs, tau=0.0)
    theirs_ci = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(theirs_ci))
    assert (found.low_settings, found.high_settings) == pytest.approx((found.low, found.high))


@settings(max_examples=50, deadline=None)
@given(SAMPLE, SAMPLE, st.floats(0, 1), st.floats(0, 2), st.floats(0.01, 5))
def test_luck_widens_and_swapping_turns_the_sign(ours, theirs, tau, step, margin):
    found = judging.interval(ours, theirs, tau=tau, step=step)
    turned = judging.interval(theirs, ours, tau=tau, step=step)
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low))
    assert found.low <= found.low_settings <= found.mean <= found.high_settings <= found.high
    names = {"better": "worse", "worse": "better"}
    if abs(found.low) > 1e-9 and abs(found.high) > 1e-9:
        verdict = found.verdict(margin)
        assert turned.verdict(margin) == names.get(verdict, verdict)


def test_no_spread_is_no_certainty():
    """Equal values on every seed: the metric's step is the least that they are uncertain by."""
    same = judging.interval([91.0] * 5, [90.0] * 5, tau=0.0, step=1.0)
    assert not same.varied and same.low < 0.5 < same.high - 0.5


def test_a_spread_too_small_to_square_is_still_one():
    found = judging.interval([0.0, 0.0, 1e-90], [0.0, 0.0, 0.0], tau=0.0)
    assert math.isfinite(found.low) and math.isfinite(found.high)


def test_diverged_runs_are_left_out():
    assert judging.interval([1, 2, math.nan, 3], [1, 2, 4], tau=0.0).n_ours == 3


def test_more_seeds_that_would_decide_do_decide():
    more = judging.more_seeds(1.0, 1.0, 0.1, 0.2, 5)
    assert more is not None and more > 0
    assert judging.more_seeds(0.3, 1.0, 0.35, 0.3, 5) is None  # within the luck


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([97.5, 97.75, 98.0, 98.5, 97.25], 0.25),
        ([round(100 * k / 360, 2) for k in (340, 341, 343, 344, 348)], 100 / 360),
        ([0.123, 0.4871, 0.9034, 0.3127, 0.77], 0.0),
        ([1.0, 1.0], 0.0),
    ],
)
def test_the_step_of_a_metric_is_read_from_its_values(values, step):
    assert judging.step_of(values) == pytest.approx(step, rel=0.02)


def test_budgets_between_those_of_the_table_have_the_luck_of_the_smaller():
    assert judging.tau_of(34) == judging.tau_of(25)
    assert judging.smallest_budget(1.0) == 36 and judging.smallest_budget(0.1) is None
