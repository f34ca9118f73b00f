"""When a difference counts as shown: floors, edges, exact tests, seeds left out of the pick."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import known_truth
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.analysis.statistics.comparison import (
    choose,
    compare,
    held_out_pairs,
    leave_one_out,
    resolution_of,
)
from experiments.analysis.statistics.difference import Difference, difference_of, of_pairs, p_exact
from experiments.headline import Headline

STEP = 100 / 359


def pairs(theirs: list[float], gain: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"theirs": theirs, "ours": np.add(theirs, gain)})


@pytest.mark.parametrize("n", [2, 3, 5, 6, 9])
@pytest.mark.parametrize("resolution", [0.0, STEP])
def test_equal_small_differences_are_no_certainty(n: int, resolution: float) -> None:
    found = of_pairs(pairs([3.0**k for k in range(n)], [0.3] * n), resolution=resolution)
    assert found.p_t > 1e-6 and found.high > found.low
    assert n < 3 or resolution == 0 or found.correlation == pytest.approx(1.0)
    assert n > 2 or math.isnan(found.correlation), "two points always lie on a line"
    if resolution == 0 or n < 6:
        assert found.verdict == "inconclusive" and found.reason


def test_equal_differences_on_three_seeds_show_nothing_however_large() -> None:
    found = of_pairs(pairs([90.625, 89.0625, 92.1875], [-9.375] * 3), resolution=100 / 128)
    assert found.verdict == "inconclusive" and found.low < -9.375 < found.high
    assert found.reason == "3 seeds show nothing: it takes 4"


def test_the_floor_of_the_spread_by_hand() -> None:
    found = of_pairs(pairs([90.0] * 9, [1.0] * 9), resolution=STEP)
    reach = stats.t.ppf(0.975, 8) * STEP / math.sqrt(2) / 3
    assert (found.low, found.high) == pytest.approx((1 - reach, 1 + reach))
    assert found.verdict == "better"
    less = of_pairs(pairs([90.0] * 9, [0.2] * 9), resolution=STEP)
    assert less.low > 0 and less.verdict == "inconclusive"
    assert less.reason.startswith("smaller than one step of the metric")


def test_the_exact_tests_by_hand() -> None:
    differences = np.array([1.0, 2.0, 3.0, 1.5, 2.5, -0.1])
    turned = [abs(np.dot(s, differences)) for s in product((-1, 1), repeat=6)]
    expected = np.mean(np.array(turned) >= differences.sum() - 1e-12)
    assert p_exact(differences) == pytest.approx(expected)
    ours, theirs = [5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0]
    assert p_exact(np.full(4, 4.0), (ours, theirs)) == pytest.approx(2 / 70)
    mixed = stats.permutation_test(
        ([5.0, 1.0, 7.0, 8.0, 3.5], [4.0, 2.0, 3.0, 6.0, 0.5]),
        lambda x, y: np.mean(x) - np.mean(y), permutation_type="independent", n_resamples=math.inf,
    ).pvalue  # fmt: skip
    found = p_exact(np.array([1.0, -1, 4, 2, 3]), ([5.0, 1, 7, 8, 3.5], [4.0, 2, 3, 6, 0.5]))
    assert found == pytest.approx(mixed)
    assert p_exact(np.full(5, 4.0)) == 1.0, "signs alone cannot decide below 6"


def test_where_each_line_lies() -> None:
    shown = Difference(1.0, 0.1, 1.9, 4, p_exact=0.05, resolution=1.0)
    assert shown.verdict == "better", "on the line of the exact test, and as large as one step"
    beyond = ({"low": 0.0}, {"n": 3}, {"p_exact": 0.0625}, {"resolution": 1.01})
    beyond += ({"mean": -1.0, "low": -1.9, "high": 0.0},)
    assert {replace(shown, **one).verdict for one in beyond} == {"inconclusive"}  # type: ignore[arg-type]
    found = difference_of([1.0] * 5 + [-0.05])  # only turning the last sign gives a larger sum
    assert found.low > 0 and found.p_exact == pytest.approx(4 / 2**6)
    assert found.reason == "an exact test says p 0.062"


def test_two_differences_have_an_interval_and_no_exact_test() -> None:
    found = difference_of([1.0, 3.0], ([1.0, 3.0], [0.0, 0.0]))
    assert (found.low, found.high) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)
    ours, theirs = [7.0, 8.0, 9.0], [1.0, 2.0, 4.0]  # of 20 ways to divide these, 2 are as far
    assert p_exact(np.array([6.0, 6.0, 5.0]), (ours, theirs)) == 1.0


def test_equal_differences_of_large_values_have_no_spread_but_rounding() -> None:
    """Losses of millions: the last digits of a double are at 1e-10, and sums lose some more."""
    found = difference_of([1e6, 1e6 + 1e-5, 1e6 - 1e-5, 1e6, 1e6, 1e6])
    assert found.low == -math.inf and found.verdict == "inconclusive"
    assert difference_of([1e6, 1e6 + 1, 1e6 - 1, 1e6, 1e6, 1e6]).verdict == "better"


@pytest.mark.filterwarnings("error")
def test_the_correlation_of_the_pairs_by_hand() -> None:
    ours, theirs = [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]
    found = difference_of(np.subtract(ours, theirs).tolist(), (ours, theirs))
    assert found.correlation == pytest.approx(0.5)
    for arms in ((ours, [2.0] * 3), ([2.0] * 3, ours)):  # nothing varies with a constant
        assert math.isnan(difference_of(np.subtract(*arms).tolist(), arms).correlation)


def test_a_falling_metric_turns_the_verdict() -> None:
    table = pairs([1.0, 1.1, 1.2, 1.3, 1.05, 1.15], [-0.2, -0.21, -0.19, -0.2, -0.22, -0.2])
    assert of_pairs(table, better="lower").verdict == "better"
    lost = pd.DataFrame({"theirs": [1.0], "ours": [math.nan]})
    assert of_pairs(pd.concat([table, lost])) == of_pairs(table), "a seed without its pair"
    assert of_pairs(table, better="higher").verdict == "worse"


def test_p_is_that_of_students_paired_test_whichever_is_ahead() -> None:
    """Sleep data of Student (1908), as in R's documentation: t = -4.0621, p = 0.002833."""
    one = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    two = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    for found in (difference_of(one - two), difference_of(two - one)):
        assert found.p_t == pytest.approx(0.002833, abs=5e-7)


