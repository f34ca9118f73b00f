"""Zero-shot and fine-tuned accuracy of BASIC-L. Source: the paper's Table 1."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import big_vision, tuned
from experiments.analysis.drawing import gain_panels
from experiments.analysis.sources import RESULTS, paper

TITLE = "BASIC-L: zero-shot and fine-tuned top-1 accuracy (%)"
CAPTION = (
    "Paper: arXiv:2302.06675, Table 1, transcribed (rounding 0.05); one model each. Previous "
    "best: CoCa, from prior work, as the paper cites it. BASIC-L itself is not run here."
)
STANDS_IN = (
    "Ours: a proxy of contrastive training with this baseline, Adafactor, stands in the figure of "
    "LiT (zero-shot; no image tower is trained there, and nothing is fine-tuned after it)."
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
    found = big_vision.contrastive(results)
    is_run = ((found.theirs == big_vision.ADAFACTOR) & (found.n > 0)).any()
    caption = f"{CAPTION} {STANDS_IN if is_run else tuned.NOT_RUN}"
    extra = {"CoCa": dict(zip(known.row, known.previous_best, strict=True))}
    return gain_panels.draw(
        gains, TITLE, caption, label_inches=2.0, decimals=1, bar_inches=2.4, extra=extra
    )
