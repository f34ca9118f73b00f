"""The sentences: every outcome is said in its own words, and nothing is claimed beyond it."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from experiments.analysis.statistics.fitted_top import Fit
from experiments.compare import as_json, cost, final, judging, verdict
from experiments.compare.asking import Answer, Setting
from experiments.compare.plan import Contestant, Judged, Pilot, Plan, Result, Tuned
from experiments.compare.ratios import Ratio
from experiments.compare.search import Guess, Search
from experiments.compare.verdict import Words

LION, ADAMW = Contestant("lion", "Lion"), Contestant("adamw", "AdamW")
PLAN = Plan(ADAMW, (LION,), Setting(1e-3, 0.05), effect=2.0, effect_in_sd=False)
WORDS = Words("test accuracy", "points", "test loss")
RATIOS = (Ratio(1 / 5.2, 1 / 9.3, 1 / 2.9), Ratio(6.0, 1.0, 30.0))
FORBIDDEN = re.compile(r"significan|no difference[^ ]* *$|wins|p *[=<] *0|equal", re.I)


def searched(name):
    search = Search(name, Setting(1e-3, 0.1), Guess(1.0, 2, False))
    nothing = np.zeros(2)
    search.last = Fit(nothing, nothing, nothing[None], np.zeros((2, 2)), 1.0, nothing + 1, 1.0,
                      np.zeros(6), nothing)  # fmt: skip
    return search


def result(ours, theirs, plan=PLAN, **facts):
    """With the verdict that these final runs lead to."""
    tuned = {
        one.name: Tuned(one, Setting(1e-3, 0.1), searched(one.name)) for one in plan.contestants
    }
    before = (88.0, 89.0, 90.0) if plan.better == "higher" else (97.0, 98.0, 99.0)
    pilot = Pilot(1.0, before, 0.0, 5.0)
    whole = Result(plan, pilot, 25, 2.0, 2.0, 0.35, 1.0, len(ours), 0.0, tuned)
    whole.final = {
        "lion": [Answer(v, v, 1 - v / 100) for v in ours],
        "adamw": [Answer(v, v, 1 - v / 100) for v in theirs],
    }
    looks = len(judging.looks(whole.n))
    judged = final._judge(whole, LION, looks, 1)
    whole.judged = [replace(judged, **{"ratios": RATIOS, **facts})]
    return whole


def first(*args, **facts):
    return verdict.sentences(result(*args, **facts), WORDS)[0]


EVEN = [89.0, 90.0, 91.0, 89.5, 90.5]


def shifted(by):
    return [value + by for value in EVEN]


def test_better_and_worse_name_the_winner_first():
    up, down = first(shifted(6), EVEN), first(EVEN, shifted(6))
    assert up.startswith("Lion is better than AdamW by 6.0 points of test accuracy [")
    assert up.endswith("(95 %, both tuned with 25 trials, 5 fresh seeds each).")
    assert down == up.replace("Lion", "X").replace("AdamW", "Lion").replace("X", "AdamW")


def test_a_real_difference_below_the_margin_says_so():
    plan = replace(PLAN, margin=20.0)
    whole = result(shifted(6), EVEN, plan)
    whole.margin = 20.0
    assert "real but smaller than your margin of 20.0" in verdict.sentences(whole, WORDS)[0]


def test_equivalence_names_its_margin():
    whole = result(shifted(0.1), EVEN)
    whole.margin = 5.0
    whole.judged = [final._judge(whole, LION, 1, 1)]
    said = verdict.sentences(whole, WORDS)[0]
    assert said.startswith("No difference larger than 5.0 points: Lion minus AdamW is 0.1 [")
    assert "(90 %, equivalence test with your margin)" in said


def test_undecided_says_what_would_decide():
    said = first(shifted(1.2), EVEN)
    assert said.startswith("Undecided: Lion minus AdamW is 1.2 points [")
    assert "a difference of 2.0 is neither shown nor excluded. About " in said
    more, budget, effect, margin = re.search(
        r"About (\d+) more seeds? .* \(--budget (\d+) --effect (\S+) --margin (\S+) runs", said
    ).groups()
    size, in_sd, trials = cost.choose(effect, int(budget))
    assert in_sd and trials == 25 and float(margin) == 2.0
    assert judging.seeds_needed(size, judging.tau_of(trials)) == len(EVEN) + int(more)
    many = first(shifted(1.2), EVEN, more_seeds=50)
    assert many.endswith("About 50 more seeds each would decide if it stays so.")
    luck = first(shifted(0.4), EVEN, verdict="undecided", more_seeds=None, reason="luck")
    assert "More seeds cannot decide this" in luck


def test_refusals_name_the_remedy():
    edge = first(EVEN, EVEN, verdict="undecided", reason="edge",
                 edge=("Lion", "lr smallest", Setting(3e-4, 0.1)))  # fmt: skip
    assert edge == (
        "No verdict: Lion's best learning rate (0.0003) is the smallest tried, so Lion is not "
        "tuned. Add trials with --budget 34 --effect 2."
    )
    lost = first([99.0, float("nan"), 99.5, float("nan"), 99.2], EVEN)
    assert lost.startswith(
        "No verdict: 2 of 5 final runs of Lion diverged or failed at its best setting, none"
    )
    same = first([90.0] * 5, [90.0] * 5)
    assert same == ("No verdict: all seeds gave the same value; use loss, or more test data.")


def test_lost_final_runs_are_said_with_every_verdict():
    for ours, theirs in (([*shifted(5), np.nan], [*EVEN, np.nan]), ([*EVEN, np.nan], [*EVEN, 90])):
        said = verdict.sentences(result(ours, theirs), WORDS)[1]
        lost = int(np.isnan(theirs).sum())
        assert said == (
            "Final runs that diverged or failed, and are left out: 1 of 6 of Lion, "
            f"{lost} of 6 of AdamW."
        )
    assert "left out" not in " ".join(verdict.sentences(result(EVEN, EVEN), WORDS))


def test_a_baseline_that_tuning_has_made_worse_is_not_tuned():
    """The user's own setting gives 98: nothing is claimed against a baseline of 90."""
    whole = result(shifted(6), EVEN)
    whole.pilot = Pilot(1.0, (98.0, 98.5, 97.5), 0.0, 5.0)
    judged = final._judge(whole, LION, 1, 1)
    assert (judged.verdict, judged.reason) == ("undecided", "untuned")
    whole.judged = [judged]
    said = verdict.sentences(whole, WORDS)[0]
    assert said.startswith(
        "No verdict: AdamW tuned with 25 trials is worse than your own setting by"
    )
    assert final._judge(replace(whole, final=whole.final | {"lion": whole.final["adamw"][:4]}),
                        LION, 1, 1).verdict == "undecided"  # fmt: skip


