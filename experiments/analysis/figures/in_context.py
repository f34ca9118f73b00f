"""One-shot scores of large language models. Source: the paper's Tables 5 and 11."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import gain_panels
from experiments.analysis.sources import RESULTS, paper

TITLE = "Language models, one-shot: score (%) of Lion and of Adafactor after 300 billion tokens"
CAPTION = (
    "Paper: arXiv:2302.06675, Tables 5 and 11, transcribed (rounding 0.05); one run each. Right: "
    "GPT-3 (6.7B, 300 billion tokens) and PaLM (8B, 780 billion), as the paper cites them. Bars "
    "of all panels share one scale. Not run here."
)
GROUPS = {
    "average": "Averages",
    "NLG": "Generation (exact match)",
    "NLU": "Understanding",
}
REFERENCES = {"GPT-3 (reference)": "GPT-3", "PaLM (reference)": "PaLM"}


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Both scores (%) and their difference (points), by task and model size."""
    rows = _rows(results)
    gains = gain_panels.pair(rows, ["group", "row", "panel"], ["Adafactor"])
    order = list(GROUPS.values())
    rank = gains.group.map(order.index)
    gains = gains.assign(rank=rank).sort_values("rank", kind="stable", ignore_index=True)
    return gains[gain_panels.COLUMNS]


def references(results: Path = RESULTS) -> pd.DataFrame:
    """Scores (%) of GPT-3 and PaLM: columns name, row, value."""
    rows = _rows(results)
    rows = rows[rows.optimizer.isin(REFERENCES)]
    rows = rows.assign(name=rows.optimizer.map(REFERENCES))
    return rows[["name", "row", "value"]].reset_index(drop=True)


def _rows(results: Path) -> pd.DataFrame:
    rows = paper("llm_in_context", results)
    rows["group"], rows["panel"] = rows.group.map(GROUPS), rows.model_size + " parameters"
    return rows.assign(row=rows.task.str.replace(" (EM)", "", regex=False))


def draw(results: Path = RESULTS) -> Figure:
    """The table as numbers and bars."""
    others = references(results)
    extra = {
        name: dict(zip(part.row, part.value, strict=True)) for name, part in others.groupby("name")
    }
    return gain_panels.draw(
        table(results), TITLE, CAPTION, label_inches=1.9, decimals=1, bar_inches=1.5, extra=extra
    )
