"""What a comparison says: these sentences and nothing else, and the same for programs.

No "significant", no "no difference" without a margin, no p-value: an interval says it all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from experiments.compare import judging, remedies
from experiments.compare.final import gained, noise_of_finals
from experiments.compare.judging import Interval
from experiments.compare.plan import Judged, Result
from experiments.compare.ratios_said import of_ratios
from experiments.compare.search import MIN_FULL
from experiments.compare.spoken import amount, decimals_of, numbers, raw_interval
from experiments.rounded import ends, rounded

WRONG_IN_QUICK_LOOK = 2, 5
"""Per cent, by simulation (`scripts/calibrate_quick.py`); the second where Lion's best weight decay
is 30 times AdamW's, in place of 5.5."""
NOISIER = 3.0
"""Times the sd of the fits: in made-up worlds the final runs of 1 or 2 in 100 quick looks differ by
so much, and of none with 25 trials."""


@dataclass(frozen=True)
class Words:
    """How the metric is spoken of."""

    metric: str  # test accuracy
    unit: str = ""  # points
    beside: str = ""  # test loss
    held_out: bool = True  # whether the reported metric is another than the tuned one
    tuned: str = ""  # val accuracy


def sentences(result: Result, words: Words) -> list[str]:
    """The verdict on every contestant, ratios, and what it holds for."""
    said = []
    for judged in result.judged:
        quick = result.budget < MIN_FULL
        prefix = f"Quick look ({result.budget} trials each): " if quick else ""
        said.append(prefix + _verdict(result, judged, words))
        said += _how_often_wrong(result, judged)
        said += _noisier(result, judged)
        said += _lost(result, judged)
        said += _both_intervals(result, judged, words)
        said += of_ratios(result, judged, words.unit)
        said += _beside(result, judged, words)
    said += _ends_of_three(result)
    said += _scope(result, words)
    return said


def _verdict(result: Result, judged: Judged, words: Words) -> str:
    ours, theirs = judged.contestant.label, result.plan.baseline.label
    found, number = judged.interval, numbers(result)
    if judged.reason == "flat":
        return _flat(result, judged)
    if judged.reason == "edge" and judged.edge is not None:
        return _edge(result, *judged.edge)
    if judged.reason == "diverged" or found is None:
        first, second = (ours, theirs) if judged.lost[0] >= judged.lost[1] else (theirs, ours)
        most, fewest = max(judged.lost), min(judged.lost)
        others = "none" if not fewest else str(fewest)
        total = len(result.final[judged.contestant.name])
        return (
            f"No verdict: {most} of {total} final runs of {first} diverged or failed at its best "
            f"setting, {others} of {second}'s; lower lr or longer warm-up first (trials.csv has "
            "what they said last)."
        )
    if judged.reason == "untuned" and (gain := gained(result)):
        low, high = number(-gain.high), number(-gain.low)
        return (
            f"No verdict: {theirs} tuned with {result.budget} trials is worse than your own "
            f"setting by {amount(-gain.mean, number, words.unit)} [{low}, {high}] "
            f"(95 %), so {theirs} is not tuned. {remedies.add_trials(result)}"
        )
    if judged.reason == "no_spread":
        step = f" (step of the metric {number(result.step)})" if result.step else ""
        return f"No verdict: all seeds gave the same value{step}; use loss, or more test data."
    if judged.verdict in (judging.BETTER, judging.WORSE):
        return _shown(result, judged, words, found)
    raw, low, high = raw_interval(result, found.mean, found.low, found.high)
    if judged.verdict == judging.EQUIVALENT:
        raw, low, high = raw_interval(result, found.mean, found.low_wide, found.high_wide)
        return (
            f"No difference larger than {amount(result.margin, number, words.unit)}: {ours} minus "
            f"{theirs} is {number(raw)} [{number(low)}, {number(high)}] "
            f"({_confidence(result, 90)}, equivalence test with {_whose_margin(result)})."
        )
    start = (
        f"Undecided: {ours} minus {theirs} is {amount(raw, number, words.unit)} [{number(low)}, "
        f"{number(high)}] ({_confidence(result)}); a difference of "
        f"{number(result.margin)} is neither shown nor excluded."
    )
    return f"{start} {remedies.of_undecided(result, judged, found)}"


