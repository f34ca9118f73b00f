"""What a grid over learning rate and weight decay tells beside its best cell.

The best cell is the one with the best mean validation value; every number here says how far it
would move with other seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from experiments.analysis.statistics.difference import CONFIDENCE, Difference, of_pairs
from experiments.analysis.statistics.uncertainty import NUM_RESAMPLES, Interval, mean_interval
from experiments.headline import of_table
from experiments.store import UserError

_DIVERGED = -1e9
"""Score of a diverged run, in points: never the best, and a finite number in sums."""


@dataclass(frozen=True)
class Ratio:
    """Best value of one optimizer over the best value of another."""

    estimate: float
    low: float  # 95 %: bootstrap over seeds, widened by half a grid step of both optimizers
    high: float
    n: int  # seeds that every cell of both grids has
    grid_factor: float  # what the two half steps widen by; closer the grids cannot tell
    share_on_edge: float  # of the resamples whose best cell lies on an edge: low or high is cut


def best_ratio(
    results: pd.DataFrame, over: str = "adamw", under: str = "lion", column: str = "lr"
) -> Ratio:
    """Ratio of the best learning rates (or weight decays) with an interval over seeds.

    Seeds are drawn with replacement, the same for both optimizers; each draw picks the best cells
    anew. What two grids cannot resolve is added: half a step of each, as a factor.

    Args:
        results: A study, or `comparison.final_results`; one batch size and pair of betas.
        over: Optimizer in the numerator.
        under: Optimizer in the denominator.
        column: lr, weight_decay, or effective_decay for their product.

    Raises:
        UserError: where a best cell lies on the edge of its grid (then it is not tuned), or no
            seed has every cell.
    """
    scores = [_scores(results, optimizer) for optimizer in (over, under)]
    seeds = _shared_seeds(scores)
    scores = [table[seeds] for table in scores]
    for optimizer, table in zip((over, under), scores, strict=True):
        _refuse_edge(table, optimizer, column)
    widths = [_half_step(table, column) for table in scores]
    factor = widths[0] * widths[1]
    picked = [_pick(table, np.ones((1, len(seeds))))[0] for table in scores]
    estimate = _value(scores[0], column)[picked[0]] / _value(scores[1], column)[picked[1]]
    if len(seeds) < 2:
        return Ratio(float(estimate), 0.0, float("inf"), len(seeds), factor, float("nan"))
    draws = np.random.default_rng(0).multinomial(
        len(seeds), np.full(len(seeds), 1 / len(seeds)), size=NUM_RESAMPLES
    )
    best = [_pick(table, draws) for table in scores]
    ratios = _value(scores[0], column)[best[0]] / _value(scores[1], column)[best[1]]
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(ratios, tails, method="nearest")
    on_edge = [_on_edge(table, column)[b] for table, b in zip(scores, best, strict=True)]
    share = float((on_edge[0] | on_edge[1]).mean())
    return Ratio(float(estimate), low / factor, high * factor, len(seeds), factor, share)


@dataclass(frozen=True)
class Sensitivity:
    """How much a grid's cells differ; per seed, then mean and interval over seeds."""

    optimizer: str
    num_cells: int
    num_diverged: int  # runs
    points: float
    share_within: Interval  # of all cells within `points` of the best one; diverged: not within
    spread: Interval  # best minus worst finished cell, in points


def sensitivity(results: pd.DataFrame, optimizer: str, points: float = 1.0) -> Sensitivity:
    """Share of the grid's cells near its best, and the range of all, on validation.

    A seed's best cell is taken from the same values, so both look a little worse than they are
    where seeds are noisy; for two optimizers alike.

    Raises:
        UserError: where no seed has every cell.
    """
    scores = _scores(results, optimizer)
    scores = scores[_shared_seeds([scores])]
    shares, spreads = _per_seed(scores, points)
    return Sensitivity(
        optimizer=optimizer,
        num_cells=len(scores),
        num_diverged=int((scores == _DIVERGED).sum().sum()),
        points=points,
        share_within=mean_interval(shares),
        spread=mean_interval(spreads),
    )


