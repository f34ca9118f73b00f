"""The comparison from the pilot to the verdict, as a dialogue: it asks for runs, and is told.

No files, no clock, no programs: the simulation and the real thing run this very code. Killed at
any moment, it is begun anew and told the answers that are known; it then asks for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from experiments.compare.asking import Answer, Ask, Dialogue, Notice, Setting, Unheeding
from experiments.compare.final import finish
from experiments.compare.plan import (
    Contestant,
    Pilot,
    Plan,
    Tuned,
    check,
    refuse_small,
    smallest_effect,
)
from experiments.compare.search import EXTENSION, Guess, Search, extend, scout, top_up, tune

PILOT_SEEDS = (1, 2, 3)
"""None of them 0, which many programs take for none: `if seed: torch.manual_seed(seed)`."""
MAX_EXTENSIONS = 2
FAR = 1.0
"""Decades from its start, beyond which a top is believed only with `MIN_NEAR` trials about it."""
MIN_NEAR = 12
SD_MAY_BE_OFF = 2.0
"""Times: a pilot of three seeds tells the sd no better, so an effect in the metric's unit is
refused only where it would be too small at half of that sd; before that people are warned."""
DF_OF_PILOT = 0.5
"""Weight, in degrees of freedom, of the pilot's sd in that of the first search: little, since a
start far below the top is several times as noisy."""
DF_OF_OTHER = 5
"""Weight, in degrees of freedom, of the baseline's sd in that of the others: it may differ."""


def compare(plan: Plan) -> Dialogue:
    """The whole protocol; returns a `Result`.

    Raises:
        Unheeding: where a comparison would mean nothing (no spread over seeds, a baseline that
            does not train).
        UserError: for an effect that cannot be found.
    """
    check(plan)
    pilot = yield from _pilot(plan)
    if not plan.effect_in_sd and plan.effect / pilot.sd * SD_MAY_BE_OFF < smallest_effect(plan):
        refuse_small(plan.effect / pilot.sd, plan.budget)
    tuned, budget = yield from tune_all(plan, pilot)
    return (yield from finish(plan, pilot, tuned, budget))


def _pilot(plan: Plan) -> Dialogue:
    """The baseline as it is: noise, price, and whether the seed is used at all."""
    name, start = plan.baseline.name, plan.start
    seeds = (*PILOT_SEEDS, PILOT_SEEDS[0])
    answers: Sequence[Answer] = yield [
        Ask(f"{name}/pilot/{i}", name, "pilot", start.lr, start.weight_decay, seed, i // 3)
        for i, seed in enumerate(seeds)
    ]
    values = np.array([a.tune for a in answers])
    own = values[:-1][np.isfinite(values[:-1])]
    if len(own) < 2:
        raise Unheeding(
            f"the baseline gave a number in {len(own)} of {len(PILOT_SEEDS)} runs "
            f"with lr {start.lr:g}, weight decay {start.weight_decay:g}: start from a setting "
            "that trains"
        )
    sd = float(own.std(ddof=1))
    if sd <= 1e-12 * max(1.0, float(np.abs(own).max())):
        raise Unheeding(
            f"seeds {', '.join(map(str, PILOT_SEEDS))} all gave {own[0]:g}: either {{seed}} is not "
            "used by the program (or it goes on from what a run before has left: {run_dir} is an "
            "empty folder), or the metric is too coarse to show it; use it, or take the loss"
        )
    again = abs(values[-1] - values[0])
    took = [a.seconds for a in answers if math.isfinite(a.seconds)]
    pilot = Pilot(
        sd=sd,
        report=tuple(a.report for a in answers[:-1]),
        rounding=float(again / sd),
        seconds=float(np.mean(took)) if took else math.nan,
        tune=tuple(a.tune for a in answers[:-1]),
    )
    yield Notice("pilot", {"pilot": pilot, "plan": plan})
    return pilot


def tune_all(plan: Plan, pilot: Pilot) -> Dialogue:
    """Tunes the baseline, the others from its pick, all by as many trials.

    Returns:
        What was found by name, and the trials that each got.
    """
    decay = plan.start.weight_decay or plan.baseline.first_decay
    first, num_extensions = Setting(plan.start.lr, decay), 0
    searches: dict[str, Search] = {}
    for one in plan.contestants:
        start = _start(one, searches[plan.baseline.name]) if searches else first
        base = searches.get(plan.baseline.name)
        guess = (
            Guess(pilot.sd, DF_OF_PILOT, True)
            if base is None
            else Guess(base.sd, DF_OF_OTHER, False)
        )
        search = Search(one.name, start, guess, plan.sign, plan.seed)
        searches[one.name] = search
        if one.scouts:
            yield from scout(search, one.scouts)
            yield Notice("scouted", {"contestant": one, "search": search})
        yield from tune(search, plan.budget + num_extensions * EXTENSION)
        while _needs_more(search) and num_extensions < MAX_EXTENSIONS:
            num_extensions += 1
            yield Notice("extended", {"contestant": one, "trials": EXTENSION})
            yield from extend(search)
        yield Notice("tuned", {"contestant": one, "search": search})
    budget = plan.budget + num_extensions * EXTENSION
    tuned = {}
    for one in plan.contestants:
        search = searches[one.name]
        if search.num_trials < budget:
            yield from top_up(search, budget - search.num_trials)
        without = math.nan
        if plan.start.weight_decay == 0:
            without = yield from _without_decay(search)
        tuned[one.name] = Tuned(one, search.pick, search, without_decay=without)
    return tuned, budget


def _start(one: Contestant, baseline: Search) -> Setting:
    """The tuned baseline times the contestant's factors: a start from the untuned one would be a
    bias against it, largest at small budgets."""
    lr, decay = 10**baseline.decades
    return Setting(float(lr) * one.lr_factor, float(decay) * one.weight_decay_factor)


def _needs_more(search: Search) -> bool:
    """Whether the top lies on an edge, or so far from the start that the search was all the way."""
    assert search.last is not None
    top = search.last.top
    is_far = bool((np.abs(top) > FAR).any()) and search.num_near(top) < MIN_NEAR
    return is_far or search.on_edge


def _without_decay(search: Search) -> Dialogue:
    """One run at the pick without weight decay; 0 has no place among the decades."""
    lr, key = search.pick.lr, f"{search.name}/zero/0"
    (answer,) = yield [Ask(key, search.name, "zero", lr, 0.0, 1000 + search.num_trials)]
    return search.sign * answer.tune
