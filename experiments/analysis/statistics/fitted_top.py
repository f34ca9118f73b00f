"""The top of what was tried: a local quadratic with a weak prior, and how sure it is.

Settings are pairs (lr, weight decay) in decades from where a search began; values are in standard
deviations of one run (higher is better). The best cell of a grid is never the pick: every run
informs the fitted top, and one lucky run does not move it. Source: Box and Wilson (1951) for fitted
optima; kernel, prior and scatter by simulation (`scripts/calibrate_compare.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WIDTH = np.array([0.45, 0.6])
"""Decades in lr and weight decay: trials farther than this from the top count little."""
CURVATURE = ((15.0, 10.0), (2.0, 2.0), (0.0, 3.0))
"""Prior mean and sd of the fall in lr, in weight decay and in both, sd per decade^2."""
NOISE_GROWTH = 0.3
"""A run that lies d sd below the top has a standard deviation of 1 + 0.3 d, up to d = 10."""
FLOOR = 15.0
"""sd below the best run: whatever lies lower is fitted as if it lay there. Losses that explode by
hundreds of sd would bend the surface at its top, and pass for noise."""
FEW, ENOUGH = 6, 12
"""Fewest values that are fitted at all, and from how many on the mixed term is, too."""
RISING = np.array([0.0, 1.0])
"""Slopes, sd per decade, above which a top at the end of what was tried still rises."""
MOST_ON_BOX = 0.1
"""Share of the bootstrap's tops on an end of what was tried, above which no top is known there."""
FLAT = 0.5
"""sd per decade^2 of weight decay, below which there is no top to speak of."""
MAX_TURNS = 5
_GRID = 33
_FREE = 1e-6


@dataclass(frozen=True)
class Fit:
    """A fitted top."""

    top: np.ndarray  # (2,) decades
    rising: np.ndarray  # (2,) +1 or -1: lies at that end of what was tried and still rises; else 0
    draws: np.ndarray  # (draws, 2) tops of a parametric bootstrap
    on_box: np.ndarray  # (2,) share of the draws that lie at the lower, (2,) at the upper end
    spread: float  # sd of one run near the top, in the unit of the values; NaN: not known
    curvature: np.ndarray  # (2,) sd per decade^2, downwards
    own_decay: float  # curvature in weight decay that the data alone show, less its standard error
    coefficients: np.ndarray  # about `center`: 1, u, v, uu, vv[, uv]
    center: np.ndarray

    @property
    def is_flat(self) -> bool:
        """Whether weight decay has no top to speak of, or one by the prior of the fit alone."""
        return bool(self.curvature[1] < FLAT or self.own_decay < 0)

    def loss_at(self, points: np.ndarray) -> np.ndarray:
        """How much worse than at the top, sd, by the fit. Points: (n, 2) decades."""
        size = len(self.coefficients)
        both = np.vstack([self.top, points]) - self.center
        at = _features(both, size) @ self.coefficients
        return at[0] - at[1:]


def fit(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator | None = None, draws: int = 0
) -> Fit:
    """Fits 1, u, v, uu, vv, uv weighted by closeness to its own top and by the noise there.

    weight = exp(-(u / .45)^2 / 2 - (v / .6)^2 / 2) / (1 + .3 deficit)^2, re-centred up to 5 times.

    Args:
        x: (n, 2) decades.
        y: (n,) values in sd; NaN: diverged, which takes no part.
        rng: For `draws` of the bootstrap.
        draws: How many.
    """
    alive = np.isfinite(y)
    x, y = x[alive], y[alive]
    if len(y) < FEW:
        return _too_few(x, y)
    y = np.maximum(y - y.max(), -FLOOR)
    size = 6 if len(y) >= ENOUGH else 5
    box = np.stack([x.min(0), x.max(0)])
    grid = np.stack(np.meshgrid(*np.linspace(box[0], box[1], _GRID).T), -1).reshape(-1, 2)
    precision, prior = _prior(size)
    center, certain = x[np.argmax(y)], np.ones(len(y))
    for turn in range(MAX_TURNS):
        local = _solve(x, y, center, certain, precision, prior)
        near = grid[(((grid - center) / WIDTH) ** 2).sum(1) < 4]
        at = _features(near - center, size)
        top = near[np.argmax(at @ local.coefficients)]
        if turn == MAX_TURNS - 1 or (turn > 1 and np.allclose(top, center, atol=0.02)):
            return _found(local, y, certain, near, top, box, rng, draws)
        below = (at @ local.coefficients).max() - local.design @ local.coefficients
        certain = 1 / (1 + NOISE_GROWTH * np.clip(below, 0, 10)) ** 2
        center = top
    raise AssertionError("the last turn returns")


