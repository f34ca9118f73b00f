"""The steps of a search, one by one: the noise of a run, what has exploded, where to go next."""

import itertools
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

from experiments.analysis.statistics.fitted_top import fit
from experiments.compare import search as module
from experiments.compare.asking import Answer, Setting, converse
from experiments.compare.search import Guess, Search, scout

CELLS = np.array([(i, j) for i in (-0.5, 0, 0.5) for j in (-0.5, 0, 0.5)])
X = np.concatenate([CELLS, 0.6 * CELLS + 0.05])


def searched(guess, noise=2.0, top=(0.0, 0.0)):
    found = Search("lion", Setting(1e-3, 0.1), guess)
    u, v = (X - top).T
    found.x = X
    found.y = 90 - guess.sd * (15 * u**2 + 2 * v**2) + np.random.default_rng(2).normal(0, noise, 18)
    return found


def test_the_noise_of_a_run_is_the_mean_of_squares_by_degrees_of_freedom():
    """18 runs and 6 coefficients leave 12 degrees beside the 3 of the first guess."""
    found = searched(Guess(2.0, 3.0, at_start=False))
    spread = fit(X, found.y / 2.0).spread * 2.0
    fitted = found.fitted()
    assert found.sd == pytest.approx(math.sqrt((3 * 2.0**2 + 12 * spread**2) / 15))
    assert fitted.top == pytest.approx(fit(X, found.y / 2.0).top)


def test_a_guess_from_a_start_below_the_top_is_freed_of_its_noise():
    """A run d sd below the top has 1 + 0.3 d of its noise."""
    found = searched(Guess(2.0, 3.0, at_start=True), top=(0.3, 0.0))
    one = fit(X, found.y / 2.0)
    below = one.loss_at(np.zeros((1, 2)))[0]
    assert 0.5 < below < 10
    found.fitted()
    first = 2.0 / (1 + 0.3 * below)
    squares = 3 * first**2 + 12 * (one.spread * 2.0) ** 2
    assert found.sd == pytest.approx(math.sqrt(squares / 15))


def test_the_noise_is_never_less_than_a_tenth_of_the_guess():
    """A bowl as the prior of the fit has it, without noise, and a guess that weighs nothing."""
    found = searched(Guess(2.0, 1e-9, at_start=False), noise=0.0)
    found.fitted()
    assert fit(X, found.y / 2.0).spread * 2.0 < 0.2 and found.sd == pytest.approx(0.2)


