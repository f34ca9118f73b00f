"""Zero-shot and fine-tuned accuracy of BASIC-L. Source: the paper's Table 1."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import gain_panels
from experiments.analysis.sources import RESULTS, paper

TITLE = "BASIC-L: zero-shot and fine-tuned top-1 accuracy (%)"
CAPTION = (
    "Paper: arXiv:2302.06675, Table 1, transcribed (rounding 0.05); one model each. Previous "
    "best: CoCa, from prior work, as the paper cites it. Not run here."
)
GROUPS = {"zeroshot": "Zero-shot", "finetune": "Fine-tuned"}
ROWS = {
    "imagenet": "ImageNet",
    "v2": "ImageNet-V2",
    "a": "ImageNet-A",
    "r": "ImageNet-R",
    "sketch": "ImageNet-Sketch",
    "objectnet": "ObjectNet",
}
PREVIOUS = "(prior work)"


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Both values (%), their difference (points), and the previous best where one is given."""
    rows = paper("basic", results)
    rows[["kind", "set"]] = rows.metric.str.split("_", n=1, expand=True)
    rows["group"] = rows.kind.map(GROUPS)
    fine_tuned = rows.kind.map({"finetune": ", fine-tuned", "zeroshot": ""})
    rows["row"], rows["panel"] = rows["set"].map(ROWS) + fine_tuned, "Top-1 accuracy"
    gains = gain_panels.pair(rows, ["group", "row", "panel"], ["Adafactor"])
    previous = rows[rows.optimizer == PREVIOUS][["row", "value"]]
    gains = gains.merge(previous.rename(columns={"value": "previous_best"}), on="row", how="left")
    return gains[[*gain_panels.COLUMNS, "previous_best"]]


def draw(results: Path = RESULTS) -> Figure:
    """The table as numbers and bars."""
    gains = table(results)
    known = gains.dropna(subset="previous_best")
    extra = {"CoCa": dict(zip(known.row, known.previous_best, strict=True))}
    return gain_panels.draw(
        gains, TITLE, CAPTION, label_inches=2.0, decimals=1, bar_inches=2.4, extra=extra
    )
