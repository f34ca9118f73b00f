"""The fitted top: where it is known, it is found; where it is not, that is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.analysis.statistics.fitted_top import fit

GRID = np.array([(u, v) for u in (-0.5, 0, 0.5) for v in (-0.5, 0, 0.5)])
MORE = np.concatenate([GRID, GRID * 0.5 + 0.1])


def bowl(x, top, a=15.0, b=2.0):
    u, v = (x - np.asarray(top)).T
    return -a * u**2 - b * v**2


@settings(max_examples=30, deadline=None)
@given(st.floats(-0.35, 0.35), st.floats(-0.35, 0.35), st.floats(10, 20), st.floats(1, 3))
def test_an_exact_bowl_has_its_top_found(u, v, a, b):
    """The curvature that it expects moves the top of a bowl that is flatter or steeper along v.

    Largest errors over 6,525 bowls of the whole range: 0.04 at b = 2, 0.169 at b = 1, 0.15 at 3.
    """
    found = fit(MORE, bowl(MORE, (u, v), a, b))
    assert found.top == pytest.approx((u, v), abs=0.13 if 1.5 <= b <= 2.5 else 0.175)
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


def test_trials_count_by_how_near_they_are_to_the_top_and_not_to_the_best_run():
    """Farther than a kernel's width from a lucky run the top is that of the bowl all the same."""
    wide = np.array([(u, v) for u in np.arange(-1.5, 1.6, 0.25) for v in (-0.5, 0, 0.5)])
    y = bowl(wide, (0, 0))
    y[(wide == (-0.5, 0)).all(1)] += 6.0
    found = fit(wide, y)
    assert wide[np.argmax(y), 0] == -0.5 and abs(found.top[0]) < 0.25
    assert found.center == pytest.approx(found.top, abs=0.1)


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
    assert fit(GRID, np.full(9, np.nan)).top.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("top", "end"), [(-0.45, 0), (0.45, 1)])
def test_how_many_tops_lie_at_either_end(top, end):
    """The lower one first; in lr."""
    found = fit(MORE, bowl(MORE, (top, 0.0)), np.random.default_rng(0), 200)
    at = MORE[:, 0].min() if end == 0 else MORE[:, 0].max()
    share = np.isclose(found.draws[:, 0], at).mean()
    assert found.on_box[end, 0] == share > 0.02 and found.on_box[1 - end, 0] == 0


WIDE = np.array([(u, v) for u in (-0.4, -0.2, 0, 0.2, 0.4) for v in (-0.6, 0, 0.6)])


def ridge(x, y, prior_sd):
    """Least squares with the prior as six more rows, thrice; weights, closeness, solution."""
    u, v = x.T
    design = np.stack([u**0, u, v, u * u, v * v, u * v], 1)
    near = np.exp(-0.5 * ((u / 0.45) ** 2 + (v / 0.6) ** 2)) + 1e-3
    certain = np.ones(len(y))
    for _ in range(3):
        used, root = near * certain, np.sqrt(near * certain)
        rows = np.vstack([design * root[:, None], np.diag(1 / prior_sd)])
        prior = np.array([0, 0, 0, -15.0, -2.0, 0]) / prior_sd
        found = np.linalg.lstsq(rows, np.append(np.maximum(y - y.max(), -15) * root, prior))[0]
        certain = 1 / (1 + 0.3 * np.clip(found[0] - design @ found, 0, 10)) ** 2
    return used, near, found, design


@pytest.mark.parametrize("falls", [(15, 3), (60, 30)])
def test_it_is_least_squares_with_a_prior(falls):
    """Of a bowl whose top is a cell: the center stays there, and three turns are all.

    The steep one falls by 20 sd: values count as 15 below the best, noise as that of 10 below.
    """
    y = bowl(WIDE, (0, 0), *falls)
    found = fit(WIDE, y)
    sd = np.array([1e3, 1e3, 1e3, 10, 2, 3])
    used, near, expected, design = ridge(WIDE, y, sd)
    assert found.coefficients == pytest.approx(expected, abs=1e-6)
    assert found.curvature == pytest.approx(-expected[3:5])
    y = np.maximum(y, -15)
    residual = (used * (y - design @ expected) ** 2).sum() / near.sum() * 15 / (15 - 6)
    assert found.spread == pytest.approx(np.sqrt(residual))
    sd[4] = 1e3  # what the data alone say of weight decay
    weighted = np.vstack([design * np.sqrt(used)[:, None], np.diag(1 / sd)])
    alone = np.append(np.sqrt(used) * y, np.array([0, 0, 0, -15, 0, 0]) / sd)
    solution = np.linalg.lstsq(weighted, alone)[0]
    error = np.sqrt(np.linalg.inv(weighted.T @ weighted)[4, 4])
    assert found.own_decay == pytest.approx(-solution[4] - error, abs=1e-6)


def test_from_how_many_values_on_what_is_fitted():
    """Six for a top, twelve for the mixed term."""
    y = bowl(WIDE, (0, 0))
    sizes = {number: len(fit(WIDE[:number], y[:number]).coefficients) for number in (6, 11, 12, 15)}
    assert sizes == {6: 5, 11: 5, 12: 6, 15: 6}
    spreads = [fit(WIDE[:number], y[:number]).spread for number in (5, 6)]
    assert np.isnan(spreads).tolist() == [True, False]


def test_losses_beside_a_top_that_lies_off_the_start():
    found = fit(WIDE + (0.7, -0.4), bowl(WIDE, (0, 0)))
    away = np.array([(0.9, -0.4), (0.7, 0.1)])
    assert found.top == pytest.approx((0.7, -0.4))
    assert found.loss_at(away) == pytest.approx((15 * 0.2**2, 2 * 0.5**2), abs=0.15)


def test_the_tops_of_the_bootstrap_scatter_as_those_of_new_runs():
    """The noise grows by 0.3 sd for each sd below the top."""
    rng = np.random.default_rng(1)
    x = rng.uniform((-0.6, -0.9), (0.6, 0.9), (30, 2))
    y = bowl(x, (0, 0), 15, 3)
    noisy = [y + (1 + 0.3 * np.minimum(-y, 10)) * rng.normal(size=30) for _ in range(150)]
    anew = np.std([fit(x, one).top for one in noisy], 0)
    drawn = np.mean([fit(x, one, rng, 100).draws.std(0) for one in noisy[:30]], 0)
    assert drawn == pytest.approx(anew, rel=0.3) and (drawn > 0.03).all()
    assert len(fit(x, y).draws) == 1, "none without a generator"


def test_no_top_lies_farther_from_the_middle_than_trials_count():
    """A slope that goes on and on: 1.5 decades of it in one turn would be a guess."""
    x = np.array([(u, v) for u in np.linspace(-3, 3, 13) for v in (-0.5, 0, 0.5)])
    found = fit(x, 0.1 * x[:, 0], np.random.default_rng(0), 200)
    assert (np.abs(found.draws - found.center) <= 2 * np.array([0.45, 0.6])).all()
    assert np.ptp(found.draws[:, 0]) > 0
