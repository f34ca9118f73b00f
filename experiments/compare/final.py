"""The last part of the protocol: fresh seeds for all, two looks, a verdict on each contestant."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from experiments.compare import judging
from experiments.compare.asking import Ask, Dialogue, Notice, Setting
from experiments.compare.judging import Interval
from experiments.compare.plan import Contestant, Judged, Pilot, Plan, Result, Tuned
from experiments.compare.ratios import of_picks
from experiments.compare.search import Search

FIRST_FINAL_SEED = 10_000
MOST_SEEDS = 65
"""More seeds are not planned: beyond, the luck of tuning is what decides."""
ALIKE = 0.05
"""Of the baseline's sd: trials that differ by no more, all of them, have no noise of training."""
DIVERGED_MORE = 2
"""A winner that diverges in so many more final runs than the loser is no winner, nor are two that
differ so the same."""


def finish(plan: Plan, pilot: Pilot, tuned: dict[str, Tuned], budget: int) -> Dialogue:
    """Plans the seeds, runs the final, judges; returns a `Result`."""
    sd = pooled_sd(tuned)
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
    base = tuned[plan.baseline.name].search
    flat = [one for one in plan.others if trains_nowhere(tuned[one.name].search, base)]
    open_ = [one for one in plan.others if not (shared or one in flat or edges.get(one.name))]
    for one in plan.others:
        if one not in open_:
            ratios = of_picks(tuned[one.name].search, base)
            edge = edges.get(one.name) or shared
            reason = "flat" if one in flat else "edge"
            refused = Judged(one, judging.UNDECIDED, reason, None, None, 0, (0, 0), ratios, edge)
            result.judged.append(refused)
    if open_:
        yield Notice("planned", {"result": result})
        yield from _final(result, open_)
    order = [one.name for one in plan.others]
    result.judged.sort(key=lambda judged: order.index(judged.contestant.name))
    return result


def gained(result: Result) -> Interval | None:
    """The tuned baseline minus the user's own setting, scores; None where too little is known.

    The pilot's seeds had no part in the tuning, so they are fresh, too.
    """
    sign = result.plan.sign
    tuned = [sign * a.report for a in result.final.get(result.plan.baseline.name, [])]
    before = [sign * value for value in result.pilot.report]
    if min(sum(map(math.isfinite, values)) for values in (tuned, before)) < 2:
        return None
    return judging.interval(tuned, before, tau=0.0, step=result.step)


def pooled_sd(tuned: dict[str, Tuned]) -> float:
    """sd of one run at the picks, from the residuals of the fits. Those runs are no part of the
    final, so the number of seeds may follow from it."""
    return float(np.sqrt(np.mean([one.search.sd**2 for one in tuned.values()])))


def noise_of_finals(result: Result, judged: Judged) -> float:
    """sd of the tuned metric over the final seeds of one setting, of both; NaN: not known."""
    names = (judged.contestant.name, result.plan.baseline.name)
    arms = [[a.tune for a in result.final.get(name, []) if math.isfinite(a.tune)] for name in names]
    if min(map(len, arms)) < 2:
        return math.nan
    return float(np.sqrt(np.mean([np.var(values, ddof=1) for values in arms])))


def trains_nowhere(ours: Search, theirs: Search) -> bool:
    """Whether all trials of one optimizer are alike, and below those of the other, as the guesses
    of a model that does not train are: then its pick is any setting, and says nothing of it."""
    known, others = (one.y[np.isfinite(one.y)] for one in (ours, theirs))
    if not len(known) or not len(others):
        return False
    return bool(np.ptp(known) <= ALIKE * theirs.sd and known.max() < np.median(others))


def _edge(one: Tuned) -> tuple[str, str, Setting] | None:
    """Who lies on which end of which axis."""
    assert one.search.last is not None
    if not one.search.on_edge:
        return None
    rising = one.search.last.rising
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
        result.judged += settled
        waiting = [one for one in waiting if one not in [j.contestant for j in settled]]
        facts = {"settled": settled, "waiting": waiting, "is_last": is_last}
        yield Notice("look", {"number": number, "n": n, **facts})
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
        new = [j for j in judged if j.verdict != judging.UNDECIDED]
        if not new:
            return [*settled, *(judged if is_last else [])]
        settled += new
        shown += [j for j in new if j.verdict in (judging.BETTER, judging.WORSE)]
        left = [one for one in left if one not in [j.contestant for j in new]]
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
    gain = gained(result)
    is_untuned = gain is not None and gain.high < 0
    if is_untuned and verdict in (judging.BETTER, judging.EQUIVALENT):
        verdict, reason = judging.UNDECIDED, "untuned"
    winner_lost = lost[0] - lost[1] if verdict == judging.BETTER else lost[1] - lost[0]
    if verdict == judging.EQUIVALENT:
        winner_lost = abs(winner_lost)
    if verdict != judging.UNDECIDED and winner_lost >= DIVERGED_MORE:
        verdict, reason = judging.UNDECIDED, "diverged"
    return Judged(one, verdict, reason, found, beside, more_seeds=more, **facts)
