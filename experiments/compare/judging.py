"""The final test: unpaired Welch on fresh seeds, two looks, a floor by the metric's step.

    se^2 = var_ours / n_ours + var_theirs / n_theirs + tau^2 s^2,  s^2 = (var_ours + var_theirs) / 2

tau is the luck of tuning: two equal optimizers, each tuned fairly, differ at their picks by about
tau standard deviations of one run, and no number of seeds makes that smaller. Levels of the looks
by Lan and DeMets (1983); Welch (1947); equivalence as two one-sided tests, Schuirmann (1987).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

ALPHA = 0.05
POWER = 0.90
"""At which seeds are planned."""
TAU = {10: 0.5, 16: 0.5, 25: 0.35, 36: 0.25, 49: 0.2, 64: 0.15}
"""Luck of tuning in sd of one run, by trials. By simulation (`scripts/calibrate_compare.py`), not
an option: it is what makes equal optimizers come out as equal."""
MIN_SEEDS = 3
MAX_SEEDS = 400
ONE_LOOK = 5
"""Up to so many seeds there is one look."""
MIN_EFFECT = 4.0
"""In tau: a smaller effect drowns in the luck of tuning."""
BETTER, WORSE, EQUIVALENT, UNDECIDED = "better", "worse", "equivalent", "undecided"


def tau_of(budget: int) -> float:
    """The luck of tuning with so many trials, sd; that of the next smaller budget in the table."""
    return TAU[max((known for known in TAU if known <= budget), default=min(TAU))]


def smallest_budget(effect: float) -> int | None:
    """Fewest trials that can find an effect, in sd; None where none in the table can."""
    return next((b for b in sorted(TAU) if effect >= MIN_EFFECT * TAU[b]), None)


@lru_cache(maxsize=256)
def seeds_needed(
    effect: float, tau: float, power: float = POWER, alpha: float = ALPHA, most: int = MAX_SEEDS
) -> int:
    """Seeds for each optimizer, for a two-sided test of a true difference.

    Args:
        effect: In sd of one run.
        tau: Luck of tuning, sd.
        power: Wanted.
        alpha: Level.
        most: Returned where no number is enough.
    """
    from scipy import stats

    for n in range(MIN_SEEDS, most):
        df, lag = 2 * n - 2, effect / math.sqrt(2 / n + tau**2)
        if stats.nct.sf(stats.t.isf(alpha / 2, df), df, lag) >= power:
            return n
    return most


def effect_for(n: int, tau: float, least: float | None = None) -> float | None:
    """The largest effect, in sd with two places, for which no fewer seeds are planned; None where
    it would be below `least`, by default what drowns in the luck of tuning."""
    least = MIN_EFFECT * tau if least is None else least
    hundredths = range(math.ceil(100 * least - 1e-9), 1000)
    at = bisect.bisect_right(hundredths, -n, key=lambda one: -seeds_needed(one / 100, tau, most=n))
    return hundredths[at - 1] / 100 if at else None


def looks(n: int) -> tuple[int, ...]:
    """After how many seeds to look."""
    return (max(MIN_SEEDS, (n + 1) // 2), n) if n > ONE_LOOK else (n,)


@lru_cache(maxsize=256)
def levels(share: float, alpha: float) -> tuple[float, float]:
    """Two-sided levels of two looks, the first at this share of all seeds.

    Spending like O'Brien and Fleming's: 2 (2 - 2 Phi(z / sqrt(share))) for the first.
    """
    from scipy import optimize, stats

    if share >= 1:
        return alpha, alpha
    spent = float(4 * stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(share)))
    z = float(stats.norm.isf(spent / 2))
    cov: Any = [[1, math.sqrt(share)], [math.sqrt(share), 1]]

    def excess(c: float) -> float:
        both = stats.multivariate_normal([0, 0], cov).cdf([z, c], lower_limit=[-z, -c])
        return float(1 - alpha - both)

    return spent, float(2 * stats.norm.sf(optimize.brentq(excess, 0.5, 9, xtol=1e-4)))


@dataclass(frozen=True)
class Interval:
    """A difference of scores, ours minus theirs, in the metric's unit; higher is better."""

    mean: float
    low: float  # of the optimizers: with the luck of tuning
    high: float
    low_wide: float  # of the equivalence test
    high_wide: float
    low_settings: float  # of the two settings found: without it
    high_settings: float
    sd: float  # of one run, both pooled
    n_ours: int
    n_theirs: int
    varied: bool  # whether any run differs from another of its optimizer

    def verdict(self, margin: float) -> str:
        """Better, worse, equivalent or undecided, of ours."""
        if self.low > 0:
            return BETTER
        if self.high < 0:
            return WORSE
        if -margin < self.low_wide and self.high_wide < margin:
            return EQUIVALENT
        return UNDECIDED


