"""Whether a user's program heeds what it is told, before anything is tuned.

A flag that is swallowed unread would have one optimizer tuned twice, or none: the verdict would be
about nothing. Three seeds must agree to the last digit, since coarse metrics agree by chance. Of a
program that gives another number for the same seed it cannot be seen like this: where three seeds
differ by no more than they do among themselves, that is said.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.compare.asking import Answer, Ask, Unheeding
from experiments.compare.plan import Pilot, Plan, Remark
from experiments.compare.protocol import PILOT_SEEDS
from experiments.config import UserError

Run = Callable[[Sequence[Ask]], Sequence[Answer]]
At = tuple[str, float, float]
"""Optimizer, lr, weight decay."""
LOWER = 0.2
"""Times the baseline's lr, or beside SGD where the lowest of the searches begins: there every
contestant trains, if it trains at all."""
HIGHER_DECAY = 10.0
APART, APART_ON_AVERAGE = 4.0, 1.6
"""Times the pilot's sd: two runs of one seed that differ by more heed what differs in them, and so
do three such pairs whose mean does, which is about 2 of its standard errors."""
MANY_ROUNDINGS = 10.0
"""Times the difference of one seed run twice: the same where that is a small part of the sd."""
HUNDREDTHS = ("points", "point", "percent", "%", "pp", "percentage points")


def check_heeded(
    plan: Plan, pilot: Pilot, run: Run, states: Callable[[str], list[str]]
) -> Iterator[Remark]:
    """Runs all at a lower lr, and with more weight decay; the others at the baseline's lr, too.

    A setting may be heeded for one optimizer alone, as where a default was left in its call. Where
    Lion stands beside SGD its own scale is looked at: at SGD's lr it gives the number of a model
    that does not train, whatever the lr. Ten times an L2 decay, as of Adam, may be less than a
    rounding where the decay is decoupled.

    Args:
        plan: What is compared.
        pilot: Its runs are known.
        run: Answers asks; what is known is not run again.
        states: How the runs of an optimizer have ended.

    Yields:
        What to beware of.

    Raises:
        Unheeding: for a setting that changes nothing.
        UserError: for an optimizer that only fails.
    """
    base, start, names = plan.baseline.name, plan.start, [one.name for one in plan.contestants]
    decay = start.weight_decay
    more = (decay or plan.baseline.first_decay) * HIGHER_DECAY
    factors = {one.name: one.lr_factor if one.scouts == "lr" else 1.0 for one in plan.others}
    lower = start.lr * LOWER * min([1.0, *factors.values()])
    higher, most = {base: start.lr}, {base: more}
    for one in plan.others:
        higher[one.name] = start.lr * factors[one.name]
        most[one.name] = more * (max(one.weight_decay_factor, 1.0) if one.scouts else 1.0)
    run([*(_ask(name, lower, decay) for name in names), _ask(base, start.lr, more)])
    for name in names[1:]:
        if set(states(name)) == {"failed"}:  # all of three, and the run is refused
            run([_ask(name, lower / 4, decay), _ask(name, lower / 16, decay)])
    others = [name for name in names[1:] if set(states(name)) != {"failed"}]
    checked = [((name, higher[name], decay), (name, lower, most[name])) for name in others]
    run([_ask(*at) for both in checked for at in both])

    rounding = 0.0 if math.isnan(pilot.rounding) else pilot.rounding  # NaN: nobody knows
    reach = pilot.sd * min(APART, MANY_ROUNDINGS * rounding)
    pairs = [
        ("optimizer", f"{one} and {two}", (one, lower, decay), (two, lower, decay))
        for one, two in itertools.combinations([base, *others], 2)
    ]
    for name in (base, *others):
        said = f"{lower:g} and {higher[name]:g}{'' if name == base else f' with {name}'}"
        pairs.append(("lr", said, (name, lower, decay), (name, higher[name], decay)))
    if reach <= pilot.sd:  # else three seeds would hardly show a weight decay
        for name in (base, *others):
            said = f"{decay:g} and {most[name]:g}{'' if name == base else f' with {name}'}"
            lr = start.lr if name == base else lower
            pairs.append(("weight_decay", said, (name, lr, decay), (name, lr, most[name])))
    for setting, values, one, other in pairs:
        found = _compared(one, other, run, pilot.sd, reach)
        if found == "same" and setting != "weight_decay":
            raise Unheeding(_unused(setting, values))
        if found != "apart":
            said = (_unused if found == "same" else _unclear)(setting, values)
            yield Remark(f"Beware: {said}", one[0] if found == "same" else "")


def failed_checks(events: Iterable[Mapping[str, Any]]) -> list[Remark]:
    """What to beware of where runs of the check have failed: a setting that the program refuses,
    or cannot read, would be tuned as one that is bad.

    Args:
        events: How runs have ended.
    """
    return [
        Remark(
            f"Beware: {e['optimizer']} with lr {e['lr']:g}, weight decay {e['weight_decay']:g} "
            f"failed ({e['message']}): in the tuning, such a setting counts as lost."
        )
        for e in events
        if e["phase"] == "check" and e["state"] == "failed"
    ]


def _ask(name: str, lr: float, decay: float, seed: int = PILOT_SEEDS[0]) -> Ask:
    return Ask(f"{name}/check/{lr:g}-{decay:g}-{seed}", name, "check", lr, decay, seed)


def _compared(one: At, other: At, run: Run, sd: float, reach: float) -> str:
    """same, apart, or close: too close to be told from noise; with as few seeds as tell it."""
    same, total = True, 0.0
    for seed in PILOT_SEEDS:
        a, b = run([_ask(*one, seed), _ask(*other, seed)])
        same &= (a.tune, a.report) == (b.tune, b.report)
        total += a.tune - b.tune
        is_noise = 0 < reach >= abs(a.tune - b.tune)
        if not (same or is_noise) or not math.isfinite(a.tune):
            return "apart"
    if same:
        return "same"
    return "close" if abs(total) / len(PILOT_SEEDS) <= APART_ON_AVERAGE * sd else "apart"


def _unused(name: str, values: str) -> str:
    seeds = ", ".join(map(str, PILOT_SEEDS))
    return (
        f"{values} gave the very same numbers with seeds {seeds}: the program does not use "
        f"{{{name}}} (look how its flag is called, and whether a file overrides it), or the number "
        "does not show it (a coarse one, or of a model that does not train)"
    )


def _unclear(name: str, values: str) -> str:
    return (
        f"{values} differ by no more than two runs of one setting, so it cannot be seen "
        f"whether the program uses {{{name}}}: make sure, or the verdict is about nothing."
    )


def check_size(plan: Plan, values: Sequence[float], unit: str) -> None:
    """Refuses points, or a difference of 1, for a number that is a share of 1.

    Args:
        plan: With effect and margin.
        values: Of the pilot.
        unit: As the user names it.

    Raises:
        UserError: with the remedy; the runs are kept.
    """
    known = [value for value in values if math.isfinite(value)]
    if plan.better != "higher" or not all(0 <= value <= 1 for value in known):
        return
    sizes = {"--effect": None if plan.effect_in_sd else plan.effect, "--margin": plan.margin}
    for option, size in sizes.items():
        if size is not None and size >= 1:
            raise UserError(
                f"{option} {size:g}: the metric is a share of 1 ({known[0]:g}), which cannot "
                f"differ so much; a hundredth is {option} 0.01"
            )
    if unit.strip().lower() in HUNDREDTHS:
        raise UserError(
            f"--unit {unit}: the metric is a share of 1 ({known[0]:g}), of which a point is 0.01: "
            "leave --unit out"
        )


def check_held_out(pilot: Pilot) -> None:
    """Refuses two metrics that are one: then the settings would be tuned on the test set.

    Raises:
        UserError: where they agree to the last digit in all runs of the pilot.
    """
    if pilot.tune == pilot.report:
        values = ", ".join(f"{value:g}" for value in pilot.tune)
        raise UserError(
            f"--metric and --test-metric gave the very same numbers with all seeds ({values}): "
            "they read one place of the output (acc=... fits in test_acc=..., too), or the "
            "program measures one set twice; mend that, or leave --test-metric out"
        )
