"""The last look at fresh seeds: who is settled, at which level, and why nobody is."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from experiments.analysis.statistics.fitted_top import Fit
from experiments.compare import as_json, final, session, verdict
from experiments.compare.asking import Answer, Setting, converse
from experiments.compare.plan import Contestant, Pilot, Plan, Result, Tuned
from experiments.compare.search import Guess, Search
from experiments.compare.session import Options
from experiments.compare.verdict import Words

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
    worse = result({"lion": -5.0, "third": 2.5})
    worse.judged = [final._judge(worse, LION, 1, 2)]
    assert settled(worse, (THIRD,)) == {"third": ("better", None)}


def test_who_is_no_different_is_settled_at_once_and_leaves_nothing_to_the_others():
    """Third's p of 0.037 would do alone; lion's interval at half of 10 % reaches to 2.306."""
    whole = result({"lion": 0.0, "third": 2.5}, margin=2.45)
    assert settled(whole) == {"lion": ("equivalent", None), "third": UNDECIDED}
    early = result({"lion": 0.0}, planned=10, others=(LION,), margin=9.0)
    assert settled(early, (LION,), is_last=False) == {"lion": ("equivalent", None)}


def test_the_first_of_two_looks_spends_little():
    """O'Brien and Fleming's 0.0031, then 0.0490, as Lan and DeMets have them for two looks."""
    three = (0.0, 1.0, 2.0)  # higher by 4: p 0.008; by 7: p 0.001
    for by, expected in ((4.0, {}), (7.0, {"lion": ("better", None)})):
        early = result({"lion": by}, three, planned=6, others=(LION,))
        assert settled(early, (LION,), 1, is_last=False) == expected
    whole = result({"lion": 1.0}, (*three, *three), planned=6, others=(LION,))
    for number, level in ((1, 0.00305), (2, 0.0490)):
        found = final._judge(whole, LION, number, 1)
        expected = stats.t.ppf(1 - level / 2, 10) * math.sqrt(2 * 0.8 / 6)
        assert found.looks == number and found.interval.high - 1 == pytest.approx(
            expected, rel=0.001
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
    theirs = result({"lion": 99.0}, others=(LION,))
    theirs.final["adamw"] = [*theirs.final["adamw"][:1], *[Answer()] * 4]
    assert final._judge(theirs, LION, 1, 1).interval is None
    whole.final["lion"] = [*runs[:4], Answer()]
    assert final._judge(whole, LION, 1, 1).verdict == "better", "one more lost run is no reason"
    whole.final |= {"lion": runs, "adamw": [*whole.final["adamw"][:3], Answer(), Answer()]}
    assert final._judge(whole, LION, 1, 1).verdict == "better", "it is the loser that diverges"


@pytest.mark.parametrize(
    ("shift", "lost", "expected"),
    [
        (99.0, (2, 1), ("better", None)),
        (99.0, (2, 2), ("better", None)),
        (99.0, (2, 0), ("undecided", "diverged")),
        (-99.0, (2, 0), ("worse", None)),  # it is the loser that diverges
        (-99.0, (0, 2), ("undecided", "diverged")),
        (0.0, (1, 2), ("equivalent", None)),
        (0.0, (2, 0), ("undecided", "diverged")),
        (0.0, (0, 2), ("undecided", "diverged")),
        (1.0, (0, 2), ("undecided", "seeds")),  # no winner: more seeds, not a lower lr
    ],
)
def test_who_may_not_diverge_more_often(shift, lost, expected):
    """Ten seeds each, of which so many of ours and theirs are lost."""
    margin = 0.1 if expected == UNDECIDED else 3.0
    whole = result({"lion": shift}, EVEN * 2, others=(LION,), margin=margin)
    for name, number in zip(("lion", "adamw"), lost, strict=True):
        whole.final[name][:number] = [Answer()] * number
    judged = final._judge(whole, LION, 1, 1)
    assert (judged.verdict, judged.reason, judged.lost) == (*expected, lost)


def test_undecided_is_for_seeds_or_for_luck():
    found = final._judge(result({"lion": 1.5}, others=(LION,)), LION, 1, 1)
    # s^2 = 2.5: t(0.975, 16) sqrt(2 * 2.5 / 9) = 1.580, t(0.975, 18) sqrt(2 * 2.5 / 10) = 1.486
    assert (found.reason, found.more_seeds) == ("seeds", 5)
    luck = final._judge(result({"lion": 1.5}, others=(LION,), tau=1.0), LION, 1, 1)
    assert (luck.reason, luck.more_seeds) == ("luck", None)
    # t(0.95, 12) sqrt(2 * 2.5 / 7) = 1.506, t(0.95, 14) sqrt(2 * 2.5 / 8) = 1.392
    alike = final._judge(result({"lion": 0.0}, others=(LION,), margin=1.5), LION, 1, 1)
    assert (alike.reason, alike.more_seeds) == ("seeds", 3)


def test_no_interval_is_narrower_than_the_metrics_step_allows():
    """Half a step of 8 is an sd of 4, as great as that of Welch's interval."""
    found = final._judge(result({"lion": 0.0}, others=(LION,), step=8.0), LION, 1, 1).interval
    assert found.high == pytest.approx(stats.t.ppf(0.975, 8) * math.sqrt(2 * 16 / 5))


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
    whole = result({}, pilot=(7.0, 9.0), others=(LION,), tau=3.0)
    whole.final["adamw"] = [replace(a, tune=99.0) for a in whole.final["adamw"]]
    found = final.gained(whole)
    expected = stats.ttest_ind(EVEN, (7.0, 9.0), equal_var=False).confidence_interval(0.95)
    assert found is not None and (found.low, found.high) == pytest.approx(tuple(expected))
    assert final.gained(replace(whole, step=8.0)).sd == 4.0
    for pilot in ((), (7.0,), (7.0, math.nan)):
        assert final.gained(result({}, pilot=pilot)) is None


