"""The comparison from the pilot to the verdict, as a dialogue: it asks for runs, and is told.

No files, no clock, no programs: the simulation and the real thing run this very code. Killed at
any moment, it is begun anew and told the answers that are known; it then asks for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from experiments.compare import judging
from experiments.compare.asking import Answer, Ask, Dialogue, Notice, Setting
from experiments.compare.fit import Fit
from experiments.compare.judging import Interval
from experiments.compare.ratios import Ratio, of_picks
from experiments.compare.search import EXTENSION, MIN_FULL, Guess, Search, extend, top_up, tune
from experiments.config import UserError

PILOT_SEEDS = (0, 1, 2)
FIRST_FINAL_SEED = 10_000
MAX_EXTENSIONS = 2
MOST_SEEDS = 65
"""More seeds are not planned: beyond, the luck of tuning is what decides."""
FIRST_DECAY = 0.01
"""Where the search begins for a baseline without weight decay."""
FAR = 1.0
"""Decades from its start, beyond which a top is believed only with `MIN_NEAR` trials about it."""
MIN_NEAR = 12
DF_OF_PILOT = 0.5
"""Weight, in degrees of freedom, of the pilot's sd in that of the first search: little, since a
start far below the top is several times as noisy."""
DF_OF_OTHER = 5
"""Weight, in degrees of freedom, of the baseline's sd in that of the others: it may differ."""
DIVERGED_MORE = 2
"""A winner that diverges in so many more final runs than the loser is no winner."""


@dataclass(frozen=True)
class Contestant:
    """One optimizer."""

    name: str  # what the program is told
    label: str  # for people
    lr_factor: float = 1.0  # where its search starts, times the baseline's tuned pick
    weight_decay_factor: float = 1.0


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
    reason: str | None  # edge, diverged, no_spread, seeds or luck; None: there is a verdict
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
    if plan.start.lr <= 0 or plan.start.weight_decay < 0:
        raise UserError("the baseline needs an lr above 0 and a weight decay of at least 0")
    if plan.effect_in_sd:
        refuse_small(plan.effect, plan.budget)


def refuse_small(effect: float, budget: int) -> None:
    """Raises: UserError for an effect (in sd) that so many trials cannot resolve."""
    tau = judging.tau_of(budget)
    if effect >= judging.MIN_EFFECT * tau:
        return
    enough = judging.smallest_budget(effect)
    remedy = f"use --budget {enough}" if enough else "ask for a larger --effect"
    raise UserError(
        f"with {budget} trials each, luck in tuning alone moves the difference by {tau:g} sd, so "
        f"one of {effect:.2g} sd cannot be found with any number of seeds: {remedy}"
    )


def compare(plan: Plan) -> Dialogue:
    """The whole protocol; returns a `Result`.

    Raises:
        UserError: where a comparison would mean nothing (no spread over seeds, a baseline that
            does not train).
    """
    check(plan)
    pilot = yield from _pilot(plan)
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
        raise UserError(
            f"the baseline gave a number in {len(own)} of {len(PILOT_SEEDS)} runs "
            f"with lr {start.lr:g}, weight decay {start.weight_decay:g}: start from a setting "
            "that trains"
        )
    sd = float(own.std(ddof=1))
    if sd <= 1e-12 * max(1.0, float(np.abs(own).max())):
        raise UserError(
            f"seeds {', '.join(map(str, PILOT_SEEDS))} all gave {own[0]:g}: either {{seed}} is not "
            "used by the program, or the metric is too coarse to show it; use it, or take the loss"
        )
    again = abs(values[-1] - values[0])
    took = [a.seconds for a in answers if math.isfinite(a.seconds)]
    pilot = Pilot(
        sd=sd,
        report=tuple(a.report for a in answers[:-1]),
        rounding=float(again / sd),
        seconds=float(np.mean(took)) if took else math.nan,
    )
    yield Notice("pilot", {"pilot": pilot, "plan": plan})
    return pilot