def _how_often_wrong(result: Result, judged: Judged) -> Iterator[str]:
    """Of a quick look that calls a contestant worse: the error that tells most against it."""
    if result.budget < MIN_FULL and judged.verdict == judging.WORSE:
        low, high = WRONG_IN_QUICK_LOOK
        yield (
            f"Of two equal optimizers a quick look says this in {low} of 100 made-up comparisons, "
            f"and in {high} where the best weight decay is far from where it looks."
        )


def _noisier(result: Result, judged: Judged) -> Iterator[str]:
    """Of final runs that differ by more than the tuning knew of: it has followed lucky runs."""
    noise, number = noise_of_finals(result, judged), numbers(result)
    if noise > NOISIER * result.sd:
        times = f"{noise / result.sd:.0f} times what the tuning took for noise"
        yield (
            f"Beware: final runs of one setting differ by {number(noise)} (sd), {times} "
            f"({number(result.sd)}): it has followed lucky runs, so neither may be tuned, whatever "
            f"is said above. {remedies.add_trials(result)}"
        )


def _lost(result: Result, judged: Judged) -> Iterator[str]:
    """How many final runs the interval leaves out."""
    if judged.interval is None or judged.reason == "diverged" or not any(judged.lost):
        return
    who = (judged.contestant, result.plan.baseline)
    told = [
        f"{lost} of {len(result.final[one.name])} of {one.label}"
        for one, lost in zip(who, judged.lost, strict=True)
    ]
    yield f"Final runs that diverged or failed, and are left out: {', '.join(told)}."


def _shown(result: Result, judged: Judged, words: Words, found: Interval) -> str:
    ours, theirs = judged.contestant.label, result.plan.baseline.label
    number = numbers(result)
    sign = 1 if judged.verdict == judging.BETTER else -1
    winner, loser = (ours, theirs) if sign > 0 else (theirs, ours)
    low, high = sorted((sign * found.low, sign * found.high))
    said = (
        f"{winner} is better than {loser} by {amount(sign * found.mean, number, words.unit)} "
        f"{'of' if words.unit else 'in'} {words.metric} [{number(low)}, {number(high)}] "
        f"({_confidence(result)}, {_tuned(result, judged)}, {_seeds(found)})."
    )
    if high < result.margin:
        margin = number(result.margin)
        whose = "your" if result.plan.margin or not result.plan.effect_in_sd else "the"
        said += f" The difference is real but smaller than {whose} margin of {margin}."
    if abs(found.mean) < result.step:
        said += f" It is below the metric's resolution of {number(result.step)}."
    return said


def _tuned(result: Result, judged: Judged) -> str:
    both = f"both tuned with {result.budget} trials"
    pair = (judged.contestant, result.plan.baseline)
    alone = [one.label for one in pair if one.name in result.without_decay]
    if len(alone) == 2:
        return f"{both} in lr alone"
    return f"{both}, {alone[0]} in lr alone" if alone else both


def _confidence(result: Result, percent: int = 95) -> str:
    """Of an interval; where the error is split, it is wider than one of these data alone."""
    over = ["two looks"] if len(judging.looks(result.n)) > 1 else []
    if (number := len(result.plan.others)) > 1:
        over.append(f"{number} comparisons by Holm")
    return f"{percent} % over {' and '.join(over)}" if over else f"{percent} %"


def _whose_margin(result: Result) -> str:
    if result.plan.margin or not result.plan.effect_in_sd:
        return "your margin"
    return f"a margin of {result.plan.effect:g} sd of a run"


def _seeds(found: Interval) -> str:
    if found.n_ours == found.n_theirs:
        return f"{found.n_ours} fresh seeds each"
    return f"{found.n_ours} and {found.n_theirs} fresh seeds"


def _edge(result: Result, who: str, where: str, pick: Any) -> str:
    axis, end = where.split()
    names = {"lr": "learning rate", "weight_decay": "weight decay"}
    value = pick.lr if axis == "lr" else pick.weight_decay
    tried = "that trained" if axis == "lr" and end == "largest" else "tried"
    return (
        f"No verdict: {who}'s best {names[axis]} ({value:g}) is the {end} {tried}, so {who} is not "
        f"tuned. {remedies.add_trials(result)}"
    )


