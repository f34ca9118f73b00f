"""How a comparison writes its numbers: back in the metric, with digits that the noise allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from experiments.compare.plan import Result
from experiments.rounded import rounded


def raw_interval(
    result: Result, mean: float, low: float, high: float
) -> tuple[float, float, float]:
    """From scores back to the metric, where lower may be better."""
    if result.plan.sign > 0:
        return mean, low, high
    return -mean, -high, -low


def decimals_of(sd: float) -> int:
    """Places behind the point that show two digits of a run's noise; none of them is certain."""
    return 3 if not sd > 0 else int(np.clip(1 - math.floor(math.log10(sd)), 0, 8))


def decimals(result: Result) -> int:
    """The same, of the metric's noise in a comparison."""
    return decimals_of(result.sd)


def numbers(result: Result) -> Callable[[float], str]:
    """Writes a value of the metric with as many digits as the noise of a run allows."""
    return partial(rounded, digits=decimals(result))


def amount(value: float, number: Callable[[float], str], unit: str) -> str:
    """A value with its unit, if it has one."""
    return f"{number(value)} {unit}".strip()
