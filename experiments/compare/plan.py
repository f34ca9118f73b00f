"""What is to be compared, and all that is known of it in the end: plain values."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, field, replace

from experiments.compare import judging
from experiments.compare.asking import Answer, Setting
from experiments.compare.judging import Interval
from experiments.compare.ratios import Ratio
from experiments.compare.search import Search
from experiments.config import UserError


@dataclass(frozen=True)
class Contestant:
    """One optimizer."""

    name: str  # what the program is told
    label: str  # for people
    lr_factor: float = 1.0  # where its search starts, times the baseline's tuned pick
    weight_decay_factor: float = 1.0
    scouts: str = ""  # lr or weight_decay: of which not even the order of magnitude is known
    first_decay: float = 0.01  # where its search begins as a baseline without weight decay


@dataclass(frozen=True)
class Plan:
    """What is to be compared, and how surely."""

    baseline: Contestant
    others: tuple[Contestant, ...]
    start: Setting  # the user's own setting of the baseline
    budget: int = 25  # trials for each
    effect: float = 2.0  # the difference to find
    effect_in_sd: bool = True  # of one run; else in the metric's unit
    margin: float | None = None  # "no difference larger than": in the unit; None: the effect
    better: str = "higher"
    step: float | None = None  # of the reported metric; None: as the values show
    seed: int = 0  # of the scatter

    @property
    def sign(self) -> int:
        """Score = sign * value."""
        return 1 if self.better == "higher" else -1

    @property
    def contestants(self) -> tuple[Contestant, ...]:
        """The baseline first."""
        return (self.baseline, *self.others)


@dataclass(frozen=True)
class Pilot:
    """What the baseline's first runs have shown."""

    sd: float  # of the tuned metric over seeds
    report: tuple[float, ...]  # reported metric, a value per seed
    rounding: float  # |difference of two runs of one seed| / sd; 0: none; NaN: not tried
    seconds: float  # of a run
    tune: tuple[float, ...] = ()  # tuned metric, a value per seed


@dataclass(frozen=True)
class Tuned:
    """An optimizer after its search."""

    contestant: Contestant
    pick: Setting
    search: Search
    seconds: float = 0.0
    without_decay: float = math.nan  # score of one run without weight decay, where that was asked


@dataclass(frozen=True)
class Judged:
    """One contestant against the baseline."""

    contestant: Contestant
    verdict: str
    reason: str | None  # edge, flat, untuned, diverged, no_spread, seeds, luck; None: none needed
    interval: Interval | None
    beside: Interval | None  # of the metric beside, in scores
    looks: int
    lost: tuple[int, int]  # final runs that diverged: ours, theirs
    ratios: tuple[Ratio, Ratio]  # lr, weight decay
    edge: tuple[str, str, Setting] | None = None  # who, which axis and end, its pick
    more_seeds: int | None = None


@dataclass
class Result:
    """All that is known in the end."""

    plan: Plan
    pilot: Pilot
    budget: int  # trials that each got
    effect: float  # in the unit
    margin: float
    tau: float
    sd: float  # of the fits
    n: int  # seeds planned
    step: float
    tuned: dict[str, Tuned]
    judged: list[Judged] = field(default_factory=list)
    final: dict[str, list[Answer]] = field(default_factory=dict)
    without_decay: Set[str] = frozenset()  # optimizers whose weight decay the program does not use


@dataclass(frozen=True)
class Remark:
    """What to beware of; stands below the verdict."""

    said: str
    without_decay: str = ""  # name of an optimizer whose weight decay was seen to change nothing


def leave_out_decay(result: Result, names: Set[str]) -> None:
    """Takes back what a result says of weight decays that change nothing."""
    result.without_decay = names
    for place, judged in enumerate(result.judged):
        pair = (judged.contestant.name, result.plan.baseline.name)
        if unused := [name for name in pair if name in names]:
            whose = unused[0] if len(unused) == 1 else ""
            ratios = judged.ratios[0], Ratio(reason="unused", whose=whose)
            result.judged[place] = replace(judged, ratios=ratios)


def check(plan: Plan) -> None:
    """Refuses what cannot work, before anything runs.

    Raises:
        UserError: one line with the remedy.
    """
    if plan.budget < min(judging.TAU):
        least = min(judging.TAU)
        raise UserError(f"--budget {plan.budget} tunes nothing: give each at least {least} trials")
    if not plan.effect > 0 or (plan.margin is not None and not plan.margin > 0):
        raise UserError("--effect and --margin are sizes of a difference: give positive numbers")
    start = plan.start
    if not (0 < start.lr < math.inf and 0 <= start.weight_decay < math.inf):
        raise UserError(
            f"the baseline needs an lr above 0 and a weight decay of at least 0, not {start.lr:g} "
            f"and {start.weight_decay:g}"
        )
    if plan.effect_in_sd:
        refuse_small(plan.effect, plan.budget)


def smallest_effect(plan: Plan) -> float:
    """What the trials can find at all, in sd: less drowns in the luck of tuning."""
    return judging.MIN_EFFECT * judging.tau_of(plan.budget)


def refuse_small(effect: float, budget: int) -> None:
    """Raises: UserError for an effect (in sd) that so many trials cannot resolve."""
    tau = judging.tau_of(budget)
    if effect >= judging.MIN_EFFECT * tau:
        return
    enough = judging.smallest_budget(effect)
    remedy = f"use --budget {enough}" if enough else "ask for a larger --effect"
    raise UserError(
        f"with {budget} trials each, luck in tuning alone moves the difference by {tau:g} sd, so "
        f"one of {effect:.3g} sd cannot be found with any number of seeds: {remedy}"
    )
