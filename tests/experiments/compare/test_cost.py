"""What a comparison costs, is found for it, and is chosen where one of the two is not said."""

import math

import pytest

from experiments.compare import cost, judging
from experiments.compare.asking import Setting
from experiments.compare.plan import Contestant, Pilot, Plan
from experiments.config import UserError

ADAMW, LION, THIRD = (Contestant(name.lower(), name) for name in ("AdamW", "Lion", "Third"))


@pytest.mark.parametrize(
    ("text", "size"), [("1.5", (1.5, False)), ("2sd", (2.0, True)), (" 0.5 SD ", (0.5, True))]
)
def test_an_effect_is_of_the_metric_or_in_sd(text, size):
    assert cost.parse_effect(text) == size


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "sd", "2s", "2 sd more"])
def test_what_is_no_size_is_one_line(text):
    with pytest.raises(UserError, match="give a size in the metric's unit, e.g. 1.5, or in sd"):
        cost.parse_effect(text)


@pytest.mark.parametrize(
    ("effect", "budget", "chosen"),
    [
        (None, None, (2.0, True, 25)),
        ("2sd", None, (2.0, True, 25)),
        ("1.99sd", None, (1.99, True, 36)),  # 25 trials find 2 sd and more
        ("1sd", None, (1.0, True, 49)),
        ("9sd", None, (9.0, True, 10)),
        ("0.75sd", None, (0.75, True, 64)),
        ("1.5", None, (1.5, False, 25)),  # nobody knows yet how much noise there is
        (None, 36, (1.5, True, 36)),
        (None, 35, (2.0, True, 35)),  # as with 25
        (None, 99, (0.75, True, 99)),
        (None, 5, (3.0, True, 5)),
        ("1sd", 10, (1.0, True, 10)),
        ("1.5", 10, (1.5, False, 10)),
    ],
)
def test_what_is_not_said_follows_from_the_other(effect, budget, chosen):
    assert cost.choose(effect, budget) == chosen


def test_an_effect_that_no_budget_finds_is_refused():
    with pytest.raises(UserError, match="0.74 sd cannot be found with any of the budgets"):
        cost.choose("0.74sd", None)


def test_the_table_is_of_the_seeds_that_are_planned():
    """Four runs of the pilot, then trials and seeds for each."""
    for (budget, effect), (seeds, _) in cost.FOUND.items():
        assert judging.seeds_needed(effect, judging.tau_of(budget)) == seeds
    row = next(line for line in cost.table().splitlines() if line.split()[:2] == ["2", "sd"])
    assert row.endswith("  49: 118 (88 %)") and "25: 74 (86 %)" in row and "10: -" in row
    three = cost.table(60.0, 2, 3)
    assert "25: 109 (86 %, 54 min)" in three  # 4 + 3 * (25 + 10), two at a time


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (
            Plan(ADAMW, (LION,), Setting(1e-3, 0.1)),
            [
                "Next: 25 trials each for AdamW and Lion, then about 10 fresh seeds each: about 70 "
                "runs, 18 min with 4 at a time (up to 106 runs where best settings lie on edges). "
                "It is made to find a difference of 1 points (2 sd of a run, which "
                "three seeds tell roughly)."
            ],
        ),
        (
            Plan(ADAMW, (LION, THIRD), Setting(1e-3, 0.1), effect=0.5, effect_in_sd=False),
            [
                "Beware: 25 trials each can hardly find 0.5 points (1 sd): --budget 36 can.",
                "Next: 25 trials each for AdamW and Lion and Third, then about 65 fresh seeds "
                "each: about 270 runs, 68 min with 4 at a time (up to 324 runs where best settings "
                "lie on edges). It is made to find a difference of 0.5 points (1 sd of a run, "
                "which three seeds tell roughly).",
            ],
        ),
    ],
)
def test_the_price_is_said_before_anybody_says_yes(plan, said):
    """The sd of a run is 0.5, and a run takes a minute."""
    pilot = Pilot(sd=0.5, report=(), rounding=0.0, seconds=60.0)
    assert list(cost.price(plan, pilot, 4, "points")) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(4, "4.0 s"), (9.9, "9.9 s"), (10, "10 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"),
     (5400, "1.5 h"), (172799, "48.0 h"), (172800, "2.0 days"), (math.nan, "unknown time")],
)  # fmt: skip
def test_a_duration_as_people_say_it(seconds, said):
    assert cost.duration(seconds) == said


def test_scouts_are_in_the_price():
    pilot = Pilot(sd=0.5, report=(), rounding=0.0, seconds=60.0)
    plan = Plan(ADAMW, (Contestant("sgd", "SGD", scouts="lr"),), Setting(1e-3, 0.1))
    (said,) = cost.price(plan, pilot, 4, "points")
    assert "about 77 runs, 19 min" in said and "up to 113 runs" in said