def tune_all(plan: Plan, pilot: Pilot) -> Dialogue:
    """Tunes the baseline, the others from its pick, all by as many trials.

    Returns:
        What was found by name, and the trials that each got.
    """
    decay = plan.start.weight_decay or FIRST_DECAY
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
        found = yield from tune(search, plan.budget + num_extensions * EXTENSION)
        while _needs_more(found, search) and num_extensions < MAX_EXTENSIONS:
            num_extensions += 1
            yield Notice("extended", {"contestant": one, "trials": EXTENSION})
            found = yield from extend(search)
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


def _needs_more(found: Fit, search: Search) -> bool:
    """Whether the top lies on an edge, or so far from the start that the search was all the way."""
    is_far = bool((np.abs(found.top) > FAR).any()) and search.num_near(found.top) < MIN_NEAR
    return is_far or _on_edge(found.rising, search)


def _on_edge(rising: np.ndarray, search: Search) -> bool:
    """The quick look has three weight decays: it says nothing of an edge there."""
    return bool(rising[0] or (rising[1] and search.num_trials >= MIN_FULL))


def _without_decay(search: Search) -> Dialogue:
    """One run at the pick without weight decay; 0 has no place among the decades."""
    lr, key = search.pick.lr, f"{search.name}/zero/0"
    (answer,) = yield [Ask(key, search.name, "zero", lr, 0.0, 1000 + search.num_trials)]
    return search.sign * answer.tune


def finish(plan: Plan, pilot: Pilot, tuned: dict[str, Tuned], budget: int) -> Dialogue:
    """Plans the seeds, runs the final, judges; returns a `Result`."""
    sd = pooled_sd(pilot, tuned, budget)
    effect = plan.effect * sd if plan.effect_in_sd else plan.effect
    tau = judging.tau_of(budget)
    result = Result(
        plan=plan,
        pilot=pilot,
        budget=budget,
        effect=effect,
        margin=plan.margin or effect,
        tau=tau,
        sd=sd,
        n=judging.seeds_needed(effect / sd, tau, most=MOST_SEEDS),
        step=plan.step or 0.0,
        tuned=tuned,
    )
    edges = {one.name: edge for one in plan.contestants if (edge := _edge(tuned[one.name]))}
    shared = edges.get(plan.baseline.name)
    open_ = [one for one in plan.others if not (shared or edges.get(one.name))]
    for one in plan.others:
        if one not in open_:
            ratios = of_picks(tuned[one.name].search, tuned[plan.baseline.name].search)
            edge = edges.get(one.name) or shared
            refused = Judged(one, judging.UNDECIDED, "edge", None, None, 0, (0, 0), ratios, edge)
            result.judged.append(refused)
    if open_:
        yield Notice("planned", {"result": result})
        yield from _final(result, open_)
    order = [one.name for one in plan.others]
    result.judged.sort(key=lambda judged: order.index(judged.contestant.name))
    return result


def pooled_sd(pilot: Pilot, tuned: dict[str, Tuned], budget: int) -> float:
    """sd of one run at the picks, from the residuals of the fits; of the pilot, too, where the
    fits have few values."""
    own = []
    for one in tuned.values():
        assert one.search.last is not None
        spread = one.search.last.spread
        own.append(one.search.sd if budget >= MIN_FULL or math.isnan(spread) else spread * pilot.sd)
    values = own if budget >= MIN_FULL else [*own, pilot.sd]
    return float(np.sqrt(np.mean(np.square(values))))


def _edge(one: Tuned) -> tuple[str, str, Setting] | None:
    """Who lies on which end of which axis."""
    assert one.search.last is not None
    rising = one.search.last.rising
    if not _on_edge(rising, one.search):
        return None
    axis = 0 if rising[0] else 1
    end = "largest" if rising[axis] > 0 else "smallest"
    return one.contestant.label, f"{('lr', 'weight_decay')[axis]} {end}", one.pick


