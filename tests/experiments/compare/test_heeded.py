"""A program that does not heed what it is told, or whose number is of another size, is refused."""

import math
import random
from dataclasses import replace

import pytest

from experiments.compare import kinds
from experiments.compare.asking import Answer, Setting
from experiments.compare.heeded import check_heeded, check_held_out, check_size, failed_checks
from experiments.compare.plan import Contestant, Pilot, Plan
from experiments.config import UserError

PLAN = Plan(Contestant("adamw", "AdamW"), (Contestant("lion", "Lion"),), Setting(1e-3, 0.1))
PILOT = Pilot(sd=1.0, report=(), rounding=0.0, seconds=1.0)


def checked(*heeds, plan=PLAN, failing=()):
    """Runs of a program that heeds these settings alone; returns the asks and what is said."""
    asked = []

    def run(asks):
        asked.extend(asks)
        answers = [hash(tuple(getattr(ask, name) for name in ("seed", *heeds))) for ask in asks]
        return [Answer(math.nan) if a.optimizer in failing else Answer(float(n), n + 0.5)
                for a, n in zip(asks, answers, strict=True)]  # fmt: skip

    def states(name):
        return ["failed" if name in failing else "finished"]

    return asked, list(check_heeded(plan, PILOT, run, states))


def test_a_program_that_heeds_all_costs_two_runs_of_the_baseline_and_three_of_the_other():
    asked, said = checked("optimizer", "lr", "weight_decay")
    assert said == []
    known = {ask.identity for ask in asked}
    assert {one[:4] for one in known} == {
        *{("adamw", 2e-4, 0.1, 1), ("lion", 2e-4, 0.1, 1), ("adamw", 1e-3, 1.0, 1)},
        ("lion", 1e-3, 0.1, 1),
        ("lion", 2e-4, 1.0, 1),
        ("adamw", 1e-3, 0.1, 1),  # of the pilot
    }


@pytest.mark.parametrize(
    ("heeds", "said"),
    [
        (("lr", "weight_decay"), "adamw and lion gave the very same numbers"),
        (("optimizer", "weight_decay"), "0.0002 and 0.001 gave the very same numbers"),
    ],
)
def test_a_setting_that_is_swallowed_is_refused(heeds, said):
    with pytest.raises(UserError, match=said):
        checked(*heeds)


def test_a_weight_decay_that_changes_nothing_is_said_alone():
    """A short training may hardly show it."""
    _, said = checked("optimizer", "lr")
    assert all("does not use {weight_decay}" in one.said for one in said)
    assert [one.without_decay for one in said] == ["adamw", "lion"]
    none = replace(PLAN, start=Setting(1e-3, 0.0))
    assert "0 and 0.1 gave" in checked("optimizer", "lr", plan=none)[1][0].said


def test_equal_by_chance_at_two_seeds_is_no_reason():
    def run(asks):
        return [Answer(90.0, 90.0 + (ask.seed == 2) * (ask.lr + (ask.optimizer == "lion")
                       + ask.weight_decay)) for ask in asks]  # fmt: skip

    assert list(check_heeded(PLAN, PILOT, run, lambda name: ["finished"])) == []


def test_a_contestant_that_fails_is_tried_at_three_rates_and_diverged_ones_are_not_equal():
    asked, said = checked("optimizer", "lr", "weight_decay", failing=("lion",))
    rates = [ask.lr for ask in asked if ask.optimizer == "lion"]
    assert said == [] and sorted(set(rates)) == pytest.approx([1.25e-5, 5e-5, 2e-4])


def test_one_failure_among_others_is_of_its_setting():
    asked = []

    def run(asks):
        asked.extend(asks)
        return [Answer(float(hash(ask.identity))) for ask in asks]

    list(check_heeded(PLAN, PILOT, run, lambda name: ["failed", "finished"]))
    assert {ask.lr for ask in asked} == {2e-4, 1e-3}


