"""How one optimizer is tuned: grow, probe, scatter; or, for ten trials, a line and three decays.

Every setting gets one run with a seed of its own: the fit averages over settings, so a second seed
tells it less than a second setting. See `experiments.analysis.statistics.fitted_top`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.analysis.statistics.fitted_top import NOISE_GROWTH, Fit, fit
from experiments.compare.asking import Answer, Ask, Dialogue, Setting, digits

STEP = 0.5
"""Decades between the cells of the growing grid: a factor of 3.16."""
SCATTER = np.array([0.25, 0.6])
"""Half widths in decades of the scatter about the top: lr by 1.8, weight decay by 4."""
FALL = 3.0
"""The probe has seen enough when it lies so many sd below the mean of the three best runs, which
are lucky ones: about 2 sd below the top."""
MAX_PROBES = 4
FIRST_SEED, FIRST_SCOUT = 1000, 900
"""Seeds of the trials, and of the scouts, of which the best was picked: it is run anew."""
EXTENSION = 9
"""Trials that everybody gets more where a top lies on an edge."""
CHEAP_STEP, NUM_DECAYS, CHEAP_REACH = 0.4, 3, 0.75
"""The quick look: decades between lrs, weight decays at the best lr, half width in decades."""
MOST_SCOUTS = 7
"""Runs a decade apart that look where a search is to begin: 3, or more to an end."""
ALONG = {"lr": (1.0, -1.0), "weight_decay": (0.0, 1.0)}
"""Decades of lr and weight decay from one scout to the next. Where the lr is looked for, lr x
weight decay stays, by which weights shrink in a step."""
MIN_FULL = 16
"""Fewest trials for grow, probe, scatter; below, the quick look."""
DRAWS = 200
EXPLODED = (60.0, 15.0)
"""A run so many sd below the best, and so many times as far as the median run, has exploded though
it ended with a number, as losses do: to the fit it is one that diverged."""
_CELLS = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)], float)


@dataclass(frozen=True)
class Guess:
    """What is known of a run's sd before a search."""

    sd: float
    df: float  # degrees of freedom behind it
    at_start: bool  # of runs at the start of the search, which may lie below the top


