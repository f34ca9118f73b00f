"""What can be done where a comparison has shown nothing: options that ask the same question."""

from __future__ import annotations

from experiments.compare import judging
from experiments.compare.final import MOST_SEEDS
from experiments.compare.judging import Interval
from experiments.compare.plan import Judged, Result
from experiments.compare.search import EXTENSION
from experiments.compare.spoken import numbers


def add_trials(result: Result) -> str:
    """For an optimizer that is not tuned. A budget alone would ask for another difference."""
    plan = result.plan
    effect = f"{plan.effect:g}sd" if plan.effect_in_sd else f"{plan.effect:g}"
    return f"Add trials with --budget {result.budget + EXTENSION} --effect {effect}."


def of_undecided(result: Result, judged: Judged, found: Interval) -> str:
    """More seeds where they can decide; else more trials where those can."""
    if judged.more_seeds is not None:
        seeds = "seed" if judged.more_seeds == 1 else "seeds"
        n, budget = max(found.n_ours, found.n_theirs) + judged.more_seeds, result.plan.budget
        effect = _effect_for(n, judging.tau_of(result.budget), judging.tau_of(budget))
        how = f" ({_options(result, budget, effect)} runs them)" if effect else ""
        return f"About {judged.more_seeds} more {seeds} each would decide if it stays so{how}."
    for budget in sorted(b for b in judging.TAU if b > result.budget):
        luck = judging.TAU[budget]
        more = judging.more_seeds(found.mean, found.sd, luck, result.margin, 2)
        if more is None:
            continue
        n = max(2 + more, judging.MIN_SEEDS)
        effect = _effect_for(n, luck, luck)
        how = f" ({_options(result, budget, effect)})" if effect else ""
        return (
            f"More seeds cannot decide this; {budget} trials and about {n} seeds each could if it "
            f"stays so{how}."
        )
    return "More seeds cannot decide this."


def _effect_for(n: int, tau: float, tau_of_budget: float) -> float | None:
    """The effect, in sd, for which so many seeds are planned; None where none is.

    `tau_of_budget`: that of the trials which are asked for; extensions add to them, so the luck
    that plans the seeds is smaller, but an effect is refused by what was asked for.
    """
    if n > MOST_SEEDS:
        return None
    return judging.effect_for(n, tau, judging.MIN_EFFECT * tau_of_budget)


def _options(result: Result, budget: int, effect: float) -> str:
    """They leave all else as it is: the margin would follow the effect."""
    margin = numbers(result)(result.margin)
    return f"--budget {budget} --effect {effect:g}sd --margin {margin}"
