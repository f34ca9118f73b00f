"""Claims on batch size, from the study `batch_size`: each batch tuned on its own, fixed epochs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from experiments.analysis import regimes
from experiments.analysis.claims.evidence import (
    CONTRADICTED,
    INCONCLUSIVE,
    SUPPORTED,
    Evidence,
    Finding,
    is_larger,
)
from experiments.analysis.claims.tuned_pairs import Tuned, tuned_difference
from experiments.analysis.statistics.comparison import choose, chosen_runs
from experiments.analysis.statistics.difference import MIN_SEEDS, of_pairs
from experiments.analysis.statistics.uncertainty import NUM_RESAMPLES
from experiments.headline import of_table
from experiments.rounded import ends, with_signs
from experiments.store import UserError

GROWTH = 2.5 / 9
"""Points per doubling that are asked for: the paper's gain grows by 2.5 from batch 64 to 32768."""


def best_batch_larger(evidence: Evidence) -> Finding:
    """Best batch of Lion over AdamW's, by validation; seeds are drawn anew for the interval."""
    table = evidence.study("batch_size")
    sizes, sign = np.array(_sizes(table)), of_table(table).sign
    draws: np.ndarray | None = None
    best, edges, ties = {}, [], []
    for optimizer in ("lion", "adamw"):
        values = _by_batch(table, optimizer)  # (sizes, seeds)
        if draws is None:
            n = values.shape[1]
            draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), NUM_RESAMPLES)
        elif values.shape[1] != draws.shape[1]:
            raise UserError("the study batch_size has unlike seeds: run the missing ones")
        values = sign * values
        means = values.mean(axis=1)
        level = np.flatnonzero(np.isclose(means, means.max(), rtol=1e-9))
        at = int(level[0])
        ties += [
            f"{optimizer} is level at {size}, the smaller is taken" for size in sizes[level[1:]]
        ]
        if at in (0, len(sizes) - 1):
            edges.append(optimizer)
        best[optimizer] = (sizes[at], sizes[(draws @ values.T).argmax(axis=1)])
    ratios = best["lion"][1] / best["adamw"][1]
    low, high = np.quantile(ratios, [0.025, 0.975], method="nearest")
    n = draws.shape[1] if draws is not None else 0
    verdict = INCONCLUSIVE
    if n >= MIN_SEEDS and not edges and low > 1:
        verdict = SUPPORTED
    if n >= MIN_SEEDS and not edges and high < 1:
        verdict = CONTRADICTED
    estimate = float(best["lion"][0] / best["adamw"][0])
    note = f"best batch {best['adamw'][0]} for AdamW, {best['lion'][0]} for Lion"
    if edges:
        note += f"; on the edge of the sizes tried: {', '.join(edges)}"
    note = "; ".join([note, *ties])
    measure = "best batch size, Lion / AdamW"
    return Finding(measure, estimate, float(low), float(high), n, "x", verdict, note=note)


def gain_at_largest(evidence: Evidence) -> Finding:
    table = evidence.study("batch_size")
    size = _sizes(table)[-1]
    return _gain(table, size).larger(f"test accuracy, Lion - AdamW, at batch {size}")


def alike_at_smallest(evidence: Evidence) -> Finding:
    table = evidence.study("batch_size")
    size = _sizes(table)[0]
    return _gain(table, size).alike(f"test accuracy, Lion - AdamW, at batch {size}")


def gain_grows(evidence: Evidence) -> Finding:
    """Slope over log2(batch) of Lion's test value minus that of AdamW's, per seed."""
    table = evidence.study("batch_size")
    sizes = _sizes(table)
    gains = [_gain(table, size) for size in sizes]
    arms = {}
    for arm in ("ours", "theirs"):
        wide = pd.concat([gain.pairs[arm] for gain in gains], axis=1).dropna()
        slopes = np.polyfit(np.log2(sizes), wide.to_numpy().T, 1)[0]
        arms[arm] = pd.Series(slopes, index=wide.index)
    edges = tuple(str(s) for s, g in zip(sizes, gains, strict=True) if g.untuned)
    note = f"batch {sizes[0]} to {sizes[-1]}"
    if edges:
        note += f"; not tuned (best cell on an edge) at batch {', '.join(edges)}"
    (other,), (kind,) = regimes.BATCHES
    also = regimes.growth(evidence.root / "results", other, kind)
    if also is not None:
        for name in (kind, f"{kind}_fresh"):
            evidence.study(name, other)  # named among the files that the answer is from
        untuned = f"not tuned at {', '.join(also.found.untuned)}" if also.found.untuned else ""
        shown = untuned or also.found.reason or "shown"
        note += (
            f"; {other}, fresh seeds: "
            f"{with_signs(also.found.mean, also.found.low, also.found.high, 2)} "
            f"(n = {also.found.n}; {shown}), of the optimizers "
            f"{ends(also.wide_low, also.wide_high, 2, signed=True)}"
        )
    measure = "growth of the gain of Lion per doubling of the batch"
    found = of_pairs(pd.DataFrame(arms), better=gains[0].better, untuned=edges)
    return is_larger(found, measure, gains[0].unit, note, GROWTH)


def _sizes(table: pd.DataFrame) -> list[int]:
    """Batch sizes that both optimizers have, ascending."""
    both = [set(table[table.optimizer == name].batch_size) for name in ("lion", "adamw")]
    sizes = sorted(int(size) for size in both[0] & both[1])
    if len(sizes) < 2:
        raise UserError("the study batch_size has fewer than 2 sizes with lion and adamw")
    return sizes


def _gain(table: pd.DataFrame, size: int) -> Tuned:
    return tuned_difference(table[table.batch_size == size], "lion", "adamw")


def _by_batch(table: pd.DataFrame, optimizer: str) -> np.ndarray:
    """Validation values at each batch's own best setting: (sizes, seeds)."""
    columns = []
    for size in _sizes(table):
        mine = table[(table.batch_size == size) & (table.optimizer == optimizer)]
        try:
            chosen = choose(mine, optimizer)
        except ValueError as error:
            raise UserError(f"batch {size}: {error}") from None
        columns.append(chosen_runs(mine, chosen).set_index("seed").val)
    return pd.concat(columns, axis=1).dropna().to_numpy().T


CHECKS: dict[str, Callable[[Evidence], Finding]] = {
    "C046": best_batch_larger,
    "C047": gain_at_largest,
    "C048": alike_at_smallest,
    "C049": gain_grows,
}
"""Claim id -> what the runs here say of it."""
