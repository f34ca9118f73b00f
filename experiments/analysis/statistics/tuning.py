"""How much the cells of a grid over learning rate and weight decay differ, seed by seed.

Where their tops lie: `best_settings`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from experiments.analysis.statistics.difference import Difference, of_pairs
from experiments.analysis.statistics.uncertainty import Interval, mean_interval
from experiments.headline import of_table
from experiments.store import UserError

_DIVERGED = -1e9
"""Score of a diverged run, in points: never the best, and a finite number in sums."""


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


def _span(scores: pd.DataFrame, axis: str) -> float:
    values = scores.index.get_level_values(axis).to_numpy(float)
    return float(values.max() / values.min()) if values.min() > 0 else float("inf")
