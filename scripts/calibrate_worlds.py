"""Made-up models for `calibrate_compare.py` and `calibrate_grids.py`.

A user is two surfaces of true mean validation value over (log10 lr, log10 weight decay), the
baseline's and the contestant's: a quadratic top, a steeper fall and divergence at high lr, a
plateau below and a fall above in weight decay, noise that grows off the top. All numbers are in
standard deviations of one run at a good setting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from experiments.compare.asking import Answer, Ask, Setting

HEATMAP = Path(__file__).resolve().parent.parent / "results/studies/vit_proxy/heatmap/runs.csv"
START = Setting(1e-3, 0.1)
SKEW_SHAPE = 8.0
"""Of the gamma noise: skewed to the left by -0.7, excess kurtosis 0.75, as accuracies are."""
SECOND_LOSS = 1.0
"""sd by which a second top is worse than the first."""


@dataclass
class Surface:
    """One optimizer on one model; coordinates are decades from `START`."""

    best: np.ndarray  # where the true optimum lies
    a: float  # curvature in lr, sd per decade^2
    b: float  # in weight decay
    r: float  # interaction, as a correlation
    skew: float  # how much steeper the high-lr side is
    cliff: float  # decades above the best lr where runs begin to diverge
    plateau: float  # most that a too small weight decay costs
    crash: float  # chance that a run is lost whatever its setting
    step: float  # of a quantised metric; 0: continuous
    second: np.ndarray | None = None  # another top so far away, `SECOND_LOSS` worse
    loudest: float = 10.0  # deficit from where on runs do not scatter more

    def deficit(self, x: np.ndarray) -> np.ndarray:
        """True loss against the optimum, sd."""
        x = np.atleast_2d(x) - self.best
        first = self._about_top(x)
        if self.second is None:
            return first
        return np.minimum(first, SECOND_LOSS + self._about_top(x - self.second))

    def _about_top(self, x: np.ndarray) -> np.ndarray:
        u, v = np.moveaxis(x, -1, 0)
        lr = self.a * u**2 * (1 + self.skew * np.tanh(2 * u))
        low = self.plateau * -np.expm1(-self.b * np.minimum(v, 0) ** 2 / self.plateau)
        high = self.b * np.maximum(v, 0) ** 2 * (1 + np.maximum(v - 0.7, 0) * 4)
        mixed = 2 * self.r * np.sqrt(self.a * self.b) * u * v * np.exp(-(u**2 + v**2) / 0.5)
        return 40 * np.tanh(np.maximum(lr + low + high + mixed, 0) / 40)


@dataclass
class Measured(Surface):
    """A committed heatmap, interpolated: its cells' own noise stays in it as narrow tops.

    Beyond its cells the surface falls as the prior of the fit does.
    """

    optimizer: str = ""

    def deficit(self, x: np.ndarray) -> np.ndarray:
        interpolate, ends, top = heatmap(self.optimizer)
        at = np.atleast_2d(x) - self.best + top
        inside = np.clip(at, *ends)
        u, v = np.moveaxis(at - inside, -1, 0)
        return interpolate(inside) + 15 * u**2 + 2 * v**2


@dataclass
class Exploding(Surface):
    """A loss that at high lr ends with a number, hundreds of sd below, and scatters as wildly."""

    loudest: float = math.inf

    def deficit(self, x: np.ndarray) -> np.ndarray:
        u = np.atleast_2d(x)[..., 0] - self.best[0]
        return super().deficit(x) + 10 * (10 ** (1.5 * np.clip(u - 0.35, 0, 3)) - 1)


@lru_cache
def heatmap(optimizer: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """Deficit in points over (log10 lr, log10 weight decay), its ends, and its top."""
    import pandas as pd
    from scipy.interpolate import RegularGridInterpolator

    runs = pd.read_csv(HEATMAP)
    means = runs[runs.optimizer == optimizer].pivot_table("val", "lr", "weight_decay")
    axes = [np.log10(np.array(axis, float)) for axis in (means.index, means.columns)]
    values = means.to_numpy(float)
    best = np.unravel_index(values.argmax(), values.shape)
    top = np.array([axis[place] for axis, place in zip(axes, best, strict=True)])
    ends = np.array([[axis[0] for axis in axes], [axis[-1] for axis in axes]])
    return RegularGridInterpolator(axes, values.max() - values), ends, top


@dataclass
class User:
    """Two surfaces, and the answers that they give."""

    surfaces: dict[str, Surface]
    ratio: np.ndarray  # log10 of the true (lr, weight decay) ratio, contestant over baseline
    rng: np.random.Generator
    gain: dict[str, float] = field(default_factory=dict)  # true advantage of the reported metric

    def answer(self, ask: Ask) -> Answer:
        """One run."""
        surface = self.surfaces[ask.optimizer]
        x = np.log10([ask.lr / START.lr, ask.weight_decay / START.weight_decay])
        d = float(surface.deficit(x)[0])
        over = (x[0] - surface.best[0] - surface.cliff) / 0.3
        lost = self.rng.random() < max(surface.crash, min(max(over, 0.0), 1.0))
        if lost and ask.phase != "final":  # the final is of settings that train
            return Answer()
        sd = 1 + 0.3 * min(d, surface.loudest)
        noise = (SKEW_SHAPE - self.rng.gamma(SKEW_SHAPE)) / math.sqrt(SKEW_SHAPE)
        value = -d + sd * noise
        report = value + self.gain.get(ask.optimizer, 0.0)
        return Answer(self._rounded(value, surface), self._rounded(report, surface), seconds=1.0)

    @staticmethod
    def _rounded(value: float, surface: Surface) -> float:
        return round(value / surface.step) * surface.step if surface.step else value


@dataclass(frozen=True)
class World:
    """What users are drawn from."""

    reach: float = 1.0  # decades by which a baseline is off its optimum, at most
    two_tops: bool = False
    explodes: bool = False  # instead of diverging
    measured: bool = False  # surfaces are the committed heatmaps, sd of a run 1 point
    names: tuple[str, ...] = ("adamw", "lion")
    ratios: tuple[float, float] | None = None  # of the best lr and weight decay; None: drawn
    beside: str = ""  # sgd or adam: a baseline whose settings are of another size


WORLD = World()


def draw_user(rng: np.random.Generator, world: World) -> User:
    """A made-up user; lost runs and quantised metrics are mixed in."""
    crash, step = rng.choice([0, 0.02, 0.05, 0.1]), rng.choice([0, 0.3, 1.0])
    best = rng.uniform(-world.reach, world.reach, 2)
    ratio = rng.uniform(np.log10(1.5), np.log10(30), 2) * (-1, 1)
    ratio = ratio if world.ratios is None else np.log10(world.ratios)
    if world.beside == "sgd":  # lr x weight decay nearly as the baseline's
        lr = rng.uniform(-3.7, -1.2)
        ratio = np.array([lr, rng.uniform(-0.7, 1.3) - lr])
    elif world.beside == "adam":  # an L2 weight decay
        ratio = rng.uniform([-1.5, 0.5], [-0.2, 4.0])

    def surface(at: np.ndarray, name: str) -> Surface:
        a, b = np.clip(rng.lognormal(np.log([15, 2]), [0.6, 0.8]), [4, 0.3], [60, 10])
        shape = [rng.uniform(*ends) for ends in ((-0.3, 0.5), (0, 0.5), (0.25, 0.9), (0.5, 4))]
        second = rng.choice([-1, 1], 2) * (0.7, 1.2) if world.two_tops else None
        if world.measured:
            return Measured(at, a, b, *shape, crash, step, optimizer=name)
        if world.explodes:
            shape[2] += 1.0
            return Exploding(at, a, b, *shape, crash, step)
        return Surface(at, a, b, *shape, crash, step, second)

    first, *others = world.names
    surfaces = {first: surface(best, first)}
    surfaces |= {name: surface(best + ratio, name) for name in others}
    return User(surfaces, ratio, rng)
