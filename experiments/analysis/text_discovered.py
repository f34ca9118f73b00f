"""The block of RESULTS.md on the discovered program; see `text_tables`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis import discovered
from experiments.analysis.drawing.names import name_of
from experiments.analysis.markdown import NO_STUDY, number, table
from experiments.analysis.text_confirmed import gain, of_all, p, wide

SAID = {"better": "ahead", "worse": "behind", "inconclusive": "not shown"}


def of_discovered(results: Path) -> str:
    """Each arm minus AdamW on each page: picks, both intervals, the verdict."""
    cells = discovered.table(results)
    if cells.empty:
        return NO_STUDY
    heads = ("", "", "lr; weight decay", "AdamW's", "test", "AdamW, test",
             "minus AdamW [95 %, at the settings found]", "with the luck of tuning",
             "p (Holm, all pages)", "verdict", "n")  # fmt: skip
    said = [table(heads, [_row(cell) for cell in cells.itertuples()])]
    said.append(
        "Holm's correction is over the pages, for the program and for Lion by themselves: "
        f"{' and '.join(_judged(cells, arm) for arm in discovered.ARMS)} questions."
    )
    for arm, called in discovered.ARMS.items():
        mine = cells[cells.arm == arm]
        said.append(of_all(mine, lambda cell: f"`{cell.experiment}`", f"Of the {called}"))
    if missing := [f"`{name}`" for name in discovered.PAGES if name not in set(cells.experiment)]:
        said.append(f"Not run yet: {', '.join(missing)}.")
    return "\n\n".join(filter(None, said))


def _judged(cells: pd.DataFrame, arm: str) -> str:
    mine = cells[cells.arm == arm].verdict
    return str(mine.isin(["better", "worse", "inconclusive"]).sum())


def _row(cell: Any) -> tuple[str, ...]:
    digits = int(cell.digits)
    unit = f" {cell.unit}" if cell.difference == cell.difference else ""
    return (
        *(f"`{cell.experiment}`", discovered.ARMS[cell.arm]),
        *(_setting(cell.lr, cell.weight_decay), _setting(cell.their_lr, cell.their_weight_decay)),
        *(number(value, f".{digits}f") for value in (cell.ours, cell.theirs)),
        *(gain(cell, digits) + unit, wide(cell, digits), p(cell), verdict(cell), f"{cell.n}"),
    )


def verdict(cell: Any) -> str:
    """What is shown of an arm, in words."""
    if cell.verdict in ("better", "worse"):
        return SAID[cell.verdict] + ("" if cell.holds else ", at these settings")
    if cell.verdict != "not tuned":
        return SAID.get(cell.verdict, str(cell.verdict))
    names = [discovered.ARMS.get(name, name_of(name)) for name in str(cell.edges).split(", ")]
    return f"not tuned ({', '.join(names)} on an edge)"


def _setting(lr: float, weight_decay: float) -> str:
    return "–" if lr != lr else f"{lr:g}; {weight_decay:g}"