class Search:
    """What has been tried for one optimizer, within its budget."""

    def __init__(self, name: str, start: Setting, guess: Guess, sign: int = 1, seed: int = 0):
        self.name, self.start, self.sign = name, start, sign
        self.sd = self._first_sd = guess.sd
        self._first_df, self._first_at_start = guess.df, guess.at_start
        self._floor = guess.sd / 10
        self.x, self.y = np.empty((0, 2)), np.empty(0)  # decades from start; scores, higher: better
        self.left = self.num_scouts = 0
        self._rng = np.random.default_rng([seed, *name.encode()])
        self.last: Fit | None = None

    @property
    def num_trials(self) -> int:
        """Settings tried, diverged ones included, without those of `scout`."""
        return len(self.x)

    def num_near(self, top: np.ndarray) -> int:
        """Finite trials within the widths of the scatter, half a step more, about a top."""
        near = (np.abs(self.x - top) < SCATTER + STEP / 2).all(1)
        return int((near & np.isfinite(self.y)).sum())

    def setting(self, x: np.ndarray, number: int = 4) -> Setting:
        """A point in decades as lr and weight decay."""
        lr, decay = self.start.lr * 10 ** x[0], self.start.weight_decay * 10 ** x[1]
        return Setting(digits(lr, number), digits(decay, number))

    def run(self, points: np.ndarray | list, phase: str) -> Dialogue:
        """Asks for the points that the budget still holds; returns their scores."""
        points = np.atleast_2d(np.asarray(points, float))[: self.left]
        asks: list[Ask] = []
        for number, point in enumerate(points, self.num_trials):
            s = self.setting(point)
            key, seed = f"{self.name}/search/{number}", FIRST_SEED + number
            if phase == "scout":
                key, seed = f"{self.name}/scout/{number}", FIRST_SCOUT + number
            asks.append(Ask(key, self.name, phase, s.lr, s.weight_decay, seed))
        answers: Sequence[Answer] = yield asks
        scores = np.array([self.sign * answer.tune for answer in answers])
        self.x, self.y = np.concatenate([self.x, points]), np.concatenate([self.y, scores])
        self.left -= len(points)
        return scores

    def begin_at(self, point: np.ndarray) -> None:
        """Moves the start, and leaves out what was tried before."""
        self.start, self.num_scouts = self.setting(point), self.num_scouts + self.num_trials
        self.x, self.y = np.empty((0, 2)), np.empty(0)

    def fitted(self, draws: int = 0) -> Fit:
        """The fit, with the sd of the fit before; then sd is judged anew.

        sd^2: mean of the first guess, freed of the noise that a start below the top adds, and of
        the fit's residuals, weighted by their degrees of freedom.
        """
        alive = self._alive()
        found = fit(self.x, np.where(alive, self.y, np.nan) / self.sd, self._rng, draws)
        if np.isfinite(found.spread):
            below = float(np.clip(found.loss_at(np.zeros((1, 2)))[0], 0, 10))
            first = self._first_sd / (1 + NOISE_GROWTH * below if self._first_at_start else 1)
            free = max(int(alive.sum()) - len(found.coefficients), 0)
            squares = self._first_df * first**2 + free * (found.spread * self.sd) ** 2
            self.sd = max(float(np.sqrt(squares / (self._first_df + free))), self._floor)
        self.last = found
        return found

    def _alive(self) -> np.ndarray:
        """Which runs tell of the top: those with a number, but `EXPLODED` ones."""
        alive = np.isfinite(self.y)
        if not alive.any():
            return alive
        below = np.nanmax(self.y) - self.y
        many_sd, many_medians = EXPLODED
        return alive & (below <= max(many_sd * self.sd, many_medians * np.nanmedian(below)))

    def top(self) -> np.ndarray:
        """The fitted top; before there is one the best run."""
        if np.isfinite(self.y).sum() > 5:
            return self.fitted().top
        return self.best()

    def best(self) -> np.ndarray:
        """Where the best run lies; of equals that with the smallest lr."""
        worst = np.nanmin(self.y) - self.sd if np.isfinite(self.y).any() else 0.0
        scores = np.nan_to_num(self.y, nan=worst)
        return self.x[np.argmax(scores - self.x[:, 0] * 1e-3 * self.sd)]

    @property
    def on_edge(self) -> bool:
        """Whether the last top lies on one. The quick look has three weight decays: it says
        nothing of an edge there."""
        assert self.last is not None
        lr, decay = self.last.rising
        return bool(lr or (decay and self.num_trials >= MIN_FULL))

    @property
    def pick(self) -> Setting:
        """The fitted top, two digits."""
        assert self.last is not None
        return self.setting(self.last.top, 2)

    @property
    def decades(self) -> np.ndarray:
        """log10 of the fitted lr and weight decay."""
        assert self.last is not None
        return np.log10([self.start.lr, self.start.weight_decay]) + self.last.top


def scout(search: Search, axis: str) -> Dialogue:
    """Where nobody knows the order of magnitude: begins at the best of runs a decade apart.

    They count as no trials: the fit leaves them out, and whoever gave the baseline's setting has
    known its order. Below its best a weight decay is a plateau: there the largest is taken that is
    not clearly worse.
    """
    search.left, along = MOST_SCOUTS, np.array(ALONG[axis])
    yield from search.run([step * along for step in (-1, 0, 1)], "scout")
    lost = search.x[~np.isfinite(search.y)]  # one by chance would send the search decades off
    if len(lost):
        yield from search.run(lost[:1] if len(lost) == 3 else lost, "scout")
    at = _best_of_scouts(search, axis)
    while search.left and np.abs(at).max() == np.abs(search.x).max():
        yield from search.run([at + np.sign(at @ along) * along], "scout")
        at = _best_of_scouts(search, axis)
    search.begin_at(at)


def _best_of_scouts(search: Search, axis: str) -> np.ndarray:
    best = search.best()
    if axis == "weight_decay" and np.isfinite(search.y).any():
        near = search.x[search.y >= np.nanmax(search.y) - FALL * search.sd]
        best = near[np.argmax(near[:, 1])]
    return best