def interval(
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    tau: float,
    step: float = 0.0,
    level: float = ALPHA,
    wide: float = 2 * ALPHA,
) -> Interval:
    """Judges two samples of scores, at least two of each.

    Args:
        ours: Scores, NaN left out.
        theirs: The same.
        tau: Luck of tuning, sd.
        step: Between two values of the metric; 0: none.
        level: Two-sided.
        wide: Level of the interval for the equivalence test.
    """
    from scipy import stats

    a, b = (np.array([v for v in values if math.isfinite(v)]) for values in (ours, theirs))
    na, nb = len(a), len(b)
    va, vb = (max(float(v.var(ddof=1)), step**2 / 4) for v in (a, b))
    mean = float(a.mean() - b.mean())
    varied = bool(np.ptp(a) > 0 or np.ptp(b) > 0)
    square = va / na + vb / nb
    part = va / na / square if square else 0.5  # as a share, so that tiny values do not vanish
    df = 1 / (part**2 / (na - 1) + (1 - part) ** 2 / (nb - 1))
    pooled = (va + vb) / 2
    error = math.sqrt(square + tau**2 * pooled)
    reach, reach_wide = (float(stats.t.isf(at / 2, df)) for at in (level, wide))
    own = reach * math.sqrt(square)
    return Interval(
        mean=mean,
        low=mean - reach * error,
        high=mean + reach * error,
        low_wide=mean - reach_wide * error,
        high_wide=mean + reach_wide * error,
        low_settings=mean - own,
        high_settings=mean + own,
        sd=math.sqrt(pooled),
        n_ours=na,
        n_theirs=nb,
        varied=varied,
    )


def more_seeds(mean: float, sd: float, tau: float, margin: float, n: int) -> int | None:
    """How many seeds more would decide if the difference stays; None where none would."""
    from scipy import stats

    totals = np.arange(n + 1, MAX_SEEDS)
    error, df = sd * np.sqrt(2 / totals + tau**2), 2 * totals - 2
    is_shown = abs(mean) > stats.t.isf(ALPHA / 2, df) * error
    is_excluded = abs(mean) + stats.t.isf(ALPHA, df) * error < margin
    enough = totals[is_shown | is_excluded]
    return int(enough[0]) - n if len(enough) else None


def step_of(values: Sequence[float]) -> float:
    """The step of a quantised metric, from its values; 0 where there is none to be seen.

    The smallest gap between values, if all gaps to the next value are multiples of it.
    """
    known = np.unique([v for v in values if math.isfinite(v)])
    if len(known) < 4:
        return 0.0
    gaps = np.diff(known)
    gaps = gaps[gaps > 1e-9 * max(1.0, float(np.abs(known).max()))]
    if len(gaps) < 3:
        return 0.0
    step = float(gaps.min())
    whole = np.round(gaps / step)
    step = float(np.sum(gaps) / np.sum(whole))
    is_multiple = np.abs(gaps - whole * step) <= 0.1 * step
    return step if bool(is_multiple.all()) else 0.0
