"""How sure a number is: intervals over seeds, and tests of a paired difference.

Seeds are few (3 to 10), so every result says its n and its method. In 3,000 simulated samples of
normal values, a BCa bootstrap that says 95 % covers 85 % at n=5, 90 at 10, 92 at 20 and 94 at 30;
Student's interval covers 95 at every n. So a mean of fewer than `MIN_BOOTSTRAP` values gets that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from experiments.analysis.statistics.difference import CONFIDENCE, NUM_RESAMPLES, p_sign_flip

MIN_BOOTSTRAP = 20
"""Fewest values whose mean gets a bootstrap interval instead of Student's."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval."""

    estimate: float
    low: float
    high: float
    n: int  # independent values, mostly seeds
    method: str  # how low and high were found


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Interval of a mean: BCa bootstrap from `MIN_BOOTSTRAP` values on, Student's t below.

    Args:
        values: One per seed; NaN is left out.
        confidence: Between 0 and 1.

    Returns:
        Unbounded for fewer than two values.
    """
    kept = _finite(values)
    if len(kept) >= MIN_BOOTSTRAP and np.ptp(kept) > 0:
        return bootstrap_interval(kept, np.mean, confidence)
    mean = float(kept.mean()) if len(kept) else float("nan")
    if len(kept) < 2:
        return Interval(mean, float("-inf"), float("inf"), len(kept), "none: fewer than 2 values")
    reach = float(stats.t.ppf(0.5 + confidence / 2, len(kept) - 1) * stats.sem(kept))
    return Interval(mean, mean - reach, mean + reach, len(kept), "Student's t")


def bootstrap_interval(
    values: Sequence[float],
    statistic: Callable[..., float] = np.mean,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Interval of any statistic of one sample, by scipy's bootstrap.

    BCa corrects bias and skew, but needs `MIN_BOOTSTRAP` values and some spread; below, the
    interval is the percentile one, which is too narrow (n=5: about 85 % for 95), and says so.
    The draws are fixed, so the same values give the same interval.

    Args:
        values: One per seed; NaN is left out.
        statistic: Of a 1-d array; may take `axis`.
        confidence: Between 0 and 1.
    """
    kept = _finite(values)
    estimate = float(statistic(kept)) if len(kept) else float("nan")
    if len(kept) < 2:
        reason = "none: fewer than 2 values"
        return Interval(estimate, float("-inf"), float("inf"), len(kept), reason)
    is_bca = len(kept) >= MIN_BOOTSTRAP and np.ptp(kept) > 0
    found = stats.bootstrap(
        (kept,),
        statistic,
        n_resamples=NUM_RESAMPLES,
        confidence_level=confidence,
        method="BCa" if is_bca else "percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    name = "BCa bootstrap" if is_bca else "percentile bootstrap, too narrow at this n"
    return Interval(estimate, float(found.low), float(found.high), len(kept), name)


@dataclass(frozen=True)
class PairedTest:
    """Two tests of "the mean paired difference is 0", both two-sided."""

    mean: float  # ours minus theirs
    sd: float  # of the paired differences
    n: int  # pairs
    p_t: float  # Student's paired t-test: assumes normal differences
    p_sign_flip: float  # exact: assumes only that a difference's sign could as well be turned
    p_smallest: float  # least p that the sign-flip test can give at this n: 2 / 2^n


def paired_test(ours: Sequence[float], theirs: Sequence[float]) -> PairedTest:
    """Tests the difference of two arms over the same seeds.

    The sign-flip test goes through all 2^n ways to turn the signs (up to n=13; 9,999 random ones
    above). With 5 pairs its p cannot fall below 0.0625, however large the difference is.

    Args:
        ours: One value per seed.
        theirs: Of the same seeds, in the same order.

    Raises:
        ValueError: where the lengths differ or a value is missing.
    """
    a, b = np.asarray(ours, float), np.asarray(theirs, float)
    if a.shape != b.shape or not np.isfinite(a - b).all():
        raise ValueError(f"not in pairs: {len(a)} and {len(b)} values; use the seeds of both")
    differences, n = a - b, len(a)
    if n < 2:
        mean = float(differences.mean()) if n else float("nan")
        return PairedTest(mean, float("nan"), n, 1.0, 1.0, 1.0)
    return PairedTest(
        mean=float(differences.mean()),
        sd=float(differences.std(ddof=1)),
        n=n,
        p_t=_p_of_t(differences),
        p_sign_flip=p_sign_flip(differences),
        p_smallest=2.0 ** (1 - n),
    )


def _p_of_t(differences: np.ndarray) -> float:
    """Two-sided; equal differences have no spread to judge by, so they show nothing."""
    if np.ptp(differences) <= 1e-9 * max(1.0, float(np.abs(differences).max())):
        return 1.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values of several tests so that the chance of any false alarm stays below alpha.

    The k-th smallest of m is multiplied by m - k + 1; then none may be smaller than the one before.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    scaled = np.minimum(1.0, p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(scaled)
    return adjusted.tolist()


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, float)
    return array[np.isfinite(array)]