@pytest.mark.parametrize(
    ("rounding", "differences", "said"),
    [
        (0.0, (0.1, 0.1, 0.1), False),  # no rounding: whatever differs, differs
        (math.nan, (0.1, 0.1, 0.1), False),  # nor is it known
        (0.009, (0.1, 0.1, 0.1), False),  # more than ten times the rounding
        (0.011, (0.1, 0.1, 0.1), True),
        (0.5, (0.1, 0.1, 0.0), True),  # the same by chance, once
        (0.5, (1.5, 1.5, 1.5), True),
        (0.5, (1.7, 1.7, 1.7), False),  # on average more than 1.6 sd
        (0.5, (3.9, -3.9, 0.1), True),
        (1.0, (4.1, -4.1, 0.1), False),  # one by more than 4
        (1.0, (0.1, -4.1, 0.1), False),
    ],
)
def test_how_far_two_optimizers_must_lie_apart(rounding, differences, said):
    """Of a program that heeds all else; in sd of the pilot, seed by seed."""

    def run(asks):
        return [
            Answer(1e6 * ask.lr + 1e6 * ask.weight_decay
                   + differences[ask.seed - 1] * (ask.optimizer == "lion")) for ask in asks
        ]  # fmt: skip

    pilot = replace(PILOT, rounding=rounding)
    found = list(check_heeded(PLAN, pilot, run, lambda name: ["finished"]))
    assert ["whether the program uses {optimizer}" in one.said for one in found] == [True] * said
    assert not any(one.without_decay for one in found)


def test_runs_that_are_surely_wanted_are_asked_for_together():
    """Several at a time then take no longer than one."""
    batches = []

    def run(asks):
        batches.append([ask.optimizer for ask in asks])
        return [Answer(float(hash(ask.identity))) for ask in asks]

    list(check_heeded(PLAN, PILOT, run, lambda name: ["finished"]))
    assert batches[:3] == [["adamw", "lion", "adamw"], ["lion", "lion"], ["adamw", "lion"]]


@pytest.mark.parametrize(
    ("name", "constant", "said"),
    [
        ("lion", "lr", "0.0002 and 0.001 with lion gave the very same numbers"),
        ("lion", "weight_decay", "0.1 and 1 with lion gave the very same numbers"),
        ("sgd", "optimizer", "lion and sgd gave the very same numbers"),  # no branch of its own
    ],
)
def test_a_setting_that_is_swallowed_for_one_optimizer_alone_is_seen(name, constant, said):
    """A default that was left in its call: it would be tuned in vain, and called worse."""
    plan = replace(PLAN, others=(*PLAN.others, Contestant("sgd", "SGD")))
    fixed = {"lr": 3.0, "weight_decay": 3.0, "optimizer": "lion"}[constant]

    def run(asks):
        heard = [replace(a, **{constant: fixed}) if a.optimizer == name else a for a in asks]
        return [Answer(float(hash((a.seed, a.optimizer, a.lr, a.weight_decay)))) for a in heard]

    check = check_heeded(plan, PILOT, run, lambda name: ["finished"])
    if constant == "weight_decay":
        (beware,) = check
        assert said in beware.said and beware.without_decay == name
    else:
        with pytest.raises(UserError, match=said):
            list(check)


def test_failures_of_two_optimizers_are_not_the_same_number():
    """As in a ledger, where every run without a number has the very same NaN."""
    asked, said = checked("optimizer", "lr", "weight_decay", failing=("lion", "adamw"))
    assert said == [] and len({ask.lr for ask in asked if ask.optimizer == "lion"}) == 3


def noisy(noise, *heeds, seed=0):
    """Of a program that gives another number every time, by so much of the sd over seeds."""
    draw = random.Random(seed)

    def run(asks):
        answers = []
        for ask in asks:
            mean = random.Random(ask.seed).gauss(0, 1)
            mean += 10 * math.log10(ask.lr) if "lr" in heeds else 0
            mean += 5 if "optimizer" in heeds and ask.optimizer == "lion" else 0
            answers.append(Answer(draw.gauss(mean, noise)))
        return answers

    sd = math.hypot(1, noise)
    pilot = replace(PILOT, sd=sd, rounding=noise / sd)
    return [one.said for one in check_heeded(PLAN, pilot, run, lambda name: ["finished"])]


@pytest.mark.parametrize("noise", [1e-9, 0.05, 1.0])
def test_a_program_that_repeats_nothing_exactly_may_not_heed_what_it_is_told(noise):
    """An equality test sees nothing there, and the verdict would be about nothing."""
    said = [noisy(noise, "lr", seed=seed) for seed in range(20)]
    assert sum("whether the program uses {optimizer}" in " ".join(one) for one in said) >= 17
    said = [noisy(noise, "optimizer", seed=seed) for seed in range(20)]
    assert sum("whether the program uses {lr}" in " ".join(one) for one in said) >= 17
    said = [noisy(noise, "lr", "optimizer", seed=seed) for seed in range(20)]
    assert not any("{lr}" in one or "{optimizer}" in one for lines in said for one in lines)
    of_decay = sum("{weight_decay}" in " ".join(one) for one in said)
    assert of_decay == 0 if noise == 1.0 else of_decay >= 17, "three seeds would hardly show it"