def tune(search: Search, budget: int) -> Dialogue:
    """Spends a budget; returns the fit with its bootstrap."""
    search.left = budget
    if budget < MIN_FULL:
        yield from _line(search)
    else:
        yield from _grow(search, np.zeros(2), "grow")
        yield from _probe(search)
        yield from scatter(search, "scatter")
    return search.fitted(DRAWS)


def extend(search: Search) -> Dialogue:
    """More trials around a top that lies on an edge; returns the fit."""
    search.left = EXTENSION
    yield from _grow(search, search.fitted().top, "extend")
    yield from scatter(search, "extend")
    return search.fitted(DRAWS)


def top_up(search: Search, number: int) -> Dialogue:
    """As many trials as the others had more, about the top; returns the fit."""
    search.left = number
    yield from scatter(search, "extend")
    return search.fitted(DRAWS)


def _grow(search: Search, center: np.ndarray, phase: str) -> Dialogue:
    """A 3 x 3 grid that moves until its middle cell holds the top."""
    while search.left:
        cells = center + _CELLS * STEP
        new = [not (np.abs(search.x - c) < 1e-6).all(1).any() for c in cells]
        if not any(new):
            break
        yield from search.run(cells[new], phase)
        away = (search.top() - center) / STEP
        if (np.abs(away) < 0.75).all():
            break
        center = center + np.round(np.clip(away, -1, 1)) * STEP


def _probe(search: Search) -> Dialogue:
    """Larger weight decays at the best lr: no plateau is a top, so go on until the value falls."""
    at, best = search.top(), np.sort(search.y[np.isfinite(search.y)])[-3:]
    for _ in range(MAX_PROBES):
        if search.left < 2 or not len(best):
            break
        at = at + (0, STEP)
        found = yield from search.run([at, at], "probe")
        if not np.isfinite(found).any() or np.nanmean(found) < best.mean() - FALL * search.sd:
            break


def scatter(search: Search, phase: str) -> Dialogue:
    """Half of what is left about the top, then the other half about the new one."""
    from scipy.stats import qmc

    for size in (search.left // 2, search.left - search.left // 2):
        if size:
            points = qmc.Sobol(2, rng=search._rng).random(2 ** int(np.ceil(np.log2(size))))[:size]
            yield from search.run(search.top() + (2 * points - 1) * SCATTER, phase)


def _line(search: Search) -> Dialogue:
    """A line in lr that grows until its top is inside, then three weight decays there."""
    yield from search.run([[-CHEAP_STEP, 0], [0, 0], [CHEAP_STEP, 0]], "line")
    top = 0.0
    while search.left > NUM_DECAYS:
        top = _top_of_line(search)
        yield from search.run([[_next_on_line(search.x[:, 0], top), 0]], "line")
    top = _top_of_line(search)
    decays = np.linspace(-CHEAP_REACH, CHEAP_REACH, NUM_DECAYS)
    yield from search.run(np.stack([np.full(NUM_DECAYS, top), decays], 1), "decays")


def _top_of_line(search: Search) -> float:
    """As `fit`, along one axis."""
    alive = np.isfinite(search.y)
    u, y = search.x[alive, 0], search.y[alive] / search.sd
    if not len(y):
        return float(search.x[:, 0].min())
    y, top = y - y.max(), float(u[np.argmax(y)])
    for _ in range(4 if len(y) > 2 else 0):
        v, near = u - top, np.exp(-0.25 * ((u - top) / CHEAP_STEP) ** 2)
        design = np.vstack([(near * (v**0, v, v * v)).T, [0, 0, 0.1]])
        c = np.linalg.lstsq(design, np.array([*near * y, -1.5]))[0]
        line = np.linspace(u.min(), u.max(), 41) - top
        top = top + float(line[np.argmax(c[0] + c[1] * line + c[2] * line**2)])
    return top


def _next_on_line(u: np.ndarray, top: float) -> float:
    """Outwards where the top lies at an end, else where the line is thinnest about the top."""
    if top >= u.max() - CHEAP_STEP / 4:
        return float(u.max() + CHEAP_STEP)
    if top <= u.min() + CHEAP_STEP / 4:
        return float(u.min() - CHEAP_STEP)
    inside = np.array([top + CHEAP_STEP / 2, top - CHEAP_STEP / 2, top])
    return float(inside[np.argmax([np.abs(u - q).min() for q in inside])])
