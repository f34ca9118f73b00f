"""The ratio of two best settings, by hand, from made-up tops."""

import numpy as np
import pytest

from experiments.analysis.statistics.fitted_top import Fit
from experiments.compare.asking import Setting
from experiments.compare.ratios import Ratio, of_picks
from experiments.compare.search import Guess, Search

TRIALS = np.array([(u, v) for u in (-0.5, 0, 0.5) for v in np.linspace(-1, 1, 6)])


def search(start, top=(0.0, 0.0), draws=None, name="lion", **facts):
    """With a bowl of 15 and 2 sd per decade^2 about its top, and these tops of its bootstrap."""
    found = Search(name, Setting(*start), Guess(2.0, 2, False))
    found.x = facts.pop("x", TRIALS)
    plain = {"rising": np.zeros(2), "on_box": np.zeros((2, 2)), "curvature": np.array([15.0, 2.0])}
    plain |= {"own_decay": 1.0, "coefficients": np.array([0, 0, 0, -15.0, -2.0, 0])}
    at = np.array(top)
    tops = np.array([top] * 20) if draws is None else np.array(draws)
    found.last = Fit(at, draws=tops, spread=1.0, center=at, **{**plain, **facts})
    return found


BASELINE = search((1e-2, 0.1), name="adamw")


def test_a_ratio_is_that_of_the_tops_and_its_reach_that_of_the_draws():
    """Starts a factor of 5 and 0.2 apart; tops 0.3 and -0.2 decades from there."""
    u = np.linspace(0.2, 0.4, 201)  # 2.5 and 97.5 % lie at 0.205 and 0.395
    ours = search((2e-3, 0.5), (0.3, -0.2), np.stack([u, u - 0.5], 1))
    theirs = search((1e-2, 0.1), (0.1, 0.1), [(0.1, 0.1)] * 300)
    lr, decay = of_picks(ours, theirs)
    assert lr.value == pytest.approx(0.2 * 10**0.2)
    assert (lr.low, lr.high) == pytest.approx((0.2 * 10 ** (0.105 - 0.05), 0.2 * 10**0.345))
    assert decay.value == pytest.approx(5 * 10**-0.3)
    assert (decay.low, decay.high) == pytest.approx((5 * 10**-0.595, 5 * 10**-0.005))
    assert lr.reason is decay.reason is None
    far = search((2e-3, 0.5), (0.9, -0.2), np.stack([u, u - 0.5], 1))
    assert of_picks(far, theirs)[0].high == of_picks(far, theirs)[0].value
    near = search((2e-3, 0.5), (-0.3, -0.2), np.stack([u, u - 0.5], 1))
    assert of_picks(near, theirs)[0].low == of_picks(near, theirs)[0].value


@pytest.mark.parametrize(
    ("reach", "reasons"),
    [((0.42, 0.79), (None, None)), ((0.44, 0.79), ("wide", None)), ((0.42, 0.81), (None, "wide"))],
)
def test_more_than_a_factor_of_three_or_ten_either_way_is_too_wide(reach, reasons):
    """log10 3 is 0.477 and log10 10 is 1, of which 0.05 and 0.2 a quadratic does not fit."""
    draws = np.outer([-1] * 10 + [1] * 10, reach)
    found = of_picks(search((1e-2, 0.1), draws=draws), BASELINE)
    assert tuple(one.reason for one in found) == reasons