@pytest.mark.parametrize(
    ("shift", "pilot", "expected"),
    [
        (9.0, (20.0, 21.0, 22.0), "undecided"),
        (-9.0, (20.0, 21.0, 22.0), "worse"),
        (9.0, (2.0, 3.0, 4.0), "better"),  # worse by chance, it may be: 1 of 2.5
    ],
)
def test_a_baseline_that_tuning_has_made_worse_can_still_be_lost_to(shift, pilot, expected):
    """To be worse than an AdamW that is tuned badly is to be worse than one tuned well, too."""
    whole = result({"lion": shift}, pilot=pilot, others=(LION,))
    assert final._judge(whole, LION, 1, 1).verdict == expected


def planned(sds, effect, budget=25, **facts):
    plan = Plan(ADAMW, (LION,), START, effect=effect, **facts)
    arms = {one.name: tuned(one, sd) for one, sd in zip(plan.contestants, sds, strict=True)}
    return next(final.finish(plan, Pilot(1.0, (), 0.0, 1.0), arms, budget)).facts["result"]


def test_seeds_are_planned_by_the_pooled_noise_and_never_too_many():
    """sd^2 = (1 + 49) / 2; 3 sd with 25 trials take 5 seeds, 2 sd 10 (see test_judging)."""
    found = planned((1.0, 7.0), 3.0)
    assert (found.sd, found.effect, found.margin, found.n) == (5.0, 15.0, 15.0, 5)
    found = planned((1.0, 7.0), 10.0, effect_in_sd=False, margin=4.0)
    assert (found.effect, found.margin, found.n) == (10.0, 4.0, 10)
    assert planned((1.0, 7.0), 0.5, effect_in_sd=False).n == 65, "it drowns in the luck of tuning"
    found = planned((1.0, 1.0), 2.0, budget=36)  # of 25 that were asked for: a top lay on an edge
    assert (found.budget, found.tau, found.n) == (36, 0.25, 8)


@pytest.mark.parametrize(
    ("rising", "said"),
    [((1, 0), "lr largest"), ((-1, 1), "lr smallest"), ((0, 0), None)],
)
def test_an_edge_names_its_axis_and_end(rising, said):
    edge = final._edge(tuned(LION, rising=rising))
    assert edge == (None if said is None else ("Lion", said, Setting(1e-3, 0.1)))
    decay = tuned(LION, rising=(0, -1))
    assert final._edge(decay) is None, "a quick look says nothing of weight decays"
    decay.search.x = np.zeros((25, 2))
    assert final._edge(decay)[1] == "weight_decay smallest"