@pytest.mark.parametrize(("sd", "num_alive"), [(1.0, 5), (1.7, 6)])
def test_what_lies_far_below_most_and_by_many_sd_has_exploded(sd, num_alive):
    """The median run lies 2.5 below the best: 15 times that is 37.5; 60 sd are 60, or 102."""
    found = Search("lion", Setting(1e-3, 0.1), Guess(sd, 2, False))
    found.y = np.array([10.0, 9.0, 8.0, 7.0, 6.0, -91.0, np.nan])
    assert found._alive().sum() == num_alive
    found.y = np.array([10.0, 0.0, -10.0, -200.0, -300.0, -289.0])  # the median run: 114 below
    assert found._alive().all()
    found.y = np.full(3, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not found._alive().any()


def test_what_has_exploded_or_is_too_little_tells_nothing_of_the_noise():
    found, alone = (searched(Guess(2.0, 3.0, at_start=False)) for _ in range(2))
    found.x, found.y = np.vstack([X, [(0.3, 0.0)]]), np.append(found.y, -1e6)
    assert found.fitted().top.tolist() == alone.fitted().top.tolist() and found.sd == alone.sd
    found.x, found.y = CELLS[:5], np.array([1.0, 9.0, 2.0, 3.0, 4.0])
    before = found.sd
    found.fitted()
    assert found.sd == before


def test_before_a_fit_the_best_run_is_the_top_and_of_equals_the_smallest_lr():
    found = Search("lion", Setting(1e-3, 0.1), Guess(1.0, 2, False))
    found.x, found.y = CELLS[:5], np.array([1.0, 2.0, np.nan, 2.0, 1.5])
    assert found.top().tolist() == [-0.5, 0.0]
    found.y = np.full(5, np.nan)
    assert found.top()[0] == -0.5
    found.x, found.y = CELLS[5::-1], np.array([1.0, 1.5, 2.0, np.nan, 2.0, 1.0])
    assert found.top().tolist() == [-0.5, 0.0], "five are too few to be fitted"
    found.y[3] = 1.0
    expected = fit(found.x, found.y).top.tolist()
    assert found.top().tolist() == expected != [-0.5, 0.0]


def test_points_in_decades_as_settings_and_within_the_budget():
    found = Search("lion", Setting(1e-3, 0.1), Guess(1.0, 2, False), sign=-1)
    assert found.setting(np.array([0.5, -1.0])) == Setting(0.003162, 0.01)
    assert found.setting(np.array([0.5, -1.0]), 2) == Setting(0.0032, 0.01)
    found.left = 2
    asked = []
    scores = converse(
        found.run([(0, 0), (1, 0), (2, 0)], "grow"),
        lambda asks: asked.extend(asks) or [Answer(tune=ask.lr) for ask in asks],
    )
    assert scores.tolist() == [-1e-3, -1e-2] and (found.left, found.num_trials) == (0, 2)
    assert [(a.key, a.seed) for a in asked] == [("lion/search/0", 1000), ("lion/search/1", 1001)]
    assert found.num_near(np.array([0.49, 0.84])) == 1, "0.25 and 0.6, and a quarter of a decade"
    assert found.num_near(np.array([0.51, 0.84])) == 1  # of the other one, at 1
    assert found.num_near(np.array([0.49, 0.86])) == 0
    found.y[0] = np.nan
    assert found.num_near(np.array([0.49, 0.84])) == 0


def asked_by(dialogue, answer=lambda ask: Answer(tune=0.0)):
    """The points, in decades from the start, that a dialogue asks for, and their phases."""
    asked = []
    converse(dialogue, lambda asks: asked.extend(asks) or [answer(ask) for ask in asks])
    points = [(math.log10(ask.lr / 1e-3), math.log10(ask.weight_decay / 0.1)) for ask in asked]
    return np.round(points, 3).reshape(-1, 2), [ask.phase for ask in asked]


def scripted(tops, left):
    """Whose top is what the script says, however the runs end."""
    found = Search("lion", Setting(1e-3, 0.1), Guess(1.0, 2, False))
    found.left, script = left, iter(tops)
    found.top = lambda: np.array(next(script))
    return found


@pytest.mark.parametrize(("trials", "first"), [(15, "line"), (16, "grow")])
def test_sixteen_trials_are_no_quick_look(trials, first):
    found = Search("lion", Setting(1e-3, 0.1), Guess(1.0, 2, False))
    assert asked_by(module.tune(found, trials))[1][0] == first
    found.last = replace(found.last, rising=np.array([0, 1]))
    assert found.on_edge == (trials == 16), "three weight decays say nothing of an edge"
    found.last = replace(found.last, rising=np.array([-1, 0]))
    assert found.on_edge


def test_the_grid_moves_by_half_a_decade_and_not_for_ever():
    """Twice to a corner, and back to where all nine cells are known."""
    points, _ = asked_by(module._grow(scripted([(9, -9), (-9, 9)], 99), np.zeros(2), "grow"))
    cells = {(u, v) for u in (-0.5, 0, 0.5) for v in (-0.5, 0, 0.5)}
    moved = {(u + 0.5, v - 0.5) for u, v in cells}
    assert [*map(tuple, points[:9])] == sorted(cells)
    assert {*map(tuple, points[9:])} == moved - cells and len(points) == 14
    points, _ = asked_by(module._grow(scripted([(0.37, -0.37)], 99), np.zeros(2), "grow"))
    assert len(points) == 9, "less than 0.75 steps"
    points, _ = asked_by(module._grow(scripted([(0.38, 0.0), (0.5, 0.0)], 99), np.zeros(2), ""))
    assert len(points) == 12


def test_more_trials_lie_about_the_top_and_not_about_the_start():
    found = searched(Guess(2.0, 3.0, at_start=False), noise=0.0, top=(0.5, 0.0))
    points, phases = asked_by(module.extend(found), lambda ask: Answer(tune=50.0))
    assert len(points) == 9 and set(phases) == {"extend"}
    assert points[:, 0].max() > 0.9, "a cell beyond it; a scatter alone would end at 0.75"


def test_a_quick_look_tries_three_weight_decays_at_the_top_of_its_line():
    def answer(ask):
        return Answer(tune=-15 * (math.log10(ask.lr / 1e-3) - 0.5) ** 2)

    found = Search("lion", Setting(1e-3, 0.1), Guess(1.0, 2, False))
    points, phases = asked_by(module.tune(found, 10), answer)
    assert phases == ["line"] * 7 + ["decays"] * 3
    assert points[7:, 0] == pytest.approx(0.5, abs=0.1)
    assert points[7:, 1].tolist() == [-0.75, 0.0, 0.75]


def test_the_scatter_reaches_a_quarter_and_six_tenths_of_a_decade_from_the_top():
    """Half about the top, the other half about the new one."""
    points, _ = asked_by(module.scatter(scripted([(0, 0), (3, -3)], 33), "scatter"))
    for part, top in ((points[:16], (0, 0)), (points[16:], (3, -3))):
        reach = np.abs(part - top).max(0)
        assert (reach <= (0.25, 0.6)).all() and (reach > (0.2, 0.5)).all()
    assert len(points) == 33


@pytest.mark.parametrize(
    ("top", "expected"),
    [(0.8, 1.2), (0.71, 1.2), (-0.31, -0.8), (0.3, 0.5), (0.0, -0.2), (0.45, 0.45)],
)
def test_where_a_line_in_lr_goes_next(top, expected):
    """Inside, of the top and half a step to either side that which lies farthest from the tried."""
    tried = np.array([-0.4, 0.0, 0.1, 0.8])
    assert module._next_on_line(tried, top) == pytest.approx(expected)


def test_the_top_of_a_line_is_that_of_its_parabola():
    found = Search("lion", Setting(1e-3, 0.1), Guess(2.0, 2, False))
    found.x = np.array([(u, 0.0) for u in (-0.4, 0.0, 0.4, 0.8)])
    found.y = 50 - 2.0 * 15 * (found.x[:, 0] - 0.2) ** 2
    assert module._top_of_line(found) == pytest.approx(0.2, abs=0.02)
    found.y = np.array([np.nan, 1.0, 2.0, np.nan])
    assert module._top_of_line(found) == 0.4, "of two the better"
    found.y = np.full(4, np.nan)
    assert module._top_of_line(found) == -0.4, "where all diverge, the smallest"


@pytest.mark.parametrize(
    ("falls", "num_runs"),
    [((1.9, 0.0, 0.0, 0.0), 8), ((3.1,), 2), ((0.0, math.nan), 4)],
)
def test_the_probe_goes_up_until_the_value_has_fallen(falls, num_runs):
    """By 3 sd below the mean of the three best, for two runs each half a decade."""
    found = searched(Guess(1.0, 2, False), noise=0.0)
    found.left, asked = 20, []
    best = np.sort(found.y)[-3:].mean()

    def answer(asks):
        asked.extend(asks)
        return [Answer(tune=best - falls[len(asked) // 2 - 1] * found.sd)] * 2

    converse(module._probe(found), answer)
    assert len(asked) == num_runs
    steps = np.diff([math.log10(ask.weight_decay) for ask in asked[::2]])
    assert steps == pytest.approx(0.5, abs=1e-3)


def test_the_probe_takes_two_runs_at_a_time_of_which_one_may_diverge():
    found = searched(Guess(1.0, 2, False), noise=0.0)
    found.left, best = 1, found.y.max()
    assert asked_by(module._probe(found))[1] == []
    found.left, answers = 20, itertools.cycle([best, math.nan])
    assert len(asked_by(module._probe(found), lambda ask: Answer(tune=next(answers)))[1]) == 8


def scouted(answer):
    """Where a search begins after its scouts, in decades from (1e-3, 0.1), and who they were."""
    search, asked = Search("lion", Setting(1e-3, 0.1), Guess(1.0, 2, False)), []
    converse(scout(search, "lr"), lambda asks: asked.extend(asks) or [answer(ask) for ask in asks])
    assert search.num_trials == 0 and search.num_scouts == len(asked)
    assert all(a.phase == "scout" and a.lr * a.weight_decay == pytest.approx(1e-4) for a in asked)
    assert [a.seed for a in asked] == list(range(900, 900 + len(asked)))
    lrs = [round(math.log10(ask.lr / 1e-3), 6) for ask in asked]
    return round(math.log10(search.start.lr / 1e-3), 6), lrs


@pytest.mark.parametrize(
    ("best", "begins", "lrs"),
    [
        (0.2, 0, [-1, 0, 1]),
        (-1.2, -1, [-1, 0, 1, -2]),
        (-2.4, -2, [-1, 0, 1, -2, -3]),
        (1.7, 2, [-1, 0, 1, 2, 3]),
        (9.0, 5, [-1, 0, 1, 2, 3, 4, 5]),
    ],
)
def test_scouts_find_the_order_of_magnitude(best, begins, lrs):
    """Along them lr x weight decay stays."""
    answer = lambda ask: Answer(tune=-abs(math.log10(ask.lr / 1e-3) - best))  # noqa: E731
    assert scouted(answer) == (begins, lrs)


@pytest.mark.parametrize(
    ("chance", "highest", "begins", "lrs"),
    [
        ([900], 1.1e-4, -1, [-1, 0, 1, -1, -2]),  # all three, and below the lowest
        ([901], 1e9, 0, [-1, 0, 1, 0]),  # the best one, by chance
        ([900], 1.1e-3, -1, [-1, 0, 1, -1, 1, -2]),
        ([], 0.0, -4, [-1, 0, 1, -1, -2, -3, -4]),
    ],
)
def test_scouts_that_are_lost_are_run_again(chance, highest, begins, lrs):
    """Else one that is lost by chance sends the search decades too far."""
    best = -1 if highest < 1 else 0

    def answer(ask):
        lost = ask.seed in chance or ask.lr > highest
        return Answer() if lost else Answer(tune=-abs(math.log10(ask.lr / 1e-3) - best))

    assert scouted(answer) == (begins, lrs)


@pytest.mark.parametrize(
    ("best", "begins", "decays"),
    [
        (0.0, 0, [-1, 0, 1]),
        (1.6, 2, [-1, 0, 1, 2, 3]),
        (9.0, 5, [-1, 0, 1, 2, 3, 4, 5]),
        (-2.3, -2, [-1, 0, 1, -2, -3]),
    ],
)
def test_scouts_of_a_weight_decay_take_the_largest_that_is_not_clearly_worse(best, begins, decays):
    """Below the best it is a plateau: the best run there says nothing."""
    search, asked = Search("lion", Setting(1e-3, 0.1), Guess(1.0, 2, False)), []

    def answer(asks):
        asked.extend(asks)
        above = [max(math.log10(ask.weight_decay / 0.1) - best, -0.1) for ask in asks]
        return [Answer(tune=-0.5 * (a < 0) - 20 * max(a, 0) ** 2) for a in above]

    converse(scout(search, "weight_decay"), answer)
    assert {ask.lr for ask in asked} == {1e-3}
    assert [round(math.log10(ask.weight_decay / 0.1)) for ask in asked] == decays
    assert round(math.log10(search.start.weight_decay / 0.1), 6) == begins
