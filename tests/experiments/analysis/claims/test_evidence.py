"""What a difference says of a claim: larger, alike, within a range; and how many seeds decide."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from experiments.analysis.claims.evidence import is_alike, is_larger, is_within
from experiments.analysis.statistics.difference import Difference
from experiments.analysis.statistics.power import seeds_needed

SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"


def of(low: float, high: float, n: int = 8) -> Difference:
    return Difference((low + high) / 2, low, high, n, sd=0.7, p_exact=0.01)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.5, 0.7, SUPPORTED),
        (-1.2, 0.7, INCONCLUSIVE),  # one end lies outside, though the mean does not
        (-0.7, 1.2, INCONCLUSIVE),
        (0.1, 0.7, INCONCLUSIVE),  # shown, though smaller than the margin
        (0.5, 2.5, INCONCLUSIVE),  # shown, and its mean beyond the margin
        (1.2, 2.8, CONTRADICTED),
        (-2.8, -1.2, CONTRADICTED),
    ],
)
def test_alike_is_a_whole_interval_within_a_point(low: float, high: float, verdict: str) -> None:
    found = is_alike(of(low, high), "x", "points")
    assert found.verdict == verdict
    can_decide = verdict == INCONCLUSIVE and (low, high) != (0.1, 0.7)
    # Both ends must lie within: 90 % for each.
    seeds = seeds_needed(1.0, 0.7, 0.9) if can_decide else math.nan
    assert found.seeds_to_decide == pytest.approx(seeds, nan_ok=True)
    for weak in (replace(of(low, high), untuned=("lion",)), of(low, high, n=3)):
        assert is_alike(weak, "x", "points").verdict == INCONCLUSIVE
    untuned = is_alike(replace(of(low, high), untuned=("lion",)), "x", "points")
    assert math.isnan(untuned.seeds_to_decide), "more seeds do not tune it"


def test_larger_is_what_is_shown_and_the_seeds_are_for_a_stated_effect() -> None:
    verdicts = {of(0.1, 0.7): SUPPORTED, of(-0.7, -0.1): CONTRADICTED, of(-0.1, 0.7): INCONCLUSIVE}
    for difference, verdict in verdicts.items():
        assert is_larger(difference, "x", "nats").verdict == verdict
    open_one = of(-0.1, 0.7)
    assert is_larger(open_one, "x", "points").seeds_to_decide == seeds_needed(1.0, 0.7, 0.8)
    assert is_larger(open_one, "x", "nats", effect=0.2).seeds_to_decide == seeds_needed(0.2, 0.7)
    assert math.isnan(is_larger(open_one, "x", "nats").seeds_to_decide), "no effect is stated"
    assert math.isnan(is_larger(of(0.1, 0.7), "x", "points").seeds_to_decide), "it is decided"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(2, 3, SUPPORTED), (1, 5, SUPPORTED), (0.5, 3, INCONCLUSIVE), (3, 6, INCONCLUSIVE),
     (0, 6, INCONCLUSIVE), (6, 7, CONTRADICTED), (0, 0.5, CONTRADICTED), (5, 6, INCONCLUSIVE)],
)  # fmt: skip
def test_within_a_claimed_range(low: float, high: float, verdict: str) -> None:
    assert is_within(low, high, (1, 5)) == verdict
