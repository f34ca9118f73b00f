"""The last look at fresh seeds: who is settled, at which level, and why nobody is."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from experiments.compare import final
from experiments.compare.asking import Answer, Setting, converse
from experiments.compare.fit import Fit
from experiments.compare.plan import Contestant, Pilot, Plan, Result, Tuned
from experiments.compare.search import Guess, Search

ADAMW, LION, THIRD = (Contestant(name, name.title()) for name in ("adamw", "lion", "third"))
START = Setting(1e-3, 0.1)
EVEN = (0.0, 1.0, 2.0, 3.0, 4.0)
"""By Welch's test five seeds that lie higher by 2.5 have p 0.0369, by 5 p 0.00105."""


def tuned(one, sd=1.0, rising=(0, 0)):
    search = Search(one.name, START, Guess(sd, 2, False))
    top = np.zeros(2)
    search.last = Fit(top, np.array(rising, float), top[None], np.zeros((2, 2)), 1.0, top + 1, 1.0,
                      np.zeros(6), top)  # fmt: skip
    return Tuned(one, START, search)


def result(shifts, values=EVEN, planned=None, pilot=(), others=(LION, THIRD), **facts):
    """Fresh seeds of the baseline, and of each other so much higher; no luck of tuning."""
    plan = Plan(ADAMW, others, START, effect=1.0, effect_in_sd=False)
    arms = {one.name: tuned(one) for one in plan.contestants}
    found = Result(plan, Pilot(1.0, pilot, 0.0, 1.0), 25, 1.0, 0.1, 0.0, 1.0,
                   planned or len(values), 0.0, arms)  # fmt: skip
    found.final = {"adamw": [Answer(v, v) for v in values]}
    for name, by in shifts.items():
        found.final[name] = [Answer(v + by, v + by) for v in values]
    return replace(found, **facts)


def settled(whole, who=(LION, THIRD), number=1, is_last=True):
    judged = final._judge_all(whole, who, number, is_last)
    return {j.contestant.name: (j.verdict, j.reason) for j in judged}


UNDECIDED = ("undecided", "seeds")


@pytest.mark.parametrize(
    ("lion", "third", "expected"),
    [
        (5.0, 2.5, (("better", None), ("better", None))),  # 0.001 < 0.05 / 2, then 0.037 < 0.05
        (2.5, -5.0, (("better", None), ("worse", None))),
        (2.5, 2.5, (UNDECIDED, UNDECIDED)),  # 0.037 > 0.05 / 2
        (5.0, 1.0, (("better", None), UNDECIDED)),
    ],
)
def test_several_contestants_are_corrected_by_holm(lion, third, expected):
    assert settled(result({"lion": lion, "third": third})) == dict(
        zip(("lion", "third"), expected, strict=True)
    )


def test_who_was_shown_at_an_earlier_look_leaves_the_whole_level_to_the_others():
    whole = result({"lion": 5.0, "third": 2.5})
    before = final._judge(whole, LION, 1, 2)
    assert settled(replace(whole, judged=[before]), (THIRD,)) == {"third": ("better", None)}
    edge = replace(before, verdict="undecided", reason="edge", interval=None)
    assert settled(replace(whole, judged=[edge]), (THIRD,)) == {"third": UNDECIDED}


def test_the_first_of_two_looks_spends_little():
    """O'Brien and Fleming's 0.0031, then 0.0490, as Lan and DeMets have them for two looks."""
    three = (0.0, 1.0, 2.0)  # higher by 4: p 0.008; by 7: p 0.001
    for by, expected in ((4.0, {}), (7.0, {"lion": ("better", None)})):
        early = result({"lion": by}, three, planned=6, others=(LION,))
        assert settled(early, (LION,), 1, is_last=False) == expected
    whole = result({"lion": 1.0}, (*three, *three), planned=6, others=(LION,))
    for number, level in ((1, 0.0031), (2, 0.0490)):
        found = final._judge(whole, LION, number, 1)
        expected = stats.t.ppf(1 - level / 2, 10) * math.sqrt(2 * 0.8 / 6)
        assert found.looks == number and found.interval.high - 1 == pytest.approx(
            expected, rel=0.01
        )
    wide = final._judge(result({"lion": 1.0}), LION, 1, 1).interval
    assert wide.high_wide - 1 == pytest.approx(stats.t.ppf(0.95, 8) * math.sqrt(2 * 2.5 / 5))


def test_before_the_last_look_nobody_is_given_up():
    whole = result({"lion": 0.5})
    whole.final["third"] = [Answer()] * 5
    assert settled(whole, is_last=False) == {}
    assert settled(whole) == {"lion": UNDECIDED, "third": ("undecided", "diverged")}
    same = result({"lion": 0.0}, (1.0,) * 5)
    assert settled(same, (LION,)) == {"lion": ("undecided", "no_spread")}
    assert settled(same, (LION,), is_last=False) == {}


def test_two_runs_that_are_left_can_be_judged_and_one_cannot():
    whole = result({"lion": 99.0}, others=(LION,))
    runs = whole.final["lion"]
    whole.final["lion"] = [*runs[:2], *[Answer()] * 3]
    judged = final._judge(whole, LION, 1, 1)
    assert (judged.lost, judged.interval.n_ours) == ((3, 0), 2)
    assert (judged.verdict, judged.reason) == ("undecided", "diverged")
    whole.final["lion"] = [*runs[:1], *[Answer()] * 4]
    assert final._judge(whole, LION, 1, 1).interval is None
    whole.final["lion"] = [*runs[:4], Answer()]
    assert final._judge(whole, LION, 1, 1).verdict == "better", "one more lost run is no reason"
    whole.final |= {"lion": runs, "adamw": [*whole.final["adamw"][:3], Answer(), Answer()]}
    assert final._judge(whole, LION, 1, 1).verdict == "better", "it is the loser that diverges"


