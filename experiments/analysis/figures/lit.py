"""Zero-shot accuracy of LiT models. Source: the paper's Table 4."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import gain_panels
from experiments.analysis.sources import RESULTS, paper

TITLE = "LiT: zero-shot top-1 accuracy (%) after contrastive training of the text tower"
CAPTION = (
    "Paper: arXiv:2302.06675, Table 4, transcribed (rounding 0.005); 1 billion image-text pairs, "
    "number of runs not stated. The early version calls the baseline AdafactorW, with equal "
    "numbers. For comparison CLIP, from prior work: 76.2 % on ImageNet. Not run here."
)
PANELS = {
    "imagenet_zeroshot_top1": "ImageNet",
    "cifar100_zeroshot_top1": "CIFAR-100",
    "oxford_pet_zeroshot_top1": "Oxford-IIIT Pet",
}


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Both values (%) and their difference (points), by model and data set."""
    rows = paper("lit", results)
    resolution = rows.resolution.map(lambda r: f" ({r:.0f} px)" if r != 224 else "")
    rows["row"], rows["panel"] = rows.model + resolution, rows.metric.map(PANELS)
    gains = gain_panels.pair(rows, ["row", "panel"], ["AdamW"])
    return gains.assign(group="")[gain_panels.COLUMNS]


def draw(results: Path = RESULTS) -> Figure:
    """The table as numbers and bars."""
    return gain_panels.draw(table(results), TITLE, CAPTION, label_inches=1.6)
