"""ImageNet: from scratch, and fine-tuned after ImageNet-21K. Source: the paper's Table 2."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import gain_panels
from experiments.analysis.sources import METRICS, RESULTS, paper

TITLE = "ImageNet: top-1 accuracy (%) of Lion and of the baseline"
CAPTION = (
    "Paper: arXiv:2302.06675, Table 2, transcribed (rounding 0.005); mean of 3 runs, their spread "
    "is not published. Bold: the better value. Diamond: gain in the early version of the paper, "
    "where it differs (other augmentation or weight decay; for CoAtNet-1 the AdamW value reads "
    "83.64 there, 83.36 later). Bars of all panels share one scale. At this scale nothing has been "
    "run here; our small stand-ins are in the figure named proxies."
)
GROUPS = {
    "imagenet_from_scratch": "Trained from scratch on ImageNet",
    "imagenet21k": "Pre-trained on ImageNet-21K, then fine-tuned",
}
KEYS = ["group", "row", "panel"]


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Both values and their difference for each model and test set.

    Returns:
        Columns of `gain_panels.COLUMNS`, and early_gain, the difference in the early version where
        it is another one; values in % top-1, differences in points.
    """
    gains = _gains(results, "neurips")
    early = _gains(results, "hero-lion")[[*KEYS, "baseline_name", "gain"]]
    early = early.rename(columns={"gain": "early_gain"})
    both = gains.merge(early, on=[*KEYS, "baseline_name"], how="left", validate="one_to_one")
    both.loc[(both.early_gain - both.gain).abs() < 0.005, "early_gain"] = float("nan")
    return both[[*gain_panels.COLUMNS, "early_gain"]]


def _gains(results: Path, version: str) -> pd.DataFrame:
    parts = [paper(name, results, version).assign(group=text) for name, text in GROUPS.items()]
    rows = pd.concat(parts, ignore_index=True)
    size = rows.params_m.map("{:.0f}M".format)
    augmented = rows.randaug_mixup.map({"yes": " + RandAug, Mixup", "no": ""})
    resolution = rows.resolution.map(lambda r: f", {r} px" if r != 224 else "")
    rows["row"] = rows.model + augmented + resolution + " (" + size + ")"
    rows["panel"] = rows.metric.map(METRICS)
    rows["optimizer"] = rows.optimizer.replace("SGD (momentum)", "SGD")
    order = list(dict.fromkeys(rows.row))
    gains = gain_panels.pair(rows, KEYS, ["SGD", "AdamW"])
    rank = gains.row.map(order.index) * 2 + (gains.baseline_name == "AdamW")
    return gains.assign(rank=rank).sort_values(["rank"], kind="stable", ignore_index=True)


def draw(results: Path = RESULTS) -> Figure:
    """The table as numbers and bars."""
    return gain_panels.draw(table(results), TITLE, CAPTION, label_inches=3.7)