def test_who_lies_on_an_edge_is_named_and_where_it_is_the_baseline_nobody_is_run():
    """The contestant's own edge is said rather than the baseline's."""
    plan = Plan(ADAMW, (LION, THIRD), START)
    arms = {one.name: tuned(one, rising=(0 if one is LION else 1, 0)) for one in plan.contestants}
    found = converse(final.finish(plan, Pilot(1.0, (), 0.0, 1.0), arms, 25), lambda asks: 1 / 0)
    said = [(j.contestant.name, j.verdict, j.reason, j.edge[0]) for j in found.judged]
    assert said == [
        ("lion", "undecided", "edge", "Adamw"), ("third", "undecided", "edge", "Third"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "is_flat"),
    [
        ((10.0,) * 10, True),  # of 100: the guess of a network that has died
        ((10.0, 10.01, 9.99, *[math.nan] * 7), True),
        ((10.0,) * 9 + (10.5,), False),
        ((100.0,) * 10, False),  # it is always right, and so better
        ((math.nan,) * 10, False),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_who_trains_nowhere_is_not_tuned_and_not_worse(scores, is_flat, sign):
    plan = Plan(ADAMW, (LION,), START, better="higher" if sign > 0 else "lower")
    arms = {one.name: tuned(one) for one in plan.contestants}
    arms["adamw"].search.y = np.array([79.0, 80.0, 81.0, math.nan])
    arms["lion"].search.y, arms["lion"].search.x = np.array(scores), np.zeros((10, 2))
    asked = []

    def answer(asks):
        asked.extend(asks)
        return [Answer(report=sign * (ask.seed % 5 + (ask.optimizer != "lion"))) for ask in asks]

    found = converse(final.finish(plan, Pilot(1.0, (), 0.0, 1.0), arms, 25), answer)
    (judged,) = found.judged
    assert (judged.reason == "flat") == is_flat == (not asked)
    if is_flat:
        assert (judged.verdict, judged.interval) == ("undecided", None)
        said, *_ = verdict.sentences(found, Words("acc"))
        assert said.startswith(
            f"No verdict: all 10 trials of Lion gave about {'' if sign > 0 else '-'}10"
        )
        assert "worse than Adamw's: it trains at no setting tried" in said
        json.loads(as_json.as_json(found, Words("acc"), 1.0))


def test_who_is_decided_by_the_first_look_is_not_run_on():
    """Ten seeds, looked at after five: lion is far better then, third the same to the end."""
    plan = Plan(ADAMW, (THIRD, LION), START, effect=2.0, margin=0.5)
    arms = {one.name: tuned(one) for one in plan.contestants}
    asked, heard = [], []

    def answer(asks):
        asked.extend(asks)
        return [Answer(report=ask.seed % 5 + 30.0 * (ask.optimizer == "lion")) for ask in asks]

    pilot = Pilot(1.0, (), 0.0, 1.0)
    found = converse(final.finish(plan, pilot, arms, 25), answer, heard.append)
    first, then = ("adamw", "third", "lion"), ("adamw", "third")
    assert [(a.key, a.lr, a.weight_decay, a.seed) for a in asked] == [
        (f"{name}/final/{number}", 1e-3, 0.1, 10_000 + number)
        for number in range(10)
        for name in (first if number < 5 else then)
    ]
    third, lion = found.judged
    assert (lion.verdict, lion.looks, lion.interval.n_ours) == ("better", 1, 5)
    assert (third.verdict, third.looks, third.interval.n_ours) == ("undecided", 2, 10)
    said = [line for notice in heard for line in session.said_of(notice, Words(""), Options())]
    assert said[1:] == ["First look, after 5 seeds: decided for Lion."]


@pytest.mark.parametrize(("step", "expected"), [(None, 0.125), (0.1, 0.1), (0.0, 0.0)])
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

    pilot = Pilot(1.0, (0.125,), 0.0, 1.0)
    found = converse(final.finish(plan, pilot, arms, 25), answer)
    assert [(a.optimizer, a.seed) for a in asked] == [
        (name, 10_000 + number) for number in range(5) for name in ("adamw", "lion")
    ]
    assert found.step == expected
    assert [(j.contestant.name, j.verdict, j.reason) for j in found.judged] == [
        ("lion", "better", None), ("third", "undecided", "edge"),
    ]  # fmt: skip


@pytest.mark.parametrize(("by", "wins"), [(0.0, "equivalent"), (20.0, "better"), (-20.0, "worse")])
def test_against_a_baseline_below_its_own_start_nobody_is_better_or_as_good(by, wins):
    """Worse than a baseline that is not tuned is worse than one that is."""
    for pilot, expected in (((), (wins, None)), ((60.0, 61.0, 62.0), ("undecided", "untuned"))):
        whole = result({"lion": by}, pilot=pilot, others=(LION,), margin=10.0)
        expected = ("worse", None) if wins == "worse" else expected
        assert settled(whole, (LION,)) == {"lion": expected}
