"""Which claims the runs of this repository speak to, and what they say.

One line of `CHECKS` per claim. A check reads files through `Evidence` and answers with a
`Finding`; a study that is not there raises `NotRun`. Studies are proxies: they may support or
contradict a claim at their scale, never at the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis.claims.batch import CHECKS as BATCH_CHECKS
from experiments.analysis.claims.big_vision import CHECKS as BIG_VISION_CHECKS
from experiments.analysis.claims.evidence import (
    CONTRADICTED,
    INCONCLUSIVE,
    SUPPORTED,
    Evidence,
    Finding,
    NotRun,
    is_larger,
)
from experiments.analysis.claims.families import CHECKS as FAMILY_CHECKS
from experiments.analysis.claims.measured import CHECKS as MEASURED_CHECKS
from experiments.analysis.claims.scale import widest
from experiments.analysis.claims.searches import CHECKS as SEARCH_CHECKS
from experiments.analysis.claims.tuned_pairs import tuned_difference
from experiments.analysis.claims.tuning import CHECKS as TUNING_CHECKS
from experiments.analysis.statistics.comparison import choose, chosen_runs, compare
from experiments.analysis.statistics.difference import MIN_SEEDS
from experiments.analysis.statistics.ranking import rank
from experiments.analysis.statistics.targets import speed_up
from experiments.analysis.studies import name_betas
from experiments.headline import of_table
from experiments.store import UserError

ADAPTIVE = ("adamw", "radam", "nadam", "adabelief", "amsgrad")
SIGN_MOMENTUM = ("lion", "lion_single_beta", "lion_single_beta_99")
MIN_POINTS = 10
"""Fewest evaluations of a curve that tells steps to a target."""

Check = Callable[[Evidence], Finding]


def gain_on_vit(evidence: Evidence) -> Finding:
    """From the lr x weight decay grid; else from the published comparison with three rates."""
    try:
        table = evidence.study("heatmap")
    except NotRun:
        table = evidence.proxy("vit_proxy")
    return tuned_difference(table, "lion", "adamw").larger("test accuracy, Lion - AdamW, tuned")


def bias_and_gain(evidence: Evidence) -> Finding:
    """Same digits: gain of the ViT minus gain of the ResNet, by seed."""
    gains = [
        tuned_difference(evidence.proxy(p), "lion", "adamw") for p in ("vit_proxy", "resnet_proxy")
    ]
    return (
        gains[0].less(gains[1]).larger("gain of Lion on the ViT - gain on the ResNet, same digits")
    )


def resnet_alike(evidence: Evidence) -> Finding:
    """All three pairs within the margin; the widest pair is shown."""
    table = evidence.proxy("resnet_proxy")
    pairs = [("lion", "adamw"), ("lion", "sgd"), ("adamw", "sgd")]
    found = [tuned_difference(table, *p).alike(f"test accuracy, {p[0]} - {p[1]}") for p in pairs]
    return widest(found)


def best_of_all(evidence: Evidence) -> Finding:
    """Against each other optimizer, with Holm's correction; the closest is shown."""
    table = evidence.study("optimizers")
    the_ten = table[~table.optimizer.isin(["hero_lion", "sgd"])]
    return _against_all(the_ten, "lion")


def _against_all(table: pd.DataFrame, reference: str) -> Finding:
    try:
        ranks = rank(table, reference)
    except ValueError as error:
        raise UserError(str(error)) from None
    others = ranks[ranks.optimizer != reference]
    if others.empty:
        raise UserError(f"the study has no optimizer beside {reference}: extend it")
    verdict = SUPPORTED if (others.verdict == "better").all() else INCONCLUSIVE
    verdict = CONTRADICTED if (others.verdict == "worse").any() else verdict
    better = of_table(table).sign * others.difference
    closest = others.loc[better.idxmin()]
    measure = f"test result, {reference} - {closest.optimizer} (the closest of {len(others)})"
    note = f"verdict by Holm-corrected paired t-tests; p {closest.p_holm:.3g} for the one shown"
    if shown := others.optimizer[others.verdict == "better"].tolist():
        note += f"; shown to be behind: {', '.join(shown)}"
    if "loss_verdict" in others:
        by_loss = others.optimizer[others.loss_verdict == "better"].tolist()
        note += f"; by test loss: {', '.join(by_loss) or 'none'}"
    if untuned := [_untuned(row) for row in ranks[ranks.on_edge].itertuples()]:
        note += f"; not tuned (best cell on an edge): {', '.join(untuned)}"
        verdict = INCONCLUSIVE
    found = is_larger(
        compare(table, reference, closest.optimizer), measure, of_table(table).points, note
    )
    return replace(found, verdict=verdict)


def _untuned(row: Any) -> str:
    """An optimizer on an edge; where others are as good as that cell, it is said."""
    return f"{row.optimizer} ({'; '.join(row.remarks)})" if row.remarks else str(row.optimizer)


