"""Block of RESULTS.md on AdamW's setting carried over to Lion; see `text_tables`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.analysis import carried_over
from experiments.analysis.drawing.names import name_of
from experiments.analysis.markdown import NO_STUDY, mean, table
from experiments.analysis.text_confirmed import gain

WORDS = {"better": "ahead", "worse": "behind", "inconclusive": "not shown", "diverged": "diverged"}


def block(results: Path) -> str:
    """Two tables for RESULTS.md: against AdamW as tuned, and against Lion as tuned."""
    found = carried_over.comparisons(results)
    if found.empty:
        return NO_STUDY
    ratios = sorted(set(found.ratio))
    parts = []
    for name in ("adamw", "lion"):
        mine = found[found.against == name]
        tuned = f"{name_of(name)}, tuned"
        heads = ["proxy", tuned, *(f"carried, lr / {r:g}, minus it" for r in ratios)]
        rows = [_row(str(page), part, ratios) for page, part in mine.groupby("experiment")]
        parts.append(table([*heads, "n"], rows))
    return "\n\n".join(parts)


def _row(page: str, part: pd.DataFrame, ratios: list[float]) -> tuple[str, ...]:
    first = next(part.itertuples())
    digits = int(first.digits)
    row = [f"`{page}`, {first.unit}", mean(first.theirs_mean, first.theirs_error, digits)]
    for ratio in ratios:
        items = list(part[part.ratio == ratio].itertuples())
        row.append(f"{gain(items[0], digits)}, {WORDS[items[0].verdict]}" if items else "–")
    return (*row, str(int(part.n.max())))
