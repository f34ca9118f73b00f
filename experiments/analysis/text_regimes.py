"""Blocks of RESULTS.md on Lion against AdamW by batch, noise and model; see `text_tables`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis import regimes
from experiments.analysis.markdown import NO_STUDY, interval, number, table
from experiments.analysis.text_confirmed import cells, gain, of_all
from experiments.rounded import ends

PICKS = ("AdamW: lr", "weight decay", "test %", "Lion: lr", "weight decay", "test %", "n")
GROWS = {
    "better": "it grows",
    "worse": "it shrinks",
    "inconclusive": "neither growth nor loss is shown",
    "not tuned": "no verdict, a size is not tuned",
}


def of_regimes(results: Path) -> str:
    """Every cell of the regime map: both intervals, the verdict, and the test loss."""
    return _cells(regimes.table(results))


def stronger(results: Path) -> str:
    """The picks, then both intervals, the verdict and the test loss, on many signals."""
    found = regimes.table(results, *regimes.STRONGER)
    if found.empty:
        return NO_STUDY
    rows = [(cell.regime, *_picked(cell)) for cell in found.itertuples()]
    more = of_all(found, lambda cell: str(cell.regime))
    return "\n\n".join(filter(None, [table(("", *PICKS), rows), _cells(found), more]))


def batch_size_signals(results: Path) -> str:
    """The picks at each batch size, the differences, and how they grow with the batch."""
    found = regimes.table(results, *regimes.BATCHES)
    if found.empty:
        return NO_STUDY
    rows = [(str(cell.batch_size), *_picked(cell)) for cell in found.itertuples()]
    said = [table(("batch", *PICKS), rows), _cells(found)]
    if more := of_all(found, lambda cell: f"batch {cell.batch_size}"):
        said.append(more)
    (experiment,), (kind,) = regimes.BATCHES
    grown = regimes.growth(results, experiment, kind)
    least = int(found.batch_size.min())
    rest = regimes.growth(results, experiment, kind, above=least)
    if grown is not None:
        said.append(
            f"With each doubling of the batch Lion − AdamW grows by {interval(grown.found, 2)} "
            f"points (slope over all sizes, n = {grown.found.n}, at the settings found), "
            f"{_grows(grown)}."
        )
    if grown is not None and rest is not None:
        said[-1] += f" Without batch {least}: {interval(rest.found, 2)}, {_grows(rest)}."
    return "\n\n".join(said)


def _grows(growth: regimes.Growth) -> str:
    """The interval of the optimizers, and the verdict in words."""
    low, high = growth.wide_low, growth.wide_high
    is_shown = growth.found.verdict in ("better", "worse")
    only = ", at these settings" if is_shown and low <= 0 <= high else ""
    wide = ends(low, high, 2).replace("-", "−")
    return f"of the optimizers {wide}: {GROWS[growth.found.verdict]}{only}"


def _picked(cell: Any) -> tuple[str, ...]:
    both = [
        number(getattr(cell, name + key), form)
        for name in (regimes.THEIRS, regimes.OURS)
        for key, form in (("_lr", "g"), ("_weight_decay", "g"), ("", ".2f"))
    ]
    return *both, str(cell.n)


def _cells(found: pd.DataFrame) -> str:
    rows = [_regime(cell) for cell in found.itertuples()]
    if not rows:
        return NO_STUDY
    heads = ("family", "regime", "batch", "Lion − AdamW, points [95 %, at the settings found]",
             "with the luck of tuning", "p (Holm, all rows)", "verdict",
             "in test loss, nats")  # fmt: skip
    return table(heads, rows)


def _regime(cell: Any) -> tuple[str, ...]:
    loss = gain(cell, 3, "loss_")
    return cell.family, cell.regime, str(cell.batch_size), *cells(cell), loss
