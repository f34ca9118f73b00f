"""By how much the best settings of two optimizers differ, or why that is not determined.

Interval: 2.5 to 97.5 % of the differences of the bootstrap's tops, widened on both sides by what a
quadratic does not fit. By simulation it covers 95 to 98 % of the true ratios.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from experiments.analysis.statistics.fitted_top import MOST_ON_BOX
from experiments.compare.search import MIN_FULL, Search

WIDER = (0.05, 0.2)
"""Decades added to both ends, lr and weight decay."""
WIDEST = (math.log10(3), 1.0)
"""Reach in decades above which a ratio is not determined."""
LOSS_OF_FLAT = 1.0
"""sd: the range of a flat weight decay is that where no more is lost."""


@dataclass(frozen=True)
class Ratio:
    """Best setting of the contestant over that of the baseline, on one axis."""

    value: float | None = None  # None: not determined
    low: float | None = None
    high: float | None = None
    reason: str | None = None  # edge, few, wide, flat, unused; bound: only low or high is known
    range: tuple[float, float] | None = None  # of a flat weight decay
    whose: str = ""  # name of the optimizer that has this range, or does not use it; both: ""
    loss: float | None = None  # at most, within the range; unit of the metric


def of_picks(ours: Search, theirs: Search) -> tuple[Ratio, Ratio]:
    """lr and weight decay."""
    return _ratio(ours, theirs, 0), _ratio(ours, theirs, 1)


def _ratio(ours: Search, theirs: Search, axis: int) -> Ratio:
    a, b = ours.last, theirs.last
    assert a is not None and b is not None
    if a.rising[axis] or b.rising[axis]:
        return Ratio(reason="edge")
    if axis == 1 and min(ours.num_trials, theirs.num_trials) < MIN_FULL:
        return Ratio(reason="few")
    for one in (ours, theirs) if axis == 1 else ():
        if one.last is not None and one.last.is_flat:
            return _flat(one)
    size = min(len(a.draws), len(b.draws))
    origin = math.log10(_of(ours, axis) / _of(theirs, axis))
    draws = a.draws[:size, axis] - b.draws[:size, axis] + origin
    low, high = np.quantile(draws, [0.025, 0.975]) + np.array([-1, 1]) * WIDER[axis]
    middle = a.top[axis] - b.top[axis] + origin
    low, high = min(low, middle), max(high, middle)
    if max(a.on_box[:, axis].max(), b.on_box[:, axis].max()) > MOST_ON_BOX:
        return _bound(a.on_box[:, axis], b.on_box[:, axis], float(low), float(high))
    if (high - low) / 2 > WIDEST[axis]:
        return Ratio(reason="wide")
    return Ratio(float(10**middle), float(10**low), float(10**high))


def _bound(ours: np.ndarray, theirs: np.ndarray, low: float, high: float) -> Ratio:
    """Tops at an end of the box: the ratio is at least, or at most, so much."""
    may_be_smaller = ours[0] > MOST_ON_BOX or theirs[1] > MOST_ON_BOX
    may_be_larger = ours[1] > MOST_ON_BOX or theirs[0] > MOST_ON_BOX
    if may_be_smaller and may_be_larger:
        return Ratio(reason="wide")
    if may_be_larger:
        return Ratio(low=10**low, reason="bound")
    return Ratio(high=10**high, reason="bound")


def _flat(search: Search) -> Ratio:
    """The range of weight decays about the top within which little is lost."""
    found = search.last
    assert found is not None
    decays = np.linspace(search.x[:, 1].min(), search.x[:, 1].max(), 101)
    lost = found.loss_at(np.stack([np.full(101, found.top[0]), decays], 1))
    near = decays[lost <= LOSS_OF_FLAT]
    ends = tuple(float(search.start.weight_decay * 10**at) for at in (near.min(), near.max()))
    within = lost[(decays >= near.min()) & (decays <= near.max())]
    loss = float(within.max()) * search.sd
    return Ratio(reason="flat", range=(ends[0], ends[1]), whose=search.name, loss=loss)


def _of(search: Search, axis: int) -> float:
    return (search.start.lr, search.start.weight_decay)[axis]
