"""Pre-trained on JFT, fine-tuned on ImageNet. Source: the paper's Tables 3 and 8."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import gain_panels
from experiments.analysis.sources import METRICS, RESULTS, paper

TITLE = "Pre-trained on JFT, fine-tuned on ImageNet: top-1 accuracy (%)"
CAPTION = (
    "Paper: arXiv:2302.06675, Tables 3 (above) and 8 (below), transcribed (rounding 0.005); one "
    "run each, as far as stated. The ViT-G/14 baseline is from prior work (Zhai et al.). Oracle: "
    "the best checkpoint by test accuracy, because fine-tuning overfits; last: the last one. "
    "Bars of all panels share one scale. JFT is not public: not run here."
)
GROUPS = {
    "higher resolution + Polyak averaging": "Higher resolution, Polyak averaging",
    "fine-tuned without Polyak averaging": "Without Polyak averaging",
}
VARIANTS = {
    "last checkpoint": ", last",
    "oracle checkpoint (fine-tuning overfits)": ", oracle",
}
KEYS = ["group", "row", "panel"]


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Both values (%) and their difference (points), by model, epochs and test set."""
    rows = paper("jft", results)
    rows = rows[rows.table.isin(GROUPS)]
    rows = pd.concat([_once_per_variant(part) for _, part in rows.groupby("table", sort=False)])
    epochs = rows.epochs.map(lambda e: f", {e:.0f} epochs" if e == e else "")
    data = rows.pretrain_data.map(lambda d: f", {d}" if d != "JFT-300M" else "")
    resolution = rows.resolution.map(", {:.0f} px".format)
    rows["row"] = rows.model + epochs + resolution + data + rows.variant.map(VARIANTS).fillna("")
    rows["group"], rows["panel"] = rows.table.map(GROUPS), rows.metric.map(METRICS)
    gains = gain_panels.pair(rows, KEYS, ["AdamW", "Adafactor"])
    order = list(dict.fromkeys(zip(rows.group, rows.row, strict=True)))
    rank = [order.index(pair) for pair in zip(gains.group, gains.row, strict=True)]
    gains = gains.assign(rank=rank).sort_values("rank", kind="stable", ignore_index=True)
    return gains[gain_panels.COLUMNS]


def _once_per_variant(rows: pd.DataFrame) -> pd.DataFrame:
    """Repeats the only baseline of a model beside each of Lion's two checkpoints."""
    parts = []
    for _, model in rows.groupby("model", sort=False):
        variants = [v for v in VARIANTS if (model.variant == v).any()]
        baseline = model[model.optimizer != "Lion"]
        parts += [baseline.assign(variant=v) for v in variants] or [baseline]
        parts.append(model[model.optimizer == "Lion"])
    return pd.concat(parts)


def draw(results: Path = RESULTS) -> Figure:
    """The tables as numbers and bars."""
    return gain_panels.draw(table(results), TITLE, CAPTION, label_inches=3.15, bar_inches=1.15)
