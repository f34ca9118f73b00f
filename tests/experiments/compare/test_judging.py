"""The final test: Welch with the luck of tuning, two looks, equivalence."""

import math
from dataclasses import replace

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


def test_the_luck_of_tuning_by_hand():
    """Variances 4 and 2: 4/3 + 2/2 = 7/3, with Welch's 49/17 degrees of freedom; and tau^2 3."""
    found = judging.interval([2, 4, 6], [1, 3], tau=0.5, level=0.05, wide=0.10)
    narrow, wide = (stats.t.ppf(p, 49 / 17) for p in (0.975, 0.95))
    own, error = math.sqrt(7 / 3), math.sqrt(7 / 3 + 0.25 * 3)
    assert (found.mean, found.sd) == pytest.approx((2.0, math.sqrt(3)))
    assert (found.n_ours, found.n_theirs, found.varied) == (3, 2, True)
    assert found.low_settings == pytest.approx(2 - narrow * own)
    assert (found.low, found.high) == pytest.approx((2 - narrow * error, 2 + narrow * error))
    assert (found.low_wide, found.high_wide) == pytest.approx((2 - wide * error, 2 + wide * error))
    step = judging.interval([1.0] * 3, [0.0] * 3, tau=0.0, step=0.4)
    assert step.sd == pytest.approx(0.2), "half a step for each run"
    assert step.high == pytest.approx(1 + stats.t.ppf(0.975, 4) * 0.2 * math.sqrt(2 / 3))


def test_where_each_line_lies():
    at = judging.interval([1, 2, 3], [1, 2, 3], tau=0.0)
    at = replace(at, low=-1.0, high=1.0, low_wide=-0.5, high_wide=0.4)
    assert at.verdict(0.51) == "equivalent" and at.verdict(0.5) == "undecided"
    assert replace(at, low_wide=-0.4, high_wide=0.5).verdict(0.5) == "undecided"
    assert replace(at, low=0.0).verdict(0.1) == replace(at, high=0.0).verdict(0.1) == "undecided"


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
    assert judging.interval([91.0] * 5, [90.0, 90.0, 91.0], tau=0.0).varied
    assert judging.interval([90.0, 90.0, 91.0], [91.0] * 5, tau=0.0).varied


def test_a_spread_too_small_to_square_is_still_one():
    found = judging.interval([0.0, 0.0, 1e-90], [0.0, 0.0, 0.0], tau=0.0)
    assert math.isfinite(found.low) and math.isfinite(found.high)


def test_diverged_runs_are_left_out():
    assert judging.interval([1, 2, math.nan, 3], [1, 2, 4], tau=0.0).n_ours == 3


@pytest.mark.parametrize(
    ("facts", "total"),
    [
        # t(0.975, 14) sqrt(2 / 8) = 1.072 and t(0.975, 16) sqrt(2 / 9) = 0.999
        ((1.06, 1.0, 0.0, 0.001), 9),
        # t(0.95, 10) sqrt(2 / 6) = 1.046 and t(0.95, 12) sqrt(2 / 7) = 0.953
        ((0.0, 1.0, 0.0, 1.03), 7),
        # twice t(0.975, 14) sqrt(2 / 8 + 0.25) = 3.033 and t(0.975, 16) sqrt(2 / 9 + .25) = 2.914
        ((-3.0, 2.0, 0.5, 0.001), 9),
    ],
)
def test_how_many_more_seeds_by_hand(facts, total):
    assert judging.more_seeds(*facts, 5) == total - 5


def test_more_seeds_that_would_decide_do_decide():
    more = judging.more_seeds(1.0, 1.0, 0.1, 0.2, 5)
    assert more is not None and more > 0
    assert judging.more_seeds(99.0, 1.0, 0.0, 0.1, 5) == 1  # a first look asks for more than 5 %
    assert judging.more_seeds(0.3, 1.0, 0.35, 0.3, 5) is None  # within the luck


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([97.5, 97.75, 98.0, 98.5, 97.25], 0.25),
        ([round(100 * k / 360, 2) for k in (340, 341, 343, 344, 348)], 100 / 360),
        ([0.123, 0.4871, 0.9034, 0.3127, 0.77], 0.0),
        ([1.0, 1.0], 0.0),
        ([1.0, 2.0, 3.0, 5.0], 1.0),  # three gaps are enough
        ([1000.25, 1000.25 + 5e-7, 1000.5, 1000.75, 1001.0], 0.25),  # one is what rounding leaves
    ],
)
def test_the_step_of_a_metric_is_read_from_its_values(values, step):
    assert judging.step_of(values) == pytest.approx(step, rel=0.005)


def test_budgets_between_those_of_the_table_have_the_luck_of_the_smaller():
    assert judging.tau_of(34) == judging.tau_of(25)
    assert judging.tau_of(9) == judging.tau_of(10)


@pytest.mark.parametrize(
    ("effect", "budget"),
    [(2.0, 10), (1.99, 25), (1.4, 25), (1.39, 36), (1.0, 36), (0.99, 49), (0.8, 49), (0.79, 64),
     (0.6, 64), (0.59, None)],
)  # fmt: skip
def test_an_effect_must_be_four_times_the_luck_of_tuning(effect, budget):
    """0.5 sd with 10 trials and with 16, 0.35 with 25, 0.25 with 36, 0.2 with 49, 0.15 with 64."""
    assert judging.smallest_budget(effect) == budget


def test_looks_are_after_half_of_more_than_five_seeds():
    looks = {n: judging.looks(n) for n in (3, 5, 6, 7, 65)}
    assert looks == {3: (3,), 5: (5,), 6: (3, 6), 7: (4, 7), 65: (33, 65)}


@pytest.mark.parametrize(("n", "tau"), [(3, 0.35), (5, 0.5), (10, 0.35), (40, 0.25)])
def test_the_largest_effect_for_so_many_seeds(n, tau):
    effect = judging.effect_for(n, tau)
    assert effect is not None and n <= judging.seeds_needed(effect, tau) <= n + 1
    assert effect == 9.99 or judging.seeds_needed(effect + 0.01, tau) < n
    assert judging.effect_for(65, 0.5) is None
