"""Whether a user's program heeds what it is told, before anything is tuned.

A flag that is swallowed unread would have one optimizer tuned twice, or none: the verdict would be
about nothing. Three seeds must agree to the last digit, since coarse metrics agree by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from experiments.compare.asking import Answer, Ask
from experiments.compare.plan import Plan
from experiments.compare.protocol import FIRST_DECAY, PILOT_SEEDS
from experiments.config import UserError

Run = Callable[[Sequence[Ask]], Sequence[Answer]]
LOWER = 0.2
"""Times the baseline's lr: where every contestant trains, if it trains at all."""
HIGHER_DECAY = 10.0
HUNDREDTHS = ("points", "point", "percent", "%", "pp", "percentage points")


def check_heeded(plan: Plan, run: Run, states: Callable[[str], list[str]]) -> Iterator[str]:
    """Runs the baseline and the others at a lower lr, and the baseline with more weight decay.

    Args:
        plan: Whose pilot is known.
        run: Answers asks; what is known is not run again.
        states: How the runs of an optimizer have ended.

    Yields:
        What to beware of.

    Raises:
        UserError: for a setting that changes nothing, or an optimizer that only fails.
    """
    base, start = plan.baseline.name, plan.start
    lower, more = start.lr * LOWER, (start.weight_decay or FIRST_DECAY) * HIGHER_DECAY

    def ask(name: str, lr: float, decay: float, seed: int = PILOT_SEEDS[0]) -> Ask:
        return Ask(f"{name}/check/{lr:g}-{decay:g}-{seed}", name, "check", lr, decay, seed)

    def same(one: tuple[str, float, float], other: tuple[str, float, float]) -> bool:
        for seed in PILOT_SEEDS:
            a, b = run([ask(*one, seed), ask(*other, seed)])
            if (a.tune, a.report) != (b.tune, b.report):  # nor is NaN equal to NaN
                return False
        return True

    decay = start.weight_decay
    names = [one.name for one in plan.contestants]
    run([*(ask(name, lower, decay) for name in names), ask(base, start.lr, more)])
    for name in names[1:]:
        if set(states(name)) == {"failed"}:  # all of three, and the run is refused
            run([ask(name, lower / 4, decay), ask(name, lower / 16, decay)])
        if same((name, lower, decay), (base, lower, decay)):
            raise UserError(_unused("optimizer", f"{base} and {name}"))
    if same((base, lower, decay), (base, start.lr, decay)):
        raise UserError(_unused("lr", f"{lower:g} and {start.lr:g}"))
    if same((base, start.lr, more), (base, start.lr, decay)):
        yield f"Beware: {_unused('weight_decay', f'{decay:g} and {more:g}')}"


def _unused(name: str, values: str) -> str:
    seeds = ", ".join(map(str, PILOT_SEEDS))
    return (
        f"{values} gave the very same numbers with seeds {seeds}: the program does not use "
        f"{{{name}}} (look how its flag is called, and whether a file overrides it)"
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