def _flat(result: Result, judged: Judged) -> str:
    ours, search = judged.contestant, result.tuned[judged.contestant.name].search
    value = numbers(result)(result.plan.sign * max(filter(math.isfinite, search.y)))
    return (
        f"No verdict: all {search.num_trials} trials of {ours.label} gave about {value}, worse "
        f"than {result.plan.baseline.label}'s: it trains at no setting tried, so it is not tuned. "
        f"See what its runs say; if it needs quite another lr, give one at which it trains as "
        f"--baseline {ours.name}:lr=...,weight_decay=... --optimizers {result.plan.baseline.name}."
    )


def _both_intervals(result: Result, judged: Judged, words: Words) -> Iterator[str]:
    found = judged.interval
    if found is None or judged.reason in ("no_spread", "diverged", "untuned"):
        return
    number = numbers(result)
    who = f"{judged.contestant.label} minus {result.plan.baseline.label}"
    _, low, high = raw_interval(result, found.mean, found.low_settings, found.high_settings)
    mean, low_all, high_all = raw_interval(result, found.mean, found.low, found.high)
    decides = ", which alone decides"
    if judged.verdict == judging.EQUIVALENT:  # its test has an interval of its own
        decides = " (95 % both; what decides here is the interval of 90 %)"
    yield (
        f"{who}, at the two settings found: {number(mean)} [{number(low)}, {number(high)}]; of the "
        f"optimizers, with the luck of tuning: [{number(low_all)}, {number(high_all)}]{decides}."
    )


def _ends_of_three(result: Result) -> Iterator[str]:
    """A quick look is not refused for a weight decay on an edge, so it must say so."""
    for one in result.tuned.values():
        if one.search.last is None or one.search.num_trials >= MIN_FULL:
            continue
        if one.contestant.name in result.without_decay:
            continue
        if rising := one.search.last.rising[1]:
            end = "largest" if rising > 0 else "smallest"
            yield (
                f"{one.contestant.label}'s weight decay ({one.pick.weight_decay:g}) is the {end} "
                "of three tried: with more trials it may do better than here."
            )


def _beside(result: Result, judged: Judged, words: Words) -> Iterator[str]:
    found = judged.beside
    if found is None or not words.beside:
        return
    places = decimals_of(found.sd)
    yield (
        f"Beside it, no verdict: {words.beside}, {judged.contestant.label} minus "
        f"{result.plan.baseline.label} {rounded(found.mean, places)} "
        f"{ends(found.low, found.high, places)}."
    )


def _scope(result: Result, words: Words) -> Iterator[str]:
    said = "This holds for this model, these data, this training length and this test set."
    if not words.held_out:
        said = (
            "This holds for this model, these data and this training length; it is the very "
            "metric that was tuned, nothing was held out."
        )
    yield f"{said} {gain}" if (gain := _gain(result, words)) else said
    if result.tuned and not math.isnan(next(iter(result.tuned.values())).without_decay):
        pairs = [
            f"{one.contestant.label} {numbers(result)(result.plan.sign * one.without_decay)}"
            for one in result.tuned.values()
        ]
        yield f"Without weight decay, one run each at the best lr: {', '.join(pairs)}."


def _gain(result: Result, words: Words) -> str:
    """What tuning the baseline alone has brought over the user's own setting."""
    found, number = gained(result), numbers(result)
    if found is None:
        return ""
    label = result.plan.baseline.label
    mean, low, high = (number(value) for value in (found.mean, found.low, found.high))
    if found.low <= 0 <= found.high:
        return (
            f"Whether tuning {label} alone gained over your baseline is not shown: "
            f"{f'{mean} {words.unit}'.strip()} [{low}, {high}] (95 %)."
        )
    if found.mean < 0:
        return (
            f"Tuning {label} alone lost {amount(-found.mean, number, words.unit)} against your "
            f"baseline [{number(-found.high)}, {number(-found.low)}] (95 %)."
        )
    return (
        f"Tuning {label} alone gained {amount(found.mean, number, words.unit)} over your baseline "
        f"[{low}, {high}] (95 %)."
    )
