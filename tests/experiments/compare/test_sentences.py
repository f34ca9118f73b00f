"""Sentences in full, from intervals that are made by hand."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from experiments.analysis.statistics.fitted_top import Fit
from experiments.compare import as_json, judging, ratios_said, verdict
from experiments.compare.asking import Answer, Setting
from experiments.compare.judging import Interval
from experiments.compare.plan import (
    Contestant,
    Judged,
    Pilot,
    Plan,
    Result,
    Tuned,
    leave_out_decay,
)
from experiments.compare.ratios import Ratio
from experiments.compare.search import Guess, Search
from experiments.compare.verdict import Words

LION, ADAMW = Contestant("lion", "Lion"), Contestant("adamw", "AdamW")
FOUND = Interval(1.0, -0.5, 2.5, -0.3, 2.3, 0.2, 1.8, sd=1.0, n_ours=5, n_theirs=5, varied=True)
EDGE = Ratio(reason="edge")


def tuned(one):
    search = Search(one.name, Setting(1e-3, 0.1), Guess(1.0, 2, False))
    nothing = np.zeros(2)
    search.last = Fit(nothing, nothing, nothing[None], nothing, 1.0, nothing, 1.0, nothing, nothing)
    return Tuned(one, Setting(1e-3, 0.1), search)


def judged(said="undecided", reason=None, found=FOUND, budget=25, margin=2.0, step=0.0, **facts):
    """A result with such a judgement; five final runs each, sd 1."""
    own = {k: facts.pop(k) for k in ("better", "effect_in_sd", "plan_budget") if k in facts}
    plan = Plan(ADAMW, (LION,), Setting(1e-3, 0.05), own.pop("plan_budget", budget), 2.0,
                **{"effect_in_sd": False, **own})  # fmt: skip
    pilot = Pilot(1.0, facts.pop("pilot", ()), 0.0, 5.0)
    arms = {one.name: tuned(one) for one in plan.contestants}
    whole = Result(plan, pilot, budget, 2.0, margin, 0.35, 1.0, 5, step, arms)
    whole.final = {name: [Answer(90.0, 90.0 + n / 10) for n in range(5)] for name in arms}
    plain = {"looks": 1, "lost": (0, 0), "ratios": (EDGE, EDGE)}
    plain["beside"] = None
    whole.judged = [Judged(LION, said, reason, found, **{**plain, **facts})]
    return whole


def lines(*args, **facts):
    """What is said of it."""
    return verdict.sentences(judged(*args, **facts), Words("test accuracy", "points"))


@pytest.mark.parametrize(
    ("better", "raw", "settings", "optimizers"),
    [
        ("higher", "1.0 [-0.3, 2.3]", "1.0 [0.2, 1.8]", "[-0.5, 2.5]"),
        ("lower", "-1.0 [-2.3, 0.3]", "-1.0 [-1.8, -0.2]", "[-2.5, 0.5]"),
    ],
)
def test_no_difference_has_the_interval_of_its_own_test(better, raw, settings, optimizers):
    first, second, *_ = lines("equivalent", better=better, margin=5.0)
    assert first == (
        f"No difference larger than 5.0 points: Lion minus AdamW is {raw} (90 %, equivalence test "
        "with your margin)."
    )
    assert second == (
        f"Lion minus AdamW, at the two settings found: {settings}; of the optimizers, with the "
        f"luck of tuning: {optimizers} (95 % both; what decides here is the interval of 90 %)."
    )


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ((3, 1), "3 of 5 final runs of Lion diverged or failed at its best setting, 1 of AdamW's;"),
        ((1, 3), "3 of 5 final runs of AdamW diverged or failed at its best setting, 1 of Lion's;"),
        ((0, 2), "2 of 5 final runs of AdamW diverged or failed at its best setting, none of Li"),
    ],
)
def test_who_has_lost_more_runs_is_named_first(lost, said):
    told = lines(reason="diverged", lost=lost)
    assert told[0].startswith(f"No verdict: {said}")
    assert "at the two settings found" not in " ".join(told)


def test_a_baseline_that_is_not_tuned_is_worse_by_so_much():
    """90.2 after it, and 94.2 before it: by Welch 4.0, give or take t(0.975, 5.9) 0.091."""
    told = lines(reason="untuned", budget=34, pilot=(94.1, 94.2, 94.3))
    assert told[0] == (
        "No verdict: AdamW tuned with 34 trials is worse than your own setting by 4.0 points "
        "[3.8, 4.2] (95 %), so AdamW is not tuned. Add trials with --budget 43 --effect 2."
    )
    assert "at the two settings found" not in " ".join(told)


@pytest.mark.parametrize(("noise", "said"), [(3.5, True), (2.5, False), (None, False)])
def test_final_runs_noisier_than_the_tuning_took_them_for_are_said(noise, said):
    """A pilot of three alike seeds had the fit follow the luckiest run, and nothing told of it."""
    result = judged("better")
    for name in result.final:
        values = [-noise, 0.0, noise] if noise else [math.nan, 1.0, math.nan]
        result.final[name] = [Answer(90.0 + value, 90.0) for value in values]
    told = " ".join(verdict.sentences(result, Words("test accuracy", "points")))
    found = "differ by 3.5 (sd), 4 times what the tuning took for noise (1.0)" in told
    assert found == said == ("--budget 34 --effect 2." in told)


def test_more_trials_are_added_to_those_that_each_got():
    edge = ("Lion", "weight_decay largest", Setting(1e-3, 0.3))
    assert lines(reason="edge", edge=edge, budget=34, plan_budget=25)[0] == (
        "No verdict: Lion's best weight decay (0.3) is the largest tried, so Lion is not tuned. "
        "Add trials with --budget 43 --effect 2."
    )
    in_sd = lines(reason="edge", edge=edge, budget=34, effect_in_sd=True)[0]
    assert in_sd.endswith("--budget 43 --effect 2sd."), "alone it would plan for another effect"


@pytest.mark.parametrize(("budget", "is_quick"), [(15, True), (16, False)])
def test_fewer_than_sixteen_trials_are_a_quick_look(budget, is_quick):
    assert lines(budget=budget)[0].startswith(f"Quick look ({budget} trials each): ") == is_quick


SHOWN = replace(FOUND, mean=1.0, low=0.4, high=1.6)


@pytest.mark.parametrize(
    ("facts", "remark"),
    [
        ({"margin": 1.5}, ""),
        ({"margin": 1.7}, " The difference is real but smaller than your margin of 1.7."),
        (
            {"margin": 1.7, "effect_in_sd": True},
            " The difference is real but smaller than the margin of 1.7.",
        ),
        ({"margin": 0.1, "step": 0.9}, ""),
        ({"margin": 0.1, "step": 1.1}, " It is below the metric's resolution of 1.1."),
    ],
)
@pytest.mark.parametrize("said", ["better", "worse"])
def test_what_a_difference_that_is_shown_may_lack(said, facts, remark):
    turned = replace(SHOWN, mean=-1.0, low=-1.6, high=-0.4)
    who = "Lion is better than AdamW" if said == "better" else "AdamW is better than Lion"
    assert lines(said, found=SHOWN if said == "better" else turned, **facts)[0] == (
        f"{who} by 1.0 points of test accuracy [0.4, 1.6] (95 %, both tuned with 25 trials, "
        f"5 fresh seeds each).{remark}"
    )
    assert lines(said, **facts)[1].endswith("], which alone decides.")


@pytest.mark.parametrize(
    ("n", "others", "said"),
    [(5, (LION,), "(95 %, "), (6, (LION,), "(95 % over two looks, "),
     (6, (LION, Contestant("sgd", "SGD")), "(95 % over two looks and 2 comparisons by Holm, "),
     (5, (LION, Contestant("sgd", "SGD")), "(95 % over 2 comparisons by Holm, ")],
)  # fmt: skip
def test_over_what_the_error_was_split_is_said(n, others, said):
    """Else a reader who takes the interval of these runs alone finds a narrower one."""
    whole = judged("better", found=SHOWN)
    whole = replace(whole, n=n, plan=replace(whole.plan, others=others))
    assert said in verdict.sentences(whole, Words("acc"))[0]


@pytest.mark.parametrize(
    ("more", "facts", "said"),
    [
        (1, {}, "About 1 more seed each would decide if it stays so ("),
        (2, {}, "About 2 more seeds each would decide if it stays so ("),
        (5, {"budget": 34, "plan_budget": 25}, "if it stays so (--budget 25 --effect 2"),
        (60, {"budget": 36}, "if it stays so (--budget 36 --effect 1sd --margin 2.0 runs them)."),
        (61, {"budget": 36}, "About 61 more seeds each would decide if it stays so."),
    ],
)
def test_more_seeds_are_named_with_the_options_that_run_them(more, facts, said):
    """Five were run; more than 65 are never planned."""
    assert said in lines(reason="seeds", more_seeds=more, **facts)[0]


def test_options_of_the_remedy_plan_the_seeds_that_are_named_after_two_extensions():
    """43 trials each: their luck is smaller than that of the 25 that are asked for again."""
    said = lines(reason="seeds", more_seeds=7, budget=43, plan_budget=25)[0]
    effect = float(re.search(r"--budget 25 --effect (\S+)sd ", said)[1])
    assert effect >= judging.MIN_EFFECT * judging.tau_of(25)  # else it is refused
    assert judging.seeds_needed(effect, judging.tau_of(43)) == 5 + 7
    too_many = lines(reason="seeds", more_seeds=20, budget=43, plan_budget=25)[0]
    assert too_many.endswith("About 20 more seeds each would decide if it stays so.")


def test_where_luck_hides_it_more_trials_may_help():
    """As many seeds as are named, and the same margin: both would follow the budget."""
    found = replace(FOUND, mean=0.7)
    said = lines(reason="luck", found=found, margin=0.1)[0]
    budget, n, effect = re.search(
        r"nor excluded\. More seeds cannot decide this; (\d+) trials and about (\d+) seeds each "
        r"could if it stays so \(--budget \1 --effect (\S+)sd --margin 0\.1\)\.$",
        said,
    ).groups()
    assert budget == "36" and judging.seeds_needed(float(effect), 0.25) == int(n)
    assert judging.more_seeds(0.7, 1.0, 0.25, 0.1, int(n) - 1) == 1
    many = lines(reason="luck", found=replace(FOUND, mean=0.5), margin=0.1)[0]
    assert many.endswith("; 49 trials and about 83 seeds each could if it stays so.")
    hidden = lines(reason="luck", found=replace(FOUND, mean=0.1), margin=0.1)[0]
    assert hidden.endswith("nor excluded. More seeds cannot decide this.")


def test_a_ratio_of_weight_decays_alone_is_a_sentence_of_its_own():
    told = lines(ratios=(EDGE, Ratio(6.0, 1.0, 30.0)))
    assert told[2:4] == [
        "Learning rate: not determined; a best value lies at the end of what was tried.",
        "Lion's best weight decay is 6 times larger than AdamW's [1, 30].",
    ]


@pytest.mark.parametrize(("better", "sign"), [("higher", 1), ("lower", -1)])
def test_runs_without_weight_decay_are_said_in_the_metric(better, sign):
    whole = judged(better=better)
    for name, value in (("lion", 91.0), ("adamw", 89.0)):
        whole.tuned[name] = replace(whole.tuned[name], without_decay=sign * value)
    assert verdict.sentences(whole, Words("acc"))[-1] == (
        "Without weight decay, one run each at the best lr: AdamW 89.0, Lion 91.0."
    )


@pytest.mark.parametrize(
    ("pilot", "said"),
    [
        (
            (89.0, 89.1, 89.2),
            "Tuning AdamW alone gained 1.1 points over your baseline [0.9, 1.3] (95 %).",
        ),
        (
            (90.5, 90.6, 90.7),
            "Tuning AdamW alone lost 0.4 points against your baseline [0.2, 0.6] (95 %).",
        ),
        (
            (90.3, 90.4, 90.5),
            "Whether tuning AdamW alone gained over your baseline is not shown: "
            "-0.2 points [-0.4, 0.02] (95 %).",
        ),
    ],
)
def test_what_tuning_the_baseline_has_brought(pilot, said):
    """90.2 after it, give or take t(0.975, 5.9) 0.091."""
    assert lines(pilot=pilot)[-1].endswith(f" test set. {said}")


@pytest.mark.parametrize(("loss", "said"), [(0.01, "0.1"), (0.72, "0.7")])
def test_less_than_a_digit_that_is_shown_is_said_as_one(loss, said):
    flat = Ratio(reason="flat", range=(0.1, 3.0), whose="lion", loss=loss)
    assert (
        "Weight decay: not determined; between 0.1 and 3 the fit of Lion's results falls by "
        f"{said} points at most, which is no bound of what it changes."
    ) in lines(ratios=(EDGE, flat))


@pytest.mark.parametrize(("better", "sign"), [("higher", 1), ("lower", -1)])
def test_the_line_for_programs_says_all_of_it(better, sign):
    beside = Interval(*(n / 10 for n in (7, 6, 8, 6, 8, 6, 8)), 1.0, 5, 7, True)
    whole = judged(
        "undecided", "seeds", replace(FOUND, n_theirs=7, mean=1.0000001), 34, plan_budget=25,
        better=better, lost=(1, 2), beside=beside, looks=2,
        ratios=(Ratio(0.2, 0.1, 0.4), Ratio(6.0, 1.0, 30.0)),
    )  # fmt: skip
    whole.tuned["adamw"] = replace(whole.tuned["adamw"], pick=Setting(3e-3, 0.03))
    words = Words("test accuracy", "points", "test Loss")
    row = json.loads(as_json.as_json(whole, words, 12.5, ["beware"]))
    low, high = sorted((sign * -0.5, sign * 2.5))
    low_settings, high_settings = sorted((sign * 0.2, sign * 1.8))
    assert row == {
        "verdict": "undecided", "reason": "seeds", "optimizer": "lion", "baseline": "adamw",
        "difference": sign * 1.0, "low": low, "high": high, "low_settings": low_settings,
        "high_settings": high_settings, "n": 5, "unit": "points", "metric": "test accuracy",
        "better": better, "margin": 2.0, "within_margin": False, "tau": 0.35, "sd": 1.0,
        "lr": 1e-3, "weight_decay": 0.1, "baseline_lr": 3e-3, "baseline_weight_decay": 0.03,
        "lr_ratio": 0.2, "lr_ratio_low": 0.1, "lr_ratio_high": 0.4, "weight_decay_ratio": 6.0,
        "weight_decay_ratio_low": 1.0, "weight_decay_ratio_high": 30.0,
        "diverged": {"lion": 1, "adamw": 2}, "looks": 2, "trials": 34, "beside": "test Loss",
        "beside_difference": 0.7, "beside_low": 0.6, "beside_high": 0.8, "loss_difference": 0.7,
        "loss_low": 0.6, "loss_high": 0.8, "seconds": 12.5, "remarks": ["beware"],
    }  # fmt: skip


@pytest.mark.parametrize(("margin", "within"), [(2.4, True), (2.3, False), (0.31, False)])
def test_within_the_margin_is_the_interval_of_the_equivalence_test(margin, within):
    """From -0.3 to 2.3, where the one at 95 % goes from -0.5 to 2.5."""
    for found in (FOUND, replace(FOUND, low=-2.5, high=0.5, low_wide=-2.3, high_wide=0.3)):
        whole = judged(found=found, margin=margin)
        assert json.loads(as_json.as_json(whole, Words("acc"), 1.0))["within_margin"] == within


def test_of_several_contestants_the_first_one_stands_on_top():
    whole = judged(reason="seeds")
    whole.judged.append(replace(whole.judged[0], reason="luck"))
    row = json.loads(as_json.as_json(whole, Words("acc"), float("nan")))
    assert [one["reason"] for one in row["comparisons"]] == ["seeds", "luck"]
    assert (row["reason"], row["seconds"]) == ("seeds", None)


@pytest.mark.parametrize(("rising", "end"), [(1, "largest"), (-1, "smallest"), (0, None)])
def test_a_quick_look_says_whose_weight_decay_lies_at_the_end_of_three(rising, end):
    """It is no edge that refuses a verdict there; of more trials it is one."""
    whole = judged("better", found=SHOWN, budget=10)
    search = whole.tuned["lion"].search
    search.last = replace(search.last, rising=np.array([0, rising]))
    said = verdict.sentences(whole, Words("acc"))
    line = f"Lion's weight decay (0.1) is the {end} of three tried: with more trials it may do "
    assert [line in one for one in said].count(True) == (end is not None)
    search.x = np.zeros((25, 2))
    assert "of three tried" not in " ".join(verdict.sentences(whole, Words("acc")))


@pytest.mark.parametrize(
    ("names", "tuned", "ratio"),
    [
        ({"lion"}, "both tuned with 10 trials, Lion in lr alone,", "a larger one of Lion changed"),
        (
            {"lion", "adamw"},
            "both tuned with 10 trials in lr alone,",
            "a larger one changed no number",
        ),
        (set(), "both tuned with 10 trials,", "a best value lies at the end of what was tried."),
    ],
)
def test_a_weight_decay_that_the_program_does_not_use_was_not_tuned(names, tuned, ratio):
    """Nor has it a ratio, nor an end."""
    whole = judged("better", found=SHOWN, budget=10)
    search = whole.tuned["lion"].search
    search.last = replace(search.last, rising=np.array([0, 1]))
    leave_out_decay(whole, names)
    said = verdict.sentences(whole, Words("acc"))
    assert tuned in said[0]
    (line,) = [one for one in said if one.startswith("Weight decay: not determined;")]
    assert ratio in line
    assert any("of three tried" in one for one in said) == (not names)


@pytest.mark.parametrize(
    ("verdict_", "budget", "is_said"),
    [("worse", 10, True), ("worse", 16, False), ("better", 10, False), ("equivalent", 10, False)],
)
def test_a_quick_look_that_calls_one_worse_says_how_often_that_is_wrong(verdict_, budget, is_said):
    told = lines(verdict_, found=SHOWN, budget=budget)
    wrong = "a quick look says this in 2 of 100 made-up comparisons, and in 5 where the best weight"
    assert (wrong in told[1]) == is_said


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(1.02, "1.02 times larger"), (0.98, "1.02 times smaller"), (1 / 412, "410 times smaller"),
     (1.3, "1.3 times larger"), (12.34, "12 times larger")],
)  # fmt: skip
def test_a_ratio_is_said_as_people_say_it(ratio, said):
    """Not as "1 times larger", and without powers of ten."""
    assert ratios_said._times(Ratio(ratio, ratio / 2, ratio * 2)) == said