@pytest.mark.parametrize(
    ("values", "unit", "changes", "said"),
    [
        ([0.93, 0.94], "points", {}, "--unit points"),
        ([0.93, 1.0, 0.0], " Points ", {}, "--unit  Points "),
        ([0.93, math.nan], "", {"effect": 1.5, "effect_in_sd": False}, "--effect 1.5"),
        ([0.93], "", {"margin": 1.0}, "--margin 1"),
        ([93.0, 0.9], "points", {"margin": 1.0}, None),
        ([0.93], "", {"margin": 0.01}, None),
        ([0.93], "%", {"better": "lower"}, None),  # a loss
    ],
)
def test_a_share_of_one_has_no_points(values, unit, changes, said):
    plan = replace(PLAN, **changes)
    if said is None:
        return check_size(plan, values, unit)
    with pytest.raises(UserError, match=said):
        check_size(plan, values, unit)


def test_two_metrics_that_read_one_number_are_refused():
    """The settings would be tuned on the test set, and the verdict would speak of another."""
    pilot = replace(PILOT, tune=(90.0, 91.0, 90.5), report=(90.0, 91.0, 90.5))
    with pytest.raises(
        UserError, match=r"same numbers with all seeds \(90, 91, 90\.5\): they read"
    ):
        check_held_out(pilot)
    check_held_out(replace(pilot, report=(90.0, 91.0, 90.0)))  # once they may agree by chance


def test_a_run_of_the_check_that_fails_is_said():
    """A program that cannot read a setting is not one that is bad there."""
    event = {"optimizer": "lion", "lr": 2e-4, "weight_decay": 1.0, "message": "exit code 1: Assert"}
    said = failed_checks(
        {**event, "phase": phase, "state": state}
        for phase in ("pilot", "check", "grow")
        for state in ("finished", "diverged", "failed")
    )
    assert [one.said.partition("): ")[0] for one in said] == [
        "Beware: lion with lr 0.0002, weight decay 1 failed (exit code 1: Assert"
    ]


def test_beside_sgd_lion_is_looked_at_where_it_trains():
    """At SGD's lr, and a fifth of it, Lion gives chance at any seed: it was refused for that."""
    sgd, (lion, adamw) = kinds.contestants("sgd", ["lion", "adamw"])
    plan, asked = Plan(sgd, (lion, adamw), Setting(0.1, 5e-4)), []

    def run(asks):
        asked.extend(asks)
        lost = {"sgd": 1.0, "lion": 2e-3, "adamw": 1e-2}
        return [
            Answer(10.0, 10.0)
            if ask.lr > lost[ask.optimizer] or ask.weight_decay * ask.lr > 0.1
            else Answer(float(hash(ask.identity)))
            for ask in asks
        ]

    assert list(check_heeded(plan, PILOT, run, lambda name: ["finished"])) == []
    rates = {
        one.name: sorted({a.lr for a in asked if a.optimizer == one.name})
        for one in plan.contestants
    }
    assert rates["lion"] == pytest.approx([0.1 * 0.2 * 0.0036, 0.1 * 0.0036])
    assert rates["sgd"] == pytest.approx([0.1 * 0.2 * 0.0036, 0.1])
    assert rates["adamw"] == pytest.approx([0.1 * 0.2 * 0.0036, 0.1 * 0.02])


def test_beside_an_l2_decay_a_decoupled_one_is_looked_at_where_it_shows():
    adam, (lion,) = kinds.contestants("adam", ["lion"])
    asked = []

    def run(asks):
        asked.extend(asks)
        return [Answer(float(hash(ask.identity))) for ask in asks]

    plan = Plan(adam, (lion,), Setting(1e-3, 1e-4))
    assert list(check_heeded(plan, PILOT, run, lambda name: ["finished"])) == []
    assert max(a.weight_decay for a in asked if a.optimizer == "lion") == pytest.approx(0.17)
    assert max(a.weight_decay for a in asked if a.optimizer == "adam") == pytest.approx(1e-3)
    assert {a.lr for a in asked} == {2e-4, 1e-3}