@pytest.mark.parametrize(
    ("of_ours", "of_theirs", "expected"),
    [
        ((0.11, 0.0), (0.0, 0.0), "high"),  # ours may lie below what was tried: at most so much
        ((0.0, 0.2), (0.0, 0.0), "low"),
        ((0.0, 0.0), (0.2, 0.0), "low"),
        ((0.0, 0.0), (0.0, 0.2), "high"),
        ((0.2, 0.0), (0.0, 0.2), "high"),
        ((0.2, 0.0), (0.2, 0.0), "wide"),
        ((0.2, 0.2), (0.0, 0.0), "wide"),
        ((0.1, 0.1), (0.1, 0.1), "known"),
    ],
)
def test_tops_at_an_end_bound_the_ratio_from_one_side(of_ours, of_theirs, expected):
    boxes = [np.array([one, (0.5, 0.5)]).T for one in (of_ours, of_theirs)]  # of weight decay: all
    draws = [(0.0, 0.0)] * 20
    ours = search((2e-2, 0.1), (0.0, 0.0), draws, on_box=boxes[0])
    lr = of_picks(ours, search((1e-2, 0.1), (0.0, 0.0), draws, on_box=boxes[1]))[0]
    low, high = 2 * 10**-0.05, 2 * 10**0.05
    known = {
        "high": Ratio(high=pytest.approx(high), reason="bound"),
        "low": Ratio(low=pytest.approx(low), reason="bound"),
        "wide": Ratio(reason="wide"),
        "known": Ratio(pytest.approx(2), pytest.approx(low), pytest.approx(high)),
    }
    assert lr == known[expected]


def test_a_rising_top_or_too_few_trials_give_no_ratio():
    for end in (1.0, -1.0):
        rising = search((1e-2, 0.1), rising=np.array([end, 0.0]))
        for pair in ((rising, BASELINE), (BASELINE, rising)):
            lr, decay = of_picks(*pair)
            assert lr.reason == "edge" and decay.value == pytest.approx(1)
    few = search((1e-2, 0.1), x=TRIALS[:15])
    assert [one.reason for one in of_picks(few, BASELINE)] == [None, "few"]
    assert of_picks(search((1e-2, 0.1), x=TRIALS[:16]), BASELINE)[1].reason is None


def test_a_flat_weight_decay_has_the_range_within_which_a_run_loses_one_sd():
    """0.4 sd per decade^2 about 0.2: all from -1 to 1 lies within 0.576 sd, which are 1.152."""
    flat = {"curvature": np.array([15.0, 0.4]), "own_decay": 0.2}
    flat["coefficients"] = np.array([0, 0, 0, -15.0, -0.4, 0])
    decay = of_picks(search((1e-2, 0.1), (0.3, 0.2), **flat), BASELINE)[1]
    assert (decay.value, decay.reason) == (None, "flat")
    assert decay.range == pytest.approx((0.01, 1.0))
    assert decay.loss == pytest.approx(0.4 * 1.2**2 * 2.0)
    lower = search((1e-2, 0.1), (0.0, 0.2), x=TRIALS * (1, 0.5), **flat)
    assert of_picks(lower, BASELINE)[1].range == pytest.approx((0.1 * 10**-0.5, 0.1 * 10**0.5))
    flat["coefficients"] = np.array([0, 0, 0, -15.0, -4.0, 0])  # 1 sd at 0.5 decades
    near = of_picks(search((1e-2, 0.1), **flat), BASELINE)[1]
    assert near.range == pytest.approx((0.1 * 10**-0.5, 0.1 * 10**0.5), rel=0.05)
    assert 0.9 < near.loss / 2.0 <= 1.0
    prior = search((1e-2, 0.1), own_decay=-0.1)  # its top is that of the prior alone
    assert of_picks(prior, BASELINE)[1].reason == "flat"
    assert of_picks(search((1e-2, 0.1), own_decay=0.0), BASELINE)[1].value == pytest.approx(1)


def test_the_range_of_a_flat_weight_decay_is_that_of_the_optimizer_that_is_flat():
    """A little below the other's, that of the one with a top would be said to change nothing."""
    flat = {"curvature": np.array([15.0, 0.4]), "own_decay": 0.3}
    flat["coefficients"] = np.array([0, 0, 0, -15.0, -0.4, 0])
    peaked = {"own_decay": 0.1}
    pairs = [(flat, peaked, "lion", (0.01, 1.0)), (peaked, flat, "adamw", (0.1, 10.0)),
             (flat, flat, "lion", (0.01, 1.0))]  # fmt: skip
    for ours, theirs, whose, expected in pairs:
        both = search((1e-2, 0.1), **ours), search((1e-2, 1.0), name="adamw", **theirs)
        decay = of_picks(*both)[1]
        assert (decay.reason, decay.whose) == ("flat", whose)
        assert decay.range == pytest.approx(expected)