def _final(result: Result, open_: Sequence[Contestant]) -> Dialogue:
    """Fresh seeds, the same list for all; stops early for whom the first look decides."""
    plan, waiting = result.plan, list(open_)
    result.final = {one.name: [] for one in (plan.baseline, *open_)}
    all_looks = judging.looks(result.n)
    for number, n in enumerate(all_looks, 1):
        yield from _run_final(result, [plan.baseline, *waiting], n)
        if plan.step is None:
            values = [a.report for answers in result.final.values() for a in answers]
            result.step = judging.step_of([*values, *result.pilot.report])
        is_last = number == len(all_looks)
        settled = _judge_all(result, waiting, number, is_last)
        yield Notice("look", {"number": number, "n": n, "settled": settled, "is_last": is_last})
        result.judged += settled
        waiting = [one for one in waiting if one not in [j.contestant for j in settled]]
        if not waiting:
            return


def _run_final(result: Result, who: Sequence[Contestant], n: int) -> Dialogue:
    """Runs what is missing up to the n-th seed; seeds outermost."""
    asks = []
    done = len(result.final[who[0].name])
    for number in range(done, n):
        for one in who:
            pick = result.tuned[one.name].pick
            key, seed = f"{one.name}/final/{number}", FIRST_FINAL_SEED + number
            asks.append(Ask(key, one.name, "final", pick.lr, pick.weight_decay, seed))
    answers = yield asks
    for ask, answer in zip(asks, answers, strict=True):
        result.final[ask.optimizer].append(answer)


def _judge_all(
    result: Result, waiting: Sequence[Contestant], number: int, is_last: bool
) -> list[Judged]:
    """Whom this look settles. Several contestants: Holm, from the level of all who wait down."""
    settled: list[Judged] = []
    shown = [j for j in result.judged if j.verdict in (judging.BETTER, judging.WORSE)]
    left = list(waiting)
    while left:
        count = len(result.plan.others) - len(shown)
        judged = [_judge(result, one, number, count) for one in left]
        new = [j for j in judged if j.reason is None and j.verdict != judging.UNDECIDED]
        shown += [j for j in new if j.verdict in (judging.BETTER, judging.WORSE)]
        gone = [j for j in judged if j.reason in ("diverged", "no_spread")] if is_last else []
        settled += [*new, *gone]
        left = [one for one in left if one not in [j.contestant for j in settled]]
        if not new:
            return [*settled, *(j for j in judged if is_last and j.contestant in left)]
    return settled


def _judge(result: Result, one: Contestant, number: int, count: int) -> Judged:
    """One contestant against the baseline at one look, with the level split over `count`."""
    plan, sign = result.plan, result.plan.sign
    ours, theirs = (result.final[who.name] for who in (one, plan.baseline))
    ratios = of_picks(result.tuned[one.name].search, result.tuned[plan.baseline.name].search)
    planned = judging.looks(result.n)
    share = planned[0] / planned[-1]
    level, wide = (
        judging.levels(share, alpha / count)[number - 1]
        for alpha in (judging.ALPHA, 2 * judging.ALPHA)
    )
    options = {"tau": result.tau, "level": level, "wide": wide}
    reports = [[sign * a.report for a in answers] for answers in (ours, theirs)]
    lost = tuple(int(sum(not math.isfinite(v) for v in values)) for values in reports)
    facts = {"looks": number, "lost": lost, "ratios": ratios}
    if min(len(ours) - lost[0], len(theirs) - lost[1]) < 2:
        return Judged(one, judging.UNDECIDED, "diverged", None, None, **facts)
    found = judging.interval(*reports, step=result.step, **options)
    besides = [[a.beside for a in answers] for answers in (ours, theirs)]
    known = [sum(math.isfinite(v) for v in values) for values in besides]
    beside = judging.interval(*besides, **options) if min(known) > 1 else None
    verdict, reason, more = found.verdict(result.margin), None, None
    if not found.varied:
        verdict, reason = judging.UNDECIDED, "no_spread"
    elif verdict == judging.UNDECIDED:
        more = judging.more_seeds(found.mean, found.sd, result.tau, result.margin, len(ours))
        reason = "luck" if more is None else "seeds"
    winner_lost = lost[0] - lost[1] if verdict == judging.BETTER else lost[1] - lost[0]
    if verdict in (judging.BETTER, judging.WORSE) and winner_lost >= DIVERGED_MORE:
        verdict, reason = judging.UNDECIDED, "diverged"
    return Judged(one, verdict, reason, found, beside, more_seeds=more, **facts)
