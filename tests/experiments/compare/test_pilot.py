"""The pilot: what four runs of the baseline say of its noise, and whom they turn away."""

import math
from dataclasses import replace

import pytest

from experiments.compare import protocol
from experiments.compare.asking import Answer, Notice, Setting
from experiments.compare.plan import Contestant, Plan
from experiments.config import UserError

PLAN = Plan(
    Contestant("adamw", "AdamW"), (Contestant("lion", "Lion", 0.1, 10.0),), Setting(1e-3, 0.1)
)


def piloted(tunes, plan=PLAN, reports=(10.0, 20.0, 30.0, 40.0), seconds=(1.0, 2.0, math.nan, 6.0)):
    """The asks of the pilot, what it has found, and the first asks after it."""
    dialogue = protocol.compare(plan)
    asks = next(dialogue)
    answers = [
        Answer(tune, report, seconds=took)
        for tune, report, took in zip(tunes, reports, seconds, strict=True)
    ]
    notice = dialogue.send(answers)
    assert isinstance(notice, Notice) and notice.kind == "pilot"
    return asks, notice.facts["pilot"], dialogue.send([])


def test_three_seeds_tell_the_noise_and_the_first_once_more_the_rounding():
    """1, 3 and 5 have an sd of 2; the fourth run, 0.5 below the first, has no part in it."""
    asks, pilot, _ = piloted((1.0, 3.0, 5.0, 0.5))
    assert all(ask.seed for ask in asks), "0 is no seed to whoever asks `if seed`"
    assert [(a.seed, a.copy) for a in asks] == [(1, 0), (2, 0), (3, 0), (1, 1)]
    assert {(a.optimizer, a.lr, a.weight_decay) for a in asks} == {("adamw", 1e-3, 0.1)}
    assert (pilot.sd, pilot.rounding, pilot.seconds) == (2.0, 0.25, 3.0)
    assert pilot.report == (10.0, 20.0, 30.0)
    assert math.isnan(piloted((1.0, 3.0, 5.0, math.nan))[1].rounding)


def test_two_numbers_are_enough_and_one_is_not():
    assert piloted((1.0, math.nan, 4.0, 1.0))[1].sd == pytest.approx(math.sqrt(4.5))
    with pytest.raises(UserError, match="a number in 1 of 3 runs"):
        piloted((1.0, math.nan, math.nan, 1.0))


@pytest.mark.parametrize(
    ("effect", "in_sd", "is_refused"),
    [(1.4, False, False), (1.39, False, True), (2.0, True, False), (1.4, True, False)],
)
def test_an_effect_is_refused_where_it_is_too_small_at_half_the_noise(effect, in_sd, is_refused):
    """25 trials find 1.4 sd; three seeds gave an sd of 2, which may be 1, or of 20."""
    plan, tunes = replace(PLAN, effect=effect, effect_in_sd=in_sd), (1.0, 3.0, 5.0, 1.0)
    if is_refused:
        with pytest.raises(UserError, match=r"one of 0.695 sd cannot be found .*use --budget 64"):
            piloted(tunes, plan)
    else:
        tunes = (10.0, 30.0, 50.0, 10.0) if in_sd else tunes
        assert len(piloted(tunes, plan)[2]) == 9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": Setting(0.0, 0.1)}, "above 0 and a weight decay of at least 0, not 0 and 0.1"),
        ({"start": Setting(1e-3, -0.1)}, "not 0.001 and -0.1"),
        ({"start": Setting(1e-3, math.nan)}, "not 0.001 and nan"),
        ({"margin": 0.0}, "give positive numbers"),
        ({"effect": 0.0}, "give positive numbers"),
        ({"budget": 9, "effect": 9.0}, "--budget 9 tunes nothing: give each at least 10 trials"),
        ({"budget": 10, "effect": 1.99}, "one of 1.99 sd cannot be found .*use --budget 25"),
        ({"effect": 0.5}, "one of 0.50? sd cannot be found .*ask for a larger --effect"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(changes, said):
    with pytest.raises(UserError, match=said):
        next(protocol.compare(replace(PLAN, **changes)))


def test_what_can_just_work_is_not():
    for changes in ({"budget": 10, "effect": 2.0}, {"start": Setting(1e-3, 0.0)}, {"margin": 1e-9}):
        assert len(next(protocol.compare(replace(PLAN, **changes)))) == 4


@pytest.mark.parametrize(("decay", "first"), [(0.0, 0.01), (0.3, 0.3)])
def test_the_search_begins_at_the_users_setting(decay, first):
    """In steps of half a decade; weight decay 0 has no place among decades."""
    asks = piloted((1.0, 3.0, 5.0, 1.0), replace(PLAN, start=Setting(2e-3, decay)))[2]
    assert sorted({a.lr for a in asks}) == pytest.approx([6.325e-4, 2e-3, 6.325e-3], rel=1e-3)
    middle = sorted({a.weight_decay for a in asks})[1]
    assert middle == pytest.approx(first)
