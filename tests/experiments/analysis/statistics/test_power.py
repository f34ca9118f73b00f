"""Power by formula against simulation and published tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.analysis.statistics.power import detectable_difference, power, seeds_needed


@pytest.mark.parametrize(("effect", "n"), [(0.5, 5), (1.0, 5), (0.5, 20), (2.0, 3)])
def test_power_is_how_often_a_simulated_t_test_finds_the_difference(effect: float, n: int) -> None:
    draws = np.random.default_rng(1).normal(effect, 1.0, size=(20_000, n))
    found = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05
    assert power(effect, 1.0, n) == pytest.approx(found.mean(), abs=0.012)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_as_in_published_tables(effect: float, n: int) -> None:
    """G*Power, paired t-test, two-sided, alpha 0.05, power 0.8."""
    assert seeds_needed(effect, 1.0) == n


def test_no_effect_is_found_as_often_as_the_level_says() -> None:
    assert power(0.0, 1.0, 7) == pytest.approx(0.05)
    assert seeds_needed(0.0, 1.0) == math.inf


def test_a_huge_effect_is_certain_and_four_seeds_are_the_least() -> None:
    assert power(1e6, 1.0, 5) == pytest.approx(1.0)
    assert seeds_needed(1e6, 1.0) == 4  # fewer never count as shown


@settings(deadline=None, max_examples=25)
@given(st.floats(0.3, 3.0), st.floats(0.1, 10.0), st.integers(2, 30), st.floats(0.5, 0.95))
def test_it_is_monotone_and_scales(effect: float, sd: float, n: int, wanted: float) -> None:
    assert power(effect, 1.0, n) <= power(effect, 1.0, n + 1) + 1e-9
    assert power(effect, 1.0, n) <= power(1.1 * effect, 1.0, n) + 1e-9
    assert power(-effect, 1.0, n) == pytest.approx(power(effect, 1.0, n))
    assert power(effect * sd, sd, n) == pytest.approx(power(effect, 1.0, n))
    least = detectable_difference(sd, n, wanted)
    assert power(least, sd, n) == pytest.approx(wanted, abs=1e-6)
    assert detectable_difference(sd, n + 1, wanted) < least


@settings(deadline=None, max_examples=15)
@given(st.floats(0.2, 3.0), st.floats(0.5, 0.95))
def test_the_seeds_needed_are_the_fewest_that_suffice(effect: float, wanted: float) -> None:
    n = int(seeds_needed(effect, 1.0, wanted))
    assert power(effect, 1.0, n) >= wanted
    assert n == 4 or power(effect, 1.0, n - 1) < wanted
    assert detectable_difference(1.0, n, wanted) <= effect + 1e-6


@pytest.mark.parametrize("sd", [0.0, -1.0, math.nan, math.inf])
def test_a_spread_that_is_none_is_refused(sd: float) -> None:
    with pytest.raises(ValueError, match="must be a finite number greater than 0"):
        power(1.0, sd, 5)


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 seeds"):
        power(1.0, 1.0, 1)
    with pytest.raises(ValueError, match="wanted_power=1"):
        seeds_needed(1.0, 1.0, wanted_power=1.0)


def test_what_no_seed_makes_smaller_bounds_the_power() -> None:
    """With an error that stays, power ends where Normal theory puts it; without it, at 1."""
    for luck in (0.2, 0.3, 0.34, 1.0):
        limit = stats.norm.sf(1.96 - 1 / luck) + stats.norm.cdf(-1.96 - 1 / luck)
        assert power(1.0, 1.5, 10**6, luck=luck) == pytest.approx(limit, abs=1e-3)
        assert power(1.0, 1.5, 20, luck=luck) < power(1.0, 1.5, 20)
    needed = seeds_needed(1.0, 1.5, luck=0.3)
    assert seeds_needed(1.0, 1.5) < needed < math.inf
    together = math.hypot(1.5 / math.sqrt(needed), 0.3) * math.sqrt(needed)
    assert power(1.0, 1.5, int(needed), luck=0.3) == pytest.approx(
        power(1.0, together, int(needed))
    )
    assert seeds_needed(1.0, 1.5, luck=0.36) == math.inf  # 1 / 0.36 < 1.96 + 0.84
