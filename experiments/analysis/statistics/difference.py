"""When a difference of two optimizers counts as shown: one rule, for every judge.

A difference over n seeds is shown (better or worse) only where all of these hold:

1. both were tuned: neither setting lies on the edge of its grid;
2. Student's 95 % interval of the paired differences does not hold 0, with a spread of at least
   what the metric's own steps give: of values that lie a step s apart (100 / examples, for an
   accuracy), each is uncertain by s / 2, their difference by s / sqrt(2). Equal differences on
   every seed are no certainty;
3. the mean is not smaller than one step;
4. an exact test agrees at 5 %. From 6 pairs on that is the sign-flip test; for 4 and 5 pairs,
   where it cannot fall below 5 %, all ways of dividing the 2 n values over two groups. Fewer than
   4 seeds show nothing.

Where a metric's step is not known and the differences have no spread, nothing is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from experiments.headline import Direction

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
MIN_PAIRS = 6
"""Fewest pairs of which the sign-flip test can fall below 5 %: 2 / 2^6 = 0.03."""
MIN_SEEDS = 4
"""Fewest seeds of which dividing the values can: 2 / C(8, 4) = 0.03."""
NUM_RESAMPLES = 9999
BETTER, WORSE, INCONCLUSIVE, NOT_TUNED = "better", "worse", "inconclusive", "not tuned"


@dataclass(frozen=True)
class Difference:
    """Result of one optimizer minus another's, over paired seeds."""

    mean: float  # in the metric's unit; of accuracies in points
    low: float  # 95% interval, see the module
    high: float
    n: int
    better: Direction = "higher"  # of the metric
    sd: float = math.nan  # of the paired differences, not below the metric's steps
    p_t: float = 1.0  # of Student's test with that spread
    p_exact: float = 1.0
    resolution: float = 0.0  # one step of the metric; 0: not known, or none
    correlation: float = math.nan  # of the pairs; below about 0.3 pairing has bought nothing
    untuned: tuple[str, ...] = ()  # whose best setting lies on the edge of its grid

    @property
    def verdict(self) -> str:
        """On the first of the two: better, worse, inconclusive, or not tuned."""
        if self.untuned:
            return NOT_TUNED
        if self.reason:
            return INCONCLUSIVE
        return BETTER if (self.mean > 0) == (self.better == "higher") else WORSE

    @property
    def reason(self) -> str:
        """Why nothing is shown; empty where it is."""
        if self.n < MIN_SEEDS:
            of_seeds = "1 seed shows" if self.n == 1 else f"{self.n} seeds show"
            return f"{of_seeds} nothing: it takes {MIN_SEEDS}"
        if not math.isfinite(self.low):
            return "no spread over the seeds, and the steps of the metric are not known"
        if self.low <= 0 <= self.high:
            alone = f", though an exact test says p {self.p_exact:.2g}"
            return "the interval holds 0" + (alone if self.p_exact <= ALPHA else "")
        if abs(self.mean) < self.resolution:
            return f"smaller than one step of the metric, {self.resolution:.2g}"
        if self.p_exact > ALPHA:
            return f"an exact test says p {self.p_exact:.2g}"
        return ""


def difference_of(
    differences: Sequence[float],
    arms: tuple[Sequence[float], Sequence[float]] | None = None,
    *,
    resolution: float = 0.0,
    better: Direction = "higher",
    untuned: tuple[str, ...] = (),
) -> Difference:
    """Judges paired differences.

    Args:
        differences: One per seed.
        arms: The two values behind each, where there are two; else only signs can be turned.
        resolution: One step of the metric; 0 where it is not known.
        better: Of the metric.
        untuned: Names of optimizers that are not tuned.

    Returns:
        Unbounded for fewer than two, or where nothing tells the spread.
    """
    values = np.asarray(differences, float)
    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    facts = {"better": better, "resolution": resolution, "untuned": untuned}
    unbounded = Difference(mean, -math.inf, math.inf, n, **facts)
    if n < 2:
        return unbounded
    sd = max(float(values.std(ddof=1)), resolution / math.sqrt(2))
    if sd <= 1e-9 * max(1.0, abs(mean)):  # what is left of equal values is rounding
        return unbounded
    error = sd / math.sqrt(n)
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * error
    return Difference(
        mean,
        mean - reach,
        mean + reach,
        n,
        sd=sd,
        p_t=float(2 * stats.t.sf(abs(mean) / error, n - 1)),
        p_exact=p_exact(values, arms),
        correlation=_correlation(arms),
        **facts,
    )


def of_pairs(pairs: pd.DataFrame, **facts: object) -> Difference:
    """Judges a table with the columns ours and theirs, a row per seed; see `difference_of`."""
    whole = pairs.dropna()
    arms = (whole.ours.to_numpy(float), whole.theirs.to_numpy(float))
    return difference_of(arms[0] - arms[1], arms, **facts)  # pyright: ignore[reportArgumentType]


def p_exact(
    differences: np.ndarray, arms: tuple[Sequence[float], Sequence[float]] | None = None
) -> float:
    """Two-sided p of the exact test that fits the number of pairs; 1 where none can decide."""
    n = len(differences)
    if n >= MIN_PAIRS:
        return p_sign_flip(differences)
    if arms is None or n < MIN_SEEDS:
        return 1.0
    values = np.concatenate([np.asarray(arm, float) for arm in arms])
    sums = np.array([values[list(group)].sum() for group in combinations(range(2 * n), n)])
    away = np.abs(sums - values.sum() / 2)
    return float(np.mean(away >= away[0] - 1e-9 * max(1.0, away.max())))  # [0]: as they are


def p_sign_flip(differences: np.ndarray) -> float:
    """Two-sided: through all 2^n ways to turn the signs up to n=13, 9,999 random ones above."""
    found = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=NUM_RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _correlation(arms: tuple[Sequence[float], Sequence[float]] | None) -> float:
    if arms is None or len(arms[0]) < 3 or min(np.ptp(arms[0]), np.ptp(arms[1])) == 0:
        return math.nan
    return float(np.corrcoef(arms[0], arms[1])[0, 1])
