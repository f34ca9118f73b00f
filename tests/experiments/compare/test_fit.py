"""The fitted top: where it is known, it is found; where it is not, that is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.compare.fit import fit

GRID = np.array([(u, v) for u in (-0.5, 0, 0.5) for v in (-0.5, 0, 0.5)])
MORE = np.concatenate([GRID, GRID * 0.5 + 0.1])


def bowl(x, top, a=15.0, b=2.0):
    u, v = (x - np.asarray(top)).T
    return -a * u**2 - b * v**2


@settings(max_examples=30, deadline=None)
@given(st.floats(-0.35, 0.35), st.floats(-0.35, 0.35), st.floats(10, 20), st.floats(1, 3))
def test_an_exact_bowl_has_its_top_found(u, v, a, b):
    found = fit(MORE, bowl(MORE, (u, v), a, b))
    assert found.top == pytest.approx((u, v), abs=0.15)
    assert not found.rising.any()
    assert found.loss_at(found.top[None])[0] == pytest.approx(0)


@pytest.mark.parametrize(("top", "expected"), [((2, 0), (1, 0)), ((-2, 0), (-1, 0))])
def test_a_top_beyond_what_was_tried_rises_at_that_end(top, expected):
    assert tuple(fit(MORE, bowl(MORE, top)).rising) == expected


def test_diverged_runs_take_no_part_and_a_constant_moves_nothing():
    y = bowl(MORE, (0.1, 0.1))
    with_nan = np.append(y, np.nan)
    more = np.vstack([MORE, [3, 3]])
    assert np.array_equal(fit(more, with_nan).top, fit(MORE, y).top)
    assert fit(MORE, y + 1e4).top == pytest.approx(fit(MORE, y).top)


def test_the_lucky_cell_is_not_the_pick():
    """One run is lucky: the best cell is half a decade off, the fitted top is not."""
    y = bowl(MORE, (0, 0))
    lucky = int(np.flatnonzero((MORE == (0, 0.5)).all(1))[0])
    y[lucky] += 1.5
    assert np.argmax(y) == lucky
    assert abs(fit(MORE, y).top[1]) < 0.35


def test_the_spread_of_the_residuals_is_that_of_a_run():
    rng = np.random.default_rng(0)
    x = rng.uniform((-0.4, -0.6), (0.4, 0.6), (30, 2))
    spreads = [fit(x, bowl(x, (0, 0)) + rng.normal(size=30)).spread for _ in range(40)]
    assert np.mean(spreads) == pytest.approx(1, abs=0.25)


def test_runs_that_explode_neither_bend_the_top_nor_pass_for_noise():
    """At lrs half a decade above the best: tens to hundreds of sd below it."""
    rng = np.random.default_rng(0)
    spreads, tops = [], []
    for _ in range(40):
        x = np.vstack([rng.uniform((-0.4, -0.6), (0.4, 0.6), (20, 2)), GRID + (0.5, 0)])
        boom = 10 * (10 ** (1.5 * np.maximum(x[:, 0] - 0.35, 0)) - 1) * rng.lognormal(0, 0.4, 29)
        found = fit(x, bowl(x, (0, 0)) - boom + rng.normal(size=29))
        spreads.append(found.spread)
        tops.append(found.top[0])
    assert np.mean(spreads) == pytest.approx(1, abs=0.25) and abs(np.mean(tops)) < 0.06


def test_too_few_values_say_that_nothing_is_known():
    found = fit(GRID[:4], bowl(GRID[:4], (0, 0)))
    assert found.rising.all() and np.isnan(found.spread)
