"""The block of RESULTS.md on where Lion wins and loses; see `text_tables`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.analysis import regimes
from experiments.analysis.markdown import NO_STUDY, interval, table
from experiments.analysis.statistics.difference import Difference
from experiments.analysis.text_confirmed import cells


def of_regimes(results: Path) -> str:
    """Every cell of the regime map: both intervals, the verdict, and the test loss."""
    rows = [_regime(cell) for cell in regimes.table(results).itertuples()]
    if not rows:
        return NO_STUDY
    heads = ("family", "regime", "batch", "Lion − AdamW, points [95 %, at the settings found]",
             "of the optimizers", "p, Holm over the map", "", "in test loss, nats")  # fmt: skip
    return table(heads, rows)


def _regime(cell: Any) -> tuple[str, ...]:
    loss = "–"
    if cell.loss_difference == cell.loss_difference:
        loss = interval(Difference(cell.loss_difference, cell.loss_low, cell.loss_high, cell.n), 3)
    return cell.family, cell.regime, str(cell.batch_size), *cells(cell), loss