def sensitivity_difference(
    results: pd.DataFrame, ours: str, theirs: str, points: float = 1.0
) -> tuple[Difference, Difference]:
    """Ours minus theirs over paired seeds: in the share of cells within `points`, and in spread.

    A seed of which every cell of one diverged has no spread: it is left out there.

    Raises:
        UserError: where the grids are not alike: as many cells, and the same factors between the
            smallest and the largest learning rate and weight decay.
    """
    scores = [_scores(results, optimizer) for optimizer in (ours, theirs)]
    shapes = [(len(t), *(_span(t, c) for c in ("lr", "weight_decay"))) for t in scores]
    if shapes[0][0] != shapes[1][0] or not np.allclose(shapes[0][1:], shapes[1][1:], rtol=0.01):
        said = [f"{n} cells over {a:.3g} x and {b:.3g} x" for n, a, b in shapes]
        raise UserError(
            f"the grids of {ours} ({said[0]} in lr and weight decay) and {theirs} ({said[1]}) "
            "differ; sensitivities compare over like grids only: filter to like ones"
        )
    seeds = _shared_seeds(scores)
    ours_of, theirs_of = (_per_seed(table[seeds], points) for table in scores)
    share, spread = (
        of_pairs(pd.DataFrame({"ours": mine, "theirs": other}))
        for mine, other in zip(ours_of, theirs_of, strict=True)
    )
    return share, spread


def _per_seed(scores: pd.DataFrame, points: float) -> tuple[np.ndarray, np.ndarray]:
    values = scores.to_numpy()
    is_diverged = values == _DIVERGED
    best, none = values.max(axis=0), is_diverged.all(axis=0)
    shares = np.where(none, 0.0, (values >= best - points).mean(axis=0))
    worst = np.where(is_diverged, np.inf, values).min(axis=0)
    return shares, np.where(none, np.nan, best - worst)


def _scores(results: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    """Score per cell (rows: lr, weight_decay) and seed (columns): larger is better."""
    mine = results[results.optimizer == optimizer]
    if mine.empty:
        there = ", ".join(sorted(results.optimizer.unique()))
        raise UserError(f"no runs of {optimizer} in this table; it has {there}")
    val = (of_table(mine).sign * mine.val).where(mine.state != "diverged", _DIVERGED)
    mine = mine.assign(val=val, weight_decay=mine.weight_decay.fillna(0.0))
    if mine.duplicated(["lr", "weight_decay", "seed"]).any():
        raise UserError(
            f"{optimizer}: several runs of one cell and seed; "
            "filter the table to one batch size, model and pair of betas"
        )
    return mine.pivot(index=["lr", "weight_decay"], columns="seed", values="val")


def _shared_seeds(scores: list[pd.DataFrame]) -> list[int]:
    seeds = set.intersection(*(set(table.columns[table.notna().all()]) for table in scores))
    if not seeds:
        raise UserError("no seed has every cell of the grid: run the missing cells first")
    return sorted(seeds)


def _pick(scores: pd.DataFrame, draws: np.ndarray) -> np.ndarray:
    """Row number of the best cell for each draw; draws: (num_draws, seeds), how often each."""
    return (draws @ scores.to_numpy().T).argmax(axis=1)


def _value(scores: pd.DataFrame, column: str) -> np.ndarray:
    """Of each cell: its lr, its weight decay, or the product."""
    lr = scores.index.get_level_values("lr").to_numpy(float)
    weight_decay = scores.index.get_level_values("weight_decay").to_numpy(float)
    return {"lr": lr, "weight_decay": weight_decay, "effective_decay": lr * weight_decay}[column]


def _axes(column: str) -> list[str]:
    return ["lr", "weight_decay"] if column == "effective_decay" else [column]


def _on_edge(scores: pd.DataFrame, column: str) -> np.ndarray:
    """Whether each cell is the smallest or largest of its grid in the column."""
    edges = np.zeros(len(scores), bool)
    for axis in _axes(column):
        values = _value(scores, axis)
        edges |= (values == values.min()) | (values == values.max())
    return edges


def _refuse_edge(scores: pd.DataFrame, optimizer: str, column: str) -> None:
    best = _pick(scores, np.ones((1, scores.shape[1])))[0]
    for axis in _axes(column):
        values = _value(scores, axis)
        if values[best] in (values.min(), values.max()):
            raise UserError(
                f"{optimizer}: the best {axis}, {values[best]:g}, lies on the edge of its grid "
                f"({values.min():g} to {values.max():g}): it is not tuned; extend the grid"
            )


def _half_step(scores: pd.DataFrame, column: str) -> float:
    """Half the larger step beside the best cell, as a factor; of a product, both axes' factors."""
    best = _pick(scores, np.ones((1, scores.shape[1])))[0]
    factor = 1.0
    for axis in _axes(column):
        values = np.unique(_value(scores, axis))
        at = int(np.searchsorted(values, _value(scores, axis)[best]))
        smaller = max(values[at - 1], 1e-30)  # a weight decay of 0 is no factor away
        factor *= float(np.sqrt(max(values[at + 1] / values[at], values[at] / smaller)))
    return factor


def _span(scores: pd.DataFrame, axis: str) -> float:
    values = _value(scores, axis)
    return float(values.max() / values.min()) if values.min() > 0 else float("inf")
