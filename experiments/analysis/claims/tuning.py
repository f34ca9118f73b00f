"""Claims on tuning, from the grid over learning rate and weight decay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from experiments.analysis.claims.evidence import (
    CONTRADICTED,
    INCONCLUSIVE,
    MARGIN,
    SUPPORTED,
    Evidence,
    Finding,
    is_larger,
    is_within,
)
from experiments.analysis.statistics import tuning
from experiments.analysis.statistics.best_settings import fitted_ratios
from experiments.rounded import rounded
from experiments.store import UserError

ABOUT_EQUAL = 4.0
"""Factor within which lr x weight decay of two optimizers counts as about equal: the paper's own
settings lie as far apart (0.25 to 3.33)."""

REASONS = {
    "edge": "a top lies on the edge of its grid",
    "flat": "a weight decay has no top to speak of",
    "few values": "a grid has too few values",
    "one value": "a grid has one weight decay",
}
"""Why `fitted_ratios` tells none, in words."""


def lr_smaller(evidence: Evidence) -> Finding:
    return _ratio(evidence, "adamw", "lion", "lr", (3, 10), "best lr, AdamW / Lion")


def decay_larger(evidence: Evidence) -> Finding:
    found = _ratio(
        evidence, "lion", "adamw", "weight_decay", (3, 10), "best weight decay, Lion / AdamW"
    )
    product = fitted_ratios(evidence.study("heatmap"))["effective_decay"]
    text = f"lr x weight decay, AdamW / Lion: {product.estimate:.3g}"
    text += f" ({product.low:.2g} to {product.high:.2g})"
    verdict, slack = found.verdict, 1 + 1e-6
    is_equal = 1 / (ABOUT_EQUAL * slack) <= product.low and product.high <= ABOUT_EQUAL * slack
    if verdict == SUPPORTED and not is_equal:
        verdict = INCONCLUSIVE
        text = f"larger is shown, but not that lr x weight decay stays about equal; {text}"
    text += f"; about equal: within {ABOUT_EQUAL:g} x either way"
    return replace(found, verdict=verdict, note=f"{found.note}; {text}")


def _ratio(
    evidence: Evidence,
    over: str,
    under: str,
    column: str,
    claimed: tuple[float, float],
    measure: str,
) -> Finding:
    study = evidence.study("heatmap")
    found = fitted_ratios(study, over, under)[column]
    if found.reason:
        raise UserError(f"{measure}: no ratio is known: {REASONS[found.reason]}; extend the grid")
    note = (
        "fitted tops of both grids, bootstrap of the fit; supported: the estimate lies within "
        f"{claimed[0]:g} to {claimed[1]:g} and the interval above 1; contradicted: the interval "
        "lies apart from that range"
    )
    verdict = INCONCLUSIVE
    if is_within(found.low, found.high, claimed) == CONTRADICTED:
        verdict = CONTRADICTED
    elif found.low > 1 and claimed[0] <= found.estimate <= claimed[1]:
        verdict = SUPPORTED
    ends, n = (found.estimate, found.low, found.high), study.seed.nunique()
    return Finding(measure, *ends, n, "x", verdict if n > 1 else INCONCLUSIVE, note=note)


def less_sensitive(evidence: Evidence) -> Finding:
    """Range of the grid: AdamW's minus Lion's, over like grids."""
    table = evidence.study("heatmap")
    share, spread = tuning.sensitivity_difference(table, "lion", "adamw", MARGIN)
    turned = replace(spread, mean=-spread.mean, low=-spread.high, high=-spread.low)

    def points(share: float) -> str:
        return rounded(100 * share, 0, signed=True)

    note = (
        f"validation; share of cells within {MARGIN:g} point of the best, Lion - AdamW: "
        f"{points(share.mean)} points ({points(share.low)} to {points(share.high)})"
    )
    return is_larger(turned, "best minus worst cell of the grid, AdamW - Lion", "points", note)


CHECKS: dict[str, Callable[[Evidence], Finding]] = {
    "C050": lr_smaller,
    "C051": decay_larger,
    "C052": less_sensitive,
}
"""Claim id -> what the grid says of it."""
