"""The block of RESULTS.md on where Lion wins and loses; see `text_tables`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.analysis import regimes
from experiments.analysis.drawing.names import name_of
from experiments.analysis.markdown import NO_STUDY, SAID, interval, table
from experiments.analysis.statistics.difference import Difference


def of_regimes(results: Path) -> str:
    """Every cell of the regime map: both intervals, the verdict, and the test loss."""
    rows = [_regime(cell) for cell in regimes.table(results).itertuples()]
    if not rows:
        return NO_STUDY
    heads = ("family", "regime", "batch", "Lion − AdamW, points [95 %, at the settings found]",
             "of the optimizers", "p, Holm over the map", "", "in test loss, nats")  # fmt: skip
    return table(heads, rows)


def _regime(cell: Any) -> tuple[str, ...]:
    edges = [name_of(name) for name in str(cell.edges).split(", ") if name]
    verdict = str(SAID.get(cell.verdict, cell.verdict))
    if cell.verdict == "not tuned" and edges:
        verdict += f" ({', '.join(edges)} on an edge)"
    elif cell.verdict in ("better", "worse"):
        verdict += "" if cell.holds else ", at these settings"
    gain, wide, p, loss = "–", "–", "–", "–"
    if cell.difference == cell.difference:
        gain = interval(Difference(cell.difference, cell.low, cell.high, cell.n))
        wide = f"[{cell.wide_low:.2f}, {cell.wide_high:.2f}]".replace("-", "−")
        p = "–" if cell.verdict == "not tuned" else f"{cell.p_holm:.2g}"
    if cell.loss_difference == cell.loss_difference:
        loss = interval(Difference(cell.loss_difference, cell.loss_low, cell.loss_high, cell.n), 3)
    return cell.family, cell.regime, str(cell.batch_size), gain, wide, p, verdict, loss