def test_an_edge_is_no_verdict() -> None:
    values = np.arange(8.0)
    found = difference_of(values + 9, (values + 9, 0 * values), untuned=("lion",))
    assert found.verdict == "not tuned"
    table = pd.DataFrame(
        known_truth.grid("lion", 1e-2, 1.0, top=99, seeds=range(8))  # the largest lr
        + known_truth.grid("adamw", 1e-2, 0.1, top=80, seeds=range(8))
    )
    assert compare(table, "lion", "adamw").verdict == "not tuned"


# --- the seeds that pick do not report ----------------------------------------------------------


def noise_only(seeds: int = 6, cells: int = 12, draw: int = 0) -> pd.DataFrame:
    """Cells that do not differ; val and test of a run share half of their noise."""
    generator, rows = np.random.default_rng(draw), []
    for name in ("lion", "adamw"):
        for number, seed in product(range(cells if name == "lion" else 1), range(seeds)):
            own = generator.normal(size=3)
            val, test = 90 + own[0] + own[1], 90 + own[0] + own[2]
            rows.append(known_truth.run(name, seed, val, test, lr=float(number + 1)))
    return pd.DataFrame(rows)


def test_leaving_one_out_takes_the_winners_luck_away() -> None:
    same, left_out = [], []
    for draw in range(40):
        table = noise_only(draw=draw)
        same.append(choose(table, "lion").test_mean - 90)
        left_out.append(held_out_pairs(table, "lion", "adamw").ours.mean() - 90)
    error = np.std(left_out) / math.sqrt(40)
    assert np.mean(same) > 0.3, "who is picked by luck is lucky in the test, too"
    assert abs(np.mean(left_out)) < 3 * error


def test_leave_one_out_by_hand() -> None:
    values = {1.0: [9.0, 1.0, 1.0, 1.0], 2.0: [2.0, 3.0, 3.0, 3.0]}
    rows = [known_truth.run("lion", seed, val, 10 * lr + seed, lr=lr)
            for lr, vals in values.items() for seed, val in enumerate(vals)]  # fmt: skip
    table = pd.DataFrame(rows)
    assert choose(table, "lion").lr == 1.0  # by the one lucky seed
    found = leave_one_out(table, "lion")
    # Without seed 0 lr 2 is best; with it lr 1 is: 11 / 3 against 8 / 3.
    assert found.test.to_dict() == {0: 20.0, 1: 11.0, 2: 12.0, 3: 13.0}
    late = known_truth.run("lion", 9, math.nan, lr=1.0, state="diverged")
    assert leave_one_out(pd.DataFrame([*rows, late]), "lion").test.equals(found.test)
    three, two = (leave_one_out(table[table.seed < n], "lion").test.to_dict() for n in (3, 2))
    assert three == {0: 20.0, 1: 11.0, 2: 12.0}
    assert two == {0: 10.0, 1: 11.0}, "of two seeds one picks nothing: simply the runs"
    best = table.assign(val=table.val.where(table.lr != 1.0, 9.0))
    lost = best.assign(val=best.val.where((table.lr != 1.0) | (table.seed != 0)))
    assert set(leave_one_out(lost, "lion").lr) == {2.0}, "nobody has measured it on seed 0"


def test_one_setting_reports_its_own_runs() -> None:
    table = pd.DataFrame(known_truth.arms({"lion": 95.0, "adamw": 94.0}, seeds=range(6)))
    pair = held_out_pairs(table, "lion", "adamw")
    by_seed = table.pivot(index="seed", columns="optimizer", values="test")
    assert pair.ours.tolist() == by_seed.lion.tolist()


def test_the_loss_is_judged_beside() -> None:
    table = pd.DataFrame(known_truth.arms({"lion": 95.0, "adamw": 94.0}, seeds=range(6)))
    table["test_loss"] = 5 - table.test / 25
    assert compare(table, "lion", "adamw", "test_loss").verdict == "better"
    assert compare(table, "lion", "adamw", "test_loss").mean < 0


def test_the_step_of_a_table() -> None:
    values = [round(100 * k / 359, 4) for k in range(300, 320)]
    table = pd.DataFrame({"test": values})
    assert resolution_of(table) == pytest.approx(STEP, abs=2e-4)
    assert resolution_of(table.assign(n=359)) == pytest.approx(STEP)
    assert resolution_of(table.assign(n=[359] + [1000] * 19)) == pytest.approx(STEP), "the largest"
    assert resolution_of(table.iloc[:9]) == 0.0, "too few values tell nothing"
    assert resolution_of(table.iloc[:10]) == pytest.approx(STEP, abs=2e-4)
    loss = Headline("loss", "lower", "nats").columns()
    assert resolution_of(table.assign(n=359, **loss)) == 0.0


def test_an_exact_test_that_stands_against_the_interval_is_said() -> None:
    found = difference_of([0.1] * 9 + [20.0])
    assert found.verdict == "inconclusive" and found.p_exact < 0.01
    assert found.reason == "the interval holds 0, though an exact test says p 0.002"
