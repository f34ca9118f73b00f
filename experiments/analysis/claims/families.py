"""Claims on language and diffusion, from the small models of these families.

Each model has two studies: `tuning`, as many settings for each optimizer, of which validation picks
one, and `fresh`, the picks trained again with seeds that had no part in picking them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from experiments.analysis.claims.evidence import (
    CONTRADICTED,
    INCONCLUSIVE,
    SUPPORTED,
    Evidence,
    Finding,
    NotRun,
)
from experiments.analysis.claims.tuned_pairs import Tuned, tuned_difference
from experiments.analysis.confirmed import check_fresh
from experiments.analysis.statistics.comparison import choose
from experiments.analysis.statistics.difference import MIN_SEEDS, of_pairs
from experiments.analysis.statistics.held import HOLD, compute_saving
from experiments.analysis.statistics.tuning_luck import of_optimizers
from experiments.headline import Headline, of_table
from experiments.rounded import ends, with_signs
from experiments.store import UserError

MIN_POINTS = 8
"""Fewest evaluations of a curve that tells steps to a target."""
ALIKE_NATS = round(math.log(4.25 / 4.18), 3)
"""Within this two language models count as alike: the smallest distance of two perplexities that
the paper calls a difference, that of the small masked models (C034)."""
OTHER_TOKENS = "a token is a character here, a sub-word in the paper, which holds several"


def fresh_gain(evidence: Evidence, experiment: str, ours: str, theirs: str) -> Tuned:
    """Test values of two picks on fresh seeds.

    Raises:
        NotRun: if one of the two studies is not there.
        UserError: if the fresh runs are not those of the picks, or share seeds with the tuning.
    """
    tuning, fresh = evidence.study("tuning", experiment), evidence.study("fresh", experiment)
    return of_picks(tuning, fresh, ours, theirs)


def of_picks(tuning: pd.DataFrame, fresh: pd.DataFrame, ours: str, theirs: str) -> Tuned:
    """As `fresh_gain`, of two tables."""
    try:
        picks = [choose(tuning, name) for name in (ours, theirs)]
    except ValueError as error:
        raise UserError(str(error)) from None
    check_fresh(tuning, fresh, picks)
    found = tuned_difference(fresh, ours, theirs)
    edges = tuple(pick.optimizer for pick in picks if pick.on_edge)
    seeds = f"{picks[0].n} other seed{'s' if picks[0].n > 1 else ''}"
    notes = [found.note, f"picked of {picks[0].num_settings} settings on {seeds}"]
    if edges:
        notes.append(f"not tuned: the pick of {' and '.join(edges)} is on the edge of its grid")
    return replace(found, untuned=edges, note="; ".join(notes), is_fresh=True)


def gain(experiment: str) -> Callable[[Evidence], Finding]:
    """Whether Lion is ahead of AdamW on fresh seeds, by the headline."""

    def check(evidence: Evidence) -> Finding:
        found = fresh_gain(evidence, experiment, "lion", "adamw")
        headline = of_table(evidence.study("fresh", experiment))
        averaged = "" if headline.weights == "raw" else ", averaged weights"
        return found.larger(f"{headline.report} {headline.metric}{averaged}, Lion - AdamW")

    return check


def gain_with(experiment: str, metric: str, unit: str) -> Callable[[Evidence], Finding]:
    """As `gain`; another metric of the same runs, which picked nothing, stands in the note.

    Args:
        experiment: Of the studies.
        metric: Of the fresh curves, on the split that is reported.
        unit: Of its differences.
    """

    def check(evidence: Evidence) -> Finding:
        found = gain(experiment)(evidence)
        try:
            curves = evidence.curves("fresh", experiment)
        except NotRun:
            return found
        runs = evidence.study("fresh", experiment)
        pairs = last_values(curves, runs, of_table(runs).report, metric)
        if pairs.empty:
            return found
        other = of_pairs(pairs)
        wide = of_optimizers(other, pairs.ours.to_numpy(), pairs.theirs.to_numpy())
        said = (
            f"by {metric}, which picked nothing: {with_signs(other.mean, other.low, other.high, 1)}"
            f" {unit} at the settings found, {ends(*wide, 1, signed=True)} of the optimizers"
            f" (exact p {other.p_exact:.2g})"
        )
        return replace(found, note=f"{found.note}; {said}")

    return check


def last_values(curves: pd.DataFrame, runs: pd.DataFrame, split: str, metric: str) -> pd.DataFrame:
    """What the runs of Lion (ours) and AdamW (theirs) end with, a row per seed that both have."""
    ends_of = curves[(curves.split == split) & (curves.metric == metric)]
    ends_of = ends_of.sort_values("step").groupby("run_id").tail(1)
    ends_of = ends_of.merge(runs[["run_id", "optimizer", "seed"]], on="run_id")
    wide = ends_of.pivot(index="seed", columns="optimizer", values="value")
    wide = wide.rename(columns={"lion": "ours", "adamw": "theirs"})
    return wide.reindex(columns=["ours", "theirs"]).dropna()


def sooner(
    experiment: str, metric: str | None = None, better: str = "lower", split: str | None = None
) -> Callable[[Evidence], Finding]:
    """Whether Lion gets to AdamW's final validation value in fewer steps, on fresh seeds.

    It does not where its own final value is shown to be worse.

    Args:
        experiment: Of the studies.
        metric: Of the curves; by default the headline.
        better: Its direction, where it is not the headline.
        split: On which it is measured; by default the one that is tuned on.
    """

    def check(evidence: Evidence) -> Finding:
        gained = fresh_gain(evidence, experiment, "lion", "adamw")
        runs, curves = evidence.study("fresh", experiment), evidence.curves("fresh", experiment)
        runs = runs.assign(schedule="as on the experiment page")
        headline = of_table(runs)
        name, where = metric or headline.metric, split or headline.tune
        points = _points(curves, headline, name, better, where)
        if points.groupby("run_id").size().reindex(runs.run_id).fillna(0).min() < MIN_POINTS:
            raise UserError(f"{experiment}: fewer than {MIN_POINTS} evaluations of {name} a run")
        found = compute_saving(points, runs, "lion", "adamw", split=where, metric=name)
        verdict = SUPPORTED if found.low > 1 else CONTRADICTED if found.high < 1 else INCONCLUSIVE
        if gained.untuned or found.n < MIN_SEEDS:
            verdict = INCONCLUSIVE
        note = f"{found.method}; a value counts once {HOLD} evaluations in a row are as good"
        note += (
            "; at the settings found; as fine as the evaluations are apart; 1 is what equals "
            f"would give; {gained.note}"
        )
        if metric is None and gained.larger("").verdict == CONTRADICTED:
            # Whoever ends behind the target has not reached it in as many steps, let alone fewer.
            verdict = CONTRADICTED
            note += f"; Lion's final {headline.report} {name} is shown to be worse"
        low, high = found.low, found.high
        if low == high:  # evaluations are coarse, and runs that never get there count alike
            low = high = math.nan
            note += "; no interval: all seeds give the same"
        of = "validation " if where == headline.tune else ""
        measure = f"steps to AdamW's final {of}{name}, AdamW's own / Lion's"
        return Finding(measure, found.estimate, low, high, found.n, "x fewer", verdict, note=note)

    return check


def _points(
    curves: pd.DataFrame, headline: Headline, metric: str, better: str, split: str
) -> pd.DataFrame:
    """The curves of one metric on one split, with its direction."""
    mine = curves[(curves.metric == metric) & (curves.split == split)]
    direction = headline.better if metric == headline.metric else better
    return mine.assign(weights=headline.weights, better=direction)


def alike_to_adafactor(evidence: Evidence) -> Finding:
    """Whether Lion and Adafactor end alike on fresh seeds; each with the same number of trials."""
    tuning = evidence.study("adafactor", "lm_proxy")
    fresh = evidence.study("adafactor_fresh", "lm_proxy")
    found = of_picks(tuning, fresh, "lion", "adafactor")
    headline = of_table(fresh)
    measure = f"{headline.report} {headline.metric} at the end, Lion - Adafactor"
    alike = found.alike(measure, ALIKE_NATS)
    return replace(alike, note=f"{alike.note}; {OTHER_TOKENS}")


CHECKS: dict[str, Callable[[Evidence], Finding]] = {
    "C021": sooner("diffusion_proxy", "fd1k_ddim20", split="samples"),
    "C022": gain("diffusion_proxy"),
    "C026": sooner("lm_proxy"),
    "C030": alike_to_adafactor,
    "C034": gain("mlm_proxy"),
    "C036": gain_with("t5_proxy", "accuracy", "points"),
}
"""Claim id -> what the small models of these families say of it."""
