"""What a comparison of n paired seeds can see, and how many seeds a wanted effect needs.

For a two-sided paired t-test with standard deviation sd of the paired differences, the test
statistic has a noncentral t distribution with n - 1 degrees of freedom and noncentrality
effect * sqrt(n) / sd, so

    power = P(T > t_crit) + P(T < -t_crit),   t_crit = quantile of t_(n-1) at 1 - alpha / 2.
"""

from __future__ import annotations

import math

from scipy import optimize, stats

from experiments.analysis.statistics.difference import ALPHA, MIN_SEEDS

POWER = 0.8
MAX_SEEDS = 1_000_000
_LARGE = 1e4
"""Noncentrality from which on the power is 1 to the last digit, for every n >= 2."""


def power(effect: float, sd: float, n: int, alpha: float = ALPHA, luck: float = 0.0) -> float:
    """Chance that the paired t-test finds a true difference.

    Args:
        effect: True mean difference, in the unit of sd.
        sd: Standard deviation of the paired differences, > 0.
        n: Pairs, >= 2.
        alpha: Two-sided level.
        luck: Standard error beside that of seeds, which no seed makes smaller (`tuning_luck`).

    Raises:
        ValueError: for sd <= 0 or n < 2.
    """
    _check(sd)
    if n < 2:
        raise ValueError(f"n={n}: a paired test needs at least 2 seeds")
    critical = float(stats.t.ppf(1 - alpha / 2, n - 1))
    noncentrality = abs(effect) / math.hypot(sd / math.sqrt(n), luck)
    above = float(stats.nct.sf(critical, n - 1, min(noncentrality, _LARGE)))
    # Beyond 8 the lower tail is below 1e-13, and scipy's cdf is NaN for some arguments.
    below = float(stats.nct.cdf(-critical, n - 1, noncentrality)) if noncentrality < 8 else 0.0
    return min(1.0, above + below)


def detectable_difference(
    sd: float, n: int, wanted_power: float = POWER, alpha: float = ALPHA
) -> float:
    """Smallest true difference that n paired seeds find with the wanted power.

    Solves `power(difference, sd, n) = wanted_power`; proportional to sd.
    """
    _check(sd)
    _check_power(wanted_power, alpha)
    reach = 1.0
    while power(reach, 1.0, n, alpha) < wanted_power:
        reach *= 2

    def lacking(effect: float) -> float:
        return power(effect, 1.0, n, alpha) - wanted_power

    return sd * float(optimize.brentq(lacking, 0.0, reach, xtol=1e-9))


def seeds_needed(
    effect: float,
    sd: float,
    wanted_power: float = POWER,
    alpha: float = ALPHA,
    luck: float = 0.0,
) -> float:
    """Fewest paired seeds that find a true difference with the wanted power.

    Args:
        effect: That is wanted, stated beforehand. The difference that was observed is no such
            effect: it is as uncertain as the answer that it is asked for.
        sd: Standard deviation of the paired differences, > 0.
        wanted_power: Chance of finding it.
        alpha: Two-sided level.
        luck: As for `power`.

    Returns:
        At least `MIN_SEEDS`, below which no difference counts as shown; infinity where even
        `MAX_SEEDS` do not suffice (the effect is 0, or little beside the luck).
    """
    _check(sd)
    _check_power(wanted_power, alpha)
    low, high = MIN_SEEDS - 1, MIN_SEEDS
    while power(effect, sd, high, alpha, luck) < wanted_power:
        low, high = high, 2 * high
        if high > MAX_SEEDS:
            return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        if power(effect, sd, middle, alpha, luck) < wanted_power:
            low = middle
        else:
            high = middle
    return high


def _check(sd: float) -> None:
    if not (sd > 0 and math.isfinite(sd)):
        raise ValueError(f"sd={sd}: must be a finite number greater than 0")


def _check_power(wanted: float, alpha: float) -> None:
    if not alpha < wanted < 1:
        raise ValueError(f"wanted_power={wanted}: must lie between alpha={alpha:g} and 1")
