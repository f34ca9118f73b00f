"""Claims that runs at the paper's own size answer: results/studies/EXPERIMENT/paper/runs.csv, once
there.

The recipes are the paper's, so there is one setting per optimizer and nothing is picked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from experiments.analysis.claims.evidence import (
    CONTRADICTED,
    INCONCLUSIVE,
    PAPER_SCALE,
    SUPPORTED,
    Evidence,
    Finding,
)
from experiments.analysis.claims.tuned_pairs import Tuned, tuned_difference


def _gain(evidence: Evidence, experiment: str) -> Tuned:
    """Test accuracy of Lion minus AdamW by seed."""
    return tuned_difference(evidence.paper_scale([experiment]), "lion", "adamw")


def gain(experiment: str) -> Callable[[Evidence], Finding]:
    """Whether Lion is ahead of AdamW in one experiment."""

    def check(evidence: Evidence) -> Finding:
        found = _gain(evidence, experiment).larger(f"test accuracy, Lion - AdamW, {experiment}")
        return replace(found, scale=PAPER_SCALE)

    return check


def gain_grows(smaller: str, larger: str) -> Callable[[Evidence], Finding]:
    """Whether the gain in one experiment is above that in another, by seed."""

    def check(evidence: Evidence) -> Finding:
        evidence.paper_scale([smaller, larger])  # both, or none
        gains = [_gain(evidence, name) for name in (larger, smaller)]
        found = gains[0].less(gains[1])
        return replace(found.larger(f"gain in {larger} - in {smaller}"), scale=PAPER_SCALE)

    return check


def resnet_alike(evidence: Evidence) -> Finding:
    """Lion, AdamW and SGD on ResNet-50: the widest of three pairs."""
    table = evidence.paper_scale(["resnet50_imagenet"])
    pairs = [("lion", "adamw"), ("lion", "sgd"), ("adamw", "sgd")]
    found = [tuned_difference(table, *p).alike(f"test accuracy, {p[0]} - {p[1]}") for p in pairs]
    return replace(widest(found), scale=PAPER_SCALE)


def widest(found: list[Finding]) -> Finding:
    """The finding furthest from 0; supported only if all are, contradicted if any is."""
    verdicts = {f.verdict for f in found}
    verdict = CONTRADICTED if CONTRADICTED in verdicts else INCONCLUSIVE
    verdict = SUPPORTED if verdicts == {SUPPORTED} else verdict
    shown = max(found, key=lambda f: max(abs(f.low), abs(f.high)))
    return replace(shown, verdict=verdict, note=f"widest of {len(found)} pairs; {shown.note}")


CHECKS: dict[str, Callable[[Evidence], Finding]] = {
    "C005": gain("vit_b16_imagenet"),
    "C056": gain_grows("vit_s16_imagenet", "vit_b16_imagenet"),
    "C059": gain_grows("vit_b16_imagenet_aug", "vit_b16_imagenet"),
    "C061": resnet_alike,
}
"""Claim id -> what runs at the paper's size say of it."""