def automl_worse(evidence: Evidence) -> Finding:
    """Mean of the adaptive ones minus the better of PowerSign and AddSign, by seed."""
    table = evidence.study("optimizers")
    adaptive = [name for name in ADAPTIVE if name in set(table.optimizer)]
    if not adaptive:
        raise UserError("the study optimizers has none of the adaptive ones: extend it")
    worst: Finding | None = None
    for early in ("powersign", "addsign"):
        found = [tuned_difference(table, name, early) for name in adaptive]
        pairs = pd.concat([f.pairs.ours for f in found], axis=1).mean(axis=1, skipna=False)
        pairs = pd.DataFrame({"ours": pairs, "theirs": found[0].pairs.theirs}).dropna()
        untuned = tuple(dict.fromkeys(name for f in found for name in f.untuned))
        note = f"mean of {', '.join(adaptive)}"
        note += f"; best cells on edges: {', '.join(untuned)}" if untuned else ""
        joint = replace(found[0], pairs=pairs, note=note, untuned=untuned)
        finding = joint.larger(f"test accuracy, adaptive - {early}")
        sign = of_table(table).sign
        if worst is None or sign * finding.estimate < sign * worst.estimate:
            worst = finding
    assert worst is not None
    return worst


def learns_faster(evidence: Evidence) -> Finding:
    """Steps to AdamW's final validation value at the chosen settings, beside AdamW's own steps."""
    table, curves = evidence.study("optimizers"), evidence.curves("optimizers")
    if "schedule" not in table:  # one experiment page, and no axis of the study changes it
        table = table.assign(schedule="as on the experiment page")
    try:
        chosen = [chosen_runs(table, choose(table, name)) for name in ("lion", "adamw")]
    except ValueError as error:
        raise UserError(str(error)) from None
    runs = pd.concat(chosen)
    headline = of_table(table)
    val = curves[(curves.split == headline.tune) & (curves.metric == headline.metric)]
    if val.groupby("run_id").size().reindex(runs.run_id).fillna(0).min() < MIN_POINTS:
        raise UserError(
            f"the curves have fewer than {MIN_POINTS} evaluations per run: too coarse for steps to "
            "a target; run the two chosen settings with eval.every_epochs=1"
        )
    found = speed_up(curves, runs, "lion", "adamw")
    verdict = SUPPORTED if found.low > 1 and found.n >= MIN_SEEDS else INCONCLUSIVE
    verdict = CONTRADICTED if found.high < 1 and found.n >= MIN_SEEDS else verdict
    note = f"{found.method}; as fine as the evaluations are apart; 1 is what equals would give"
    measure = "steps to AdamW's final validation value, AdamW's own / Lion's"
    return Finding(
        measure, found.estimate, found.low, found.high, found.n, "x fewer", verdict, note=note
    )


def one_beta_worse(evidence: Evidence) -> Finding:
    """Lion (0.9, 0.99) against the single-beta rules b = 0.9 and 0.99, each tuned."""
    return _against_all(_sign_momentum(evidence, [(0.9, 0.9), (0.99, 0.99)]), "lion (0.9, 0.99)")


def one_beta_between(evidence: Evidence) -> Finding:
    """Single-beta 0.9 above AdamW and below Lion; the weaker of the two gaps is shown."""
    arms = _sign_momentum(evidence, [(0.9, 0.9)])
    heatmap = evidence.study("heatmap")
    table = pd.concat([arms, heatmap[heatmap.optimizer == "adamw"]], ignore_index=True)
    single = "lion (0.9, 0.9)"
    gaps = [
        tuned_difference(table, single, "adamw").larger("test accuracy, single beta 0.9 - AdamW"),
        tuned_difference(table, "lion (0.9, 0.99)", single).larger(
            "test accuracy, Lion - single beta 0.9"
        ),
    ]
    verdicts = [gap.verdict for gap in gaps]
    verdict = CONTRADICTED if CONTRADICTED in verdicts else INCONCLUSIVE
    verdict = SUPPORTED if verdicts == [SUPPORTED, SUPPORTED] else verdict
    return replace(min(gaps, key=lambda gap: gap.low), verdict=verdict)


def _sign_momentum(evidence: Evidence, singles: list[tuple[float, float]]) -> pd.DataFrame:
    """Arms of the study betas: the double-beta rule and the given single ones."""
    table = evidence.study("betas")
    table = table[table.optimizer.isin(SIGN_MOMENTUM)].assign(optimizer="lion")
    pairs = [(0.9, 0.99), *singles]
    kept = pd.Series(False, index=table.index)
    for beta1, beta2 in pairs:
        mine = np.isclose(table.beta1, beta1) & np.isclose(table.beta2, beta2)
        if not mine.any():
            raise UserError(f"the study betas has no runs with betas {beta1:g}, {beta2:g}")
        kept |= mine
    return name_betas(table[kept])


def bias_correction_minor(evidence: Evidence) -> Finding:
    return tuned_difference(evidence.study("optimizers"), "hero_lion", "lion").alike(
        "test accuracy, with bias correction - without"
    )


def sgd_worse(evidence: Evidence) -> Finding:
    return tuned_difference(evidence.study("optimizers"), "adamw", "sgd").larger(
        "test accuracy, AdamW - SGD"
    )


CHECKS: dict[str, Check] = {
    **MEASURED_CHECKS,
    **BATCH_CHECKS,
    **BIG_VISION_CHECKS,
    **FAMILY_CHECKS,
    **SEARCH_CHECKS,
    **TUNING_CHECKS,
    "C005": gain_on_vit,
    "C037": best_of_all,
    "C038": automl_worse,
    "C039": learns_faster,
    "C040": one_beta_worse,
    "C042": one_beta_between,
    "C043": one_beta_between,
    "C058": bias_and_gain,
    "C061": resnet_alike,
    "C065": bias_correction_minor,
    "C066": bias_correction_minor,
    "C081": sgd_worse,
}
"""Claim id -> what the runs here say of it."""
MEASURED = ("C001", "C003", "C053")
"""Claims whose checks measure this machine or this code, not a proxy."""