def test_undecided_is_for_seeds_or_for_luck():
    found = final._judge(result({"lion": 1.5}, others=(LION,)), LION, 1, 1)
    # s^2 = 2.5: t(0.975, 16) sqrt(2 * 2.5 / 9) = 1.580, t(0.975, 18) sqrt(2 * 2.5 / 10) = 1.486
    assert (found.reason, found.more_seeds) == ("seeds", 5)
    luck = final._judge(result({"lion": 1.5}, others=(LION,), tau=1.0), LION, 1, 1)
    assert (luck.reason, luck.more_seeds) == ("luck", None)


def test_what_stands_beside_takes_two_values_of_each():
    whole = result({"lion": 5.0}, others=(LION,))
    assert final._judge(whole, LION, 1, 1).beside is None
    for name in ("lion", "adamw"):
        whole.final[name][0] = replace(whole.final[name][0], beside=1.0)
    assert final._judge(whole, LION, 1, 1).beside is None
    for name, values in (("lion", (1.0, 3.0)), ("adamw", (0.0, 2.0))):
        runs = whole.final[name]
        whole.final[name] = [
            *(replace(a, beside=v) for a, v in zip(runs, values, strict=False)),
            *runs[2:],
        ]
    beside = final._judge(whole, LION, 1, 1).beside
    assert beside is not None and (beside.mean, beside.n_ours, beside.n_theirs) == (1.0, 2, 2)


def test_what_tuning_has_gained_is_welchs_interval_of_the_pilot():
    whole = result({}, pilot=(7.0, 9.0), others=(LION,))
    found = final.gained(whole)
    expected = stats.ttest_ind(EVEN, (7.0, 9.0), equal_var=False).confidence_interval(0.95)
    assert found is not None and (found.low, found.high) == pytest.approx(tuple(expected))
    for pilot in ((), (7.0,), (7.0, math.nan)):
        assert final.gained(result({}, pilot=pilot)) is None


@pytest.mark.parametrize(("shift", "expected"), [(9.0, "undecided"), (-9.0, "worse")])
def test_a_baseline_that_tuning_has_made_worse_can_still_be_lost_to(shift, expected):
    """To be worse than an AdamW that is tuned badly is to be worse than one tuned well, too."""
    whole = result({"lion": shift}, pilot=(20.0, 21.0, 22.0), others=(LION,))
    assert final._judge(whole, LION, 1, 1).verdict == expected


def planned(sds, effect, **facts):
    plan = Plan(ADAMW, (LION,), START, effect=effect, **facts)
    arms = {one.name: tuned(one, sd) for one, sd in zip(plan.contestants, sds, strict=True)}
    return next(final.finish(plan, Pilot(1.0, (), 0.0, 1.0), arms, 25)).facts["result"]


def test_seeds_are_planned_by_the_pooled_noise_and_never_too_many():
    """sd^2 = (1 + 49) / 2; 3 sd with 25 trials take 5 seeds, 2 sd 10 (see test_judging)."""
    found = planned((1.0, 7.0), 3.0)
    assert (found.sd, found.effect, found.margin, found.n) == (5.0, 15.0, 15.0, 5)
    found = planned((1.0, 7.0), 10.0, effect_in_sd=False, margin=4.0)
    assert (found.effect, found.margin, found.n) == (10.0, 4.0, 10)
    assert planned((1.0, 7.0), 0.5, effect_in_sd=False).n == 65, "it drowns in the luck of tuning"


@pytest.mark.parametrize(
    ("rising", "said"),
    [((1, 0), "lr largest"), ((-1, 1), "lr smallest"), ((0, 0), None)],
)
def test_an_edge_names_its_axis_and_end(rising, said):
    edge = final._edge(tuned(LION, rising=rising))
    assert edge == (None if said is None else ("Lion", said, Setting(1e-3, 0.1)))
    decay = tuned(LION, rising=(0, -1))
    decay.search.x = np.zeros((25, 2))
    assert final._edge(decay)[1] == "weight_decay smallest"


@pytest.mark.parametrize(("step", "expected"), [(None, 0.25), (0.1, 0.1)])
def test_all_are_run_with_the_same_fresh_seeds_and_the_step_is_seen_in_the_values(step, expected):
    plan = Plan(ADAMW, (LION, THIRD), START, effect=3.0, step=step)
    arms = {one.name: tuned(one) for one in plan.contestants}
    arms["third"] = tuned(THIRD, rising=(1, 0))  # on an edge: it is not run
    asked = []

    def answer(asks):
        asked.extend(asks)
        return [
            Answer(report=0.25 * (ask.seed % 7) + 9 * (ask.optimizer == "lion")) for ask in asks
        ]

    found = converse(final.finish(plan, Pilot(1.0, (), 0.0, 1.0), arms, 25), answer)
    assert [(a.optimizer, a.seed) for a in asked] == [
        (name, 10_000 + number) for number in range(5) for name in ("adamw", "lion")
    ]
    assert found.step == expected
    assert [(j.contestant.name, j.verdict, j.reason) for j in found.judged] == [
        ("lion", "better", None), ("third", "undecided", "edge"),
    ]  # fmt: skip