@dataclass(frozen=True)
class _Local:
    """One weighted fit about a center."""

    center: np.ndarray
    design: np.ndarray
    kernel: np.ndarray
    weighted: np.ndarray
    inverse: np.ndarray
    coefficients: np.ndarray


def _prior(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision of each coefficient, and precision times mean."""
    precision = np.array([_FREE] * 3 + [1 / sd**2 for _, sd in CURVATURE])[:size]
    return precision, precision * np.array([0.0] * 3 + [-mean for mean, _ in CURVATURE])[:size]


def _solve(
    x: np.ndarray,
    y: np.ndarray,
    center: np.ndarray,
    certain: np.ndarray,
    precision: np.ndarray,
    prior: np.ndarray,
) -> _Local:
    kernel = np.exp(-0.5 * (((x - center) / WIDTH) ** 2).sum(1)) + 1e-3
    design = _features(x - center, len(prior))
    weighted = design * (kernel * certain)[:, None]
    inverse = np.linalg.inv(design.T @ weighted + np.diag(precision))
    return _Local(center, design, kernel, weighted, inverse, inverse @ (weighted.T @ y + prior))


def _found(
    local: _Local,
    y: np.ndarray,
    certain: np.ndarray,
    near: np.ndarray,
    top: np.ndarray,
    box: np.ndarray,
    rng: np.random.Generator | None,
    draws: int,
) -> Fit:
    """What the last fit says: edges, spread of the residuals, tops of the bootstrap."""
    coefficients, size = local.coefficients, len(local.coefficients)
    ends = np.isclose(top, box) * [[-1], [1]]
    slope = (coefficients[1:3] + 2 * coefficients[3:5] * (top - local.center)) * ends
    rising = (ends * (slope > RISING)).sum(0)
    shaken = np.zeros((1, len(y)))
    if draws and rng is not None:
        shaken = rng.normal(size=(draws, len(y))) / np.sqrt(certain)
    moved = coefficients + shaken @ local.weighted @ local.inverse
    tops = near[np.argmax(moved @ _features(near - local.center, size).T, 1)]
    misses = (y - local.design @ coefficients) ** 2
    residual = np.sum(local.kernel * certain * misses) / np.sum(local.kernel)
    spread = float(np.sqrt(residual * len(y) / max(len(y) - size, 1)))
    on_box = np.stack([np.isclose(tops, end).mean(0) for end in box])
    curvature = -coefficients[3:5]
    own = _own_decay(local, y)
    return Fit(top, rising, tops, on_box, spread, curvature, own, coefficients, local.center)


def _own_decay(local: _Local, y: np.ndarray) -> float:
    """The curvature in weight decay without its prior, one standard error below.

    A prior alone would give every flat weight decay a top.
    """
    size = local.design.shape[1]
    precision, prior = _prior(size)
    precision[4], prior[4] = _FREE, 0.0
    inverse = np.linalg.inv(local.design.T @ local.weighted + np.diag(precision))
    found = inverse @ (local.weighted.T @ y + prior)
    return float(-found[4] - np.sqrt(inverse[4, 4]))


def _too_few(x: np.ndarray, y: np.ndarray) -> Fit:
    """Nothing to fit: the best value, said to rise everywhere."""
    top = x[np.argmax(y)] if len(y) else np.zeros(2)
    nothing = np.zeros(5)
    ends = np.ones((2, 2))
    return Fit(top, np.ones(2), top[None], ends, np.nan, np.zeros(2), 0.0, nothing, top)


def _features(z: np.ndarray, size: int) -> np.ndarray:
    u, v = z[:, 0], z[:, 1]
    return np.stack([np.ones_like(u), u, v, u * u, v * v, u * v], 1)[:, :size]