def test_lower_is_better_keeps_the_raw_sign():
    plan = replace(PLAN, better="lower")
    row = json.loads(as_json.as_json(result(EVEN, shifted(6), plan), WORDS, 1.0))
    assert row["verdict"] == "better" and row["difference"] == -6 and row["low"] < row["high"] < 0
    assert first(EVEN, shifted(6), plan=plan).startswith("Lion is better than AdamW by 6.0")


def test_what_stands_beside_is_called_a_loss_only_if_it_is_one():
    whole = result(shifted(6), EVEN)
    loss = json.loads(as_json.as_json(whole, WORDS, 1.0))
    other = json.loads(as_json.as_json(whole, replace(WORDS, beside="test f1"), 1.0))
    assert loss["loss_difference"] == loss["beside_difference"] == other["beside_difference"] < 0
    assert (other["beside"], other["loss_difference"]) == ("test f1", None)


def test_a_bound_that_excludes_zero_is_not_printed_as_zero():
    whole = result(shifted(6), EVEN)
    found = whole.judged[0].interval
    near = replace(found, low=0.004, low_settings=0.004)
    whole.judged = [replace(whole.judged[0], interval=near)]
    assert whole.judged[0].verdict == "better" and whole.sd == 1.0  # one digit is shown
    for line in verdict.sentences(whole, WORDS)[:2]:
        assert "[0.004, " in line


def test_ratios_and_scope_are_said():
    lines = verdict.sentences(result(shifted(6), EVEN), WORDS)
    said = "Lion's best lr is 5.2 times smaller than AdamW's [2.9, 9.3]; its best weight decay 6 "
    assert f"{said}times larger [1, 30]." in lines
    assert lines[-1].startswith("This holds for this model, these data, this training length and")
    gain = "Whether tuning AdamW alone gained over your baseline is not shown: 1.0 points [-1.0, "
    assert gain in lines[-1]


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (
            Ratio(reason="flat", range=(0.1, 3.0), whose="adamw", loss=0.5),
            "Weight decay: not determined; between 0.1 and 3 the fit of AdamW's results falls by",
        ),
        (Ratio(reason="wide"), "the interval is too wide"),
        (Ratio(low=2.0, reason="bound"), "the ratio is at least 2"),
        (Ratio(high=0.5, reason="bound"), "the ratio is at most 0.5"),
        (Ratio(reason="few"), "three values only"),
        (Ratio(reason="edge"), "end of what was tried"),
    ],
)
def test_a_ratio_that_is_not_known_says_why(ratio, said):
    whole = result(shifted(6), EVEN, ratios=(RATIOS[0], ratio))
    assert any(said in line for line in verdict.sentences(whole, WORDS))
    row = json.loads(as_json.as_json(whole, WORDS, 1.0))
    assert row["weight_decay_ratio"] is None


@pytest.mark.parametrize("by", [-6, -1.2, -0.1, 0, 0.1, 1.2, 6])
def test_nothing_forbidden_is_ever_said_and_json_is_strict(by):
    whole = result(shifted(by), EVEN)
    for line in verdict.sentences(whole, WORDS):
        assert not FORBIDDEN.search(line.replace("equivalence", "")), line
    row = json.loads(as_json.as_json(whole, WORDS, 1.0), parse_constant=lambda name: 1 / 0)
    assert (row["reason"] is None) == (row["verdict"] != "undecided")
    assert isinstance(whole.judged[0], Judged)
