"""What a comparison costs, and what it finds for that: runs by trials and by effect."""

from __future__ import annotations

import math
from collections.abc import Iterator

from experiments.compare import judging
from experiments.compare.asking import digits
from experiments.compare.final import MOST_SEEDS
from experiments.compare.plan import Pilot, Plan
from experiments.compare.protocol import MAX_EXTENSIONS, PILOT_SEEDS
from experiments.compare.search import EXTENSION, MOST_SCOUTS
from experiments.config import UserError

EFFECTS = (4.0, 3.0, 2.0, 1.5, 1.0, 0.75)
"""Differences of the table, in sd of one run."""
FOUND = {
    (10, 4.0): (4, 81),
    (10, 3.0): (5, 73),
    (25, 4.0): (3, 78),
    (25, 3.0): (5, 89),
    (25, 2.0): (10, 86),
    (25, 1.5): (25, 87),
    (36, 3.0): (4, 83),
    (36, 2.0): (8, 87),
    (36, 1.5): (15, 86),
    (36, 1.0): (65, 89),
    (49, 2.0): (8, 88),
    (49, 1.5): (13, 87),
    (49, 1.0): (38, 87),
}
"""By trials and effect: fresh seeds for each, and in how many of 100 comparisons a true difference
of that size is found; simulated with a known sd (`scripts/calibrate_compare.py`)."""
CHEAPEST = {4.0: 10, 3.0: 25, 2.0: 25, 1.5: 36, 1.0: 49, 0.75: 64}
"""By effect: the trials that are taken: of those that find it in 80 of 100 cases the ones with the
fewest runs, give or take a few."""
DEFAULT_EFFECT = {10: 3.0, 16: 3.0, 25: 2.0, 36: 1.5, 49: 1.0, 64: 0.75}
"""By trials: the difference, in sd, that they find at a sensible price."""
NUM_PILOT = len(PILOT_SEEDS) + 1


def parse_effect(text: str) -> tuple[float, bool]:
    """`2sd` is in sd of one run, `1.5` in the metric's unit.

    Returns:
        The number, and whether it is in sd.

    Raises:
        UserError: for anything else.
    """
    plain = text.strip().lower()
    in_sd = plain.endswith("sd")
    try:
        value = float(plain.removesuffix("sd"))
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise UserError(
            f"effect {text!r}: give a size in the metric's unit, e.g. 1.5, or in sd of a run: 2sd"
        )
    return value, in_sd


def choose(effect: str | None, budget: int | None) -> tuple[float, bool, int]:
    """Effect, whether it is in sd, and trials: what is not said follows from the other.

    Raises:
        UserError: for an effect that cannot be read, or is too small for any budget.
    """
    value, in_sd = parse_effect(effect) if effect else (2.0, True)
    if budget is not None:
        if not effect:
            known = [b for b in DEFAULT_EFFECT if b <= budget]
            value = DEFAULT_EFFECT[max(known, default=min(DEFAULT_EFFECT))]
        return value, in_sd, budget
    if not in_sd:
        return value, in_sd, 25
    fitting = [e for e in sorted(CHEAPEST, reverse=True) if e <= value + 1e-9]
    if not fitting:
        raise UserError(
            f"an effect of {value:g} sd cannot be found with any of the budgets: use a metric with "
            "less noise, e.g. the loss, or more test data"
        )
    return value, in_sd, CHEAPEST[fitting[0]]


def num_runs(budget: int, effect: float, num_contestants: int = 2) -> tuple[int, int]:
    """Runs in all and fresh seeds for each, with an effect in sd."""
    n = judging.seeds_needed(effect, judging.tau_of(budget))
    return NUM_PILOT + num_contestants * (budget + n), n


def table(seconds: float = math.nan, num_workers: int = 1, num_contestants: int = 2) -> str:
    """Runs by effect and trials, as text; with the time where a run's is known."""
    budgets = sorted({b for b, _ in FOUND})
    lines = ["difference  trials each: runs in all (found in % of cases where it is there)"]
    for effect in EFFECTS[:-1]:
        cells = []
        for budget in budgets:
            if (budget, effect) not in FOUND:
                cells.append(f"{budget}: -".ljust(22))
                continue
            runs, _ = num_runs(budget, effect, num_contestants)
            took = "" if math.isnan(seconds) else f", {duration(runs * seconds / num_workers)}"
            cells.append(f"{budget}: {runs} ({FOUND[budget, effect][1]} %{took})".ljust(22))
        lines.append(f"{effect:>7g} sd  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def planned_seeds(plan: Plan, pilot: Pilot) -> int:
    """Fresh seeds for each, as far as a pilot tells."""
    effect = plan.effect if plan.effect_in_sd else plan.effect / pilot.sd
    return judging.seeds_needed(effect, judging.tau_of(plan.budget), most=MOST_SEEDS)


def price(plan: Plan, pilot: Pilot, num_workers: int, unit: str) -> Iterator[str]:
    """What people must know before they say yes."""
    effect = plan.effect if plan.effect_in_sd else plan.effect / pilot.sd
    size = f"{digits(plan.effect * pilot.sd, 2):g}" if plan.effect_in_sd else f"{plan.effect:g}"
    tau = judging.tau_of(plan.budget)
    if effect < judging.MIN_EFFECT * tau:
        enough = judging.smallest_budget(effect)
        remedy = f"--budget {enough} can" if enough else "ask for a larger --effect"
        yield (
            f"Beware: {plan.budget} trials each can hardly find {size} {unit}".rstrip()
            + f" ({effect:.2g} sd): {remedy}."
        )
    n = planned_seeds(plan, pilot)
    runs = len(plan.contestants) * (plan.budget + n)
    runs += MOST_SCOUTS * sum(bool(one.scouts) for one in plan.contestants)
    took = duration(runs * pilot.seconds / num_workers)
    names = " and ".join(one.label for one in plan.contestants)
    most = runs + len(plan.contestants) * MAX_EXTENSIONS * EXTENSION
    yield (
        f"Next: {plan.budget} trials each for {names}, then about {n} fresh seeds each: about "
        f"{runs} runs, {took} with {num_workers} at a time (up to {most} runs where "
        "best settings lie on edges). It is made to find a "
        f"difference of {size} {unit}".rstrip()
        + f" ({effect:.2g} sd of a run, which three seeds tell roughly)."
    )


def duration(seconds: float) -> str:
    """E.g. 4 s, 12 min, 3.5 h, 2.1 days."""
    if not math.isfinite(seconds):
        return "unknown time"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
