"""Zero-shot accuracy of LiT models, and our small one. Source: the paper's Table 4."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import big_vision
from experiments.analysis.drawing import figure_style, gain_panels, held_out_panels
from experiments.analysis.sources import RESULTS, paper

TITLE = "LiT: zero-shot top-1 accuracy (%) after contrastive training of the text tower"
CAPTION = (
    "Paper: arXiv:2302.06675, Table 4, transcribed (rounding 0.005); 1 billion image-text pairs, "
    "number of runs not stated. The early version calls the baseline AdafactorW, with equal "
    "numbers. For comparison CLIP, from prior work: 76.2 % on ImageNet. The paper's models are not "
    "run here."
)
PANELS = {
    "imagenet_zeroshot_top1": "ImageNet",
    "cifar100_zeroshot_top1": "CIFAR-100",
    "oxford_pet_zeroshot_top1": "Oxford-IIIT Pet",
}
OURS = (
    "A text tower for a locked image tower, glyphs and their names: scripts told apart (zero-shot; "
    "the largest class has 13 %), and recall at 1 among 800 unseen glyphs"
)
MEASURES = {
    "zero-shot": ("zero-shot, 10 scripts", "top-1 accuracy"),
    "test": ("image → text", "recall at 1"),
    "text to image, 1": ("text → image", "recall at 1"),
}
"""Measures of `big_vision.CONTRASTIVE`, in the order of the figure: title, and axis."""


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Both values (%) and their difference (points), by model and data set.

    Of ours (origin proxy) also low, high, n and verdict: of the difference, 95 %.
    """
    ours = big_vision.contrastive(results)
    ours = ours.rename(columns={"ours_mean": "lion", "theirs_mean": "baseline"})
    ours = ours.rename(columns={"difference": "gain"})
    ours = ours.assign(origin="proxy", group="Ours, proxy", row=big_vision.IMAGE_TEXT,
                       panel=[MEASURES[measure][0] for measure in ours.measure],
                       baseline_name=ours.theirs.map(figure_style.name_of))  # fmt: skip
    columns = [*gain_panels.COLUMNS, "origin", "low", "high", "n", "verdict"]
    parts = [_papers(results).assign(origin="paper"), *([ours[columns]] if len(ours) else [])]
    return pd.concat(parts, ignore_index=True)


def _papers(results: Path) -> pd.DataFrame:
    rows = paper("lit", results)
    resolution = rows.resolution.map(lambda r: f" ({r:.0f} px)" if r != 224 else "")
    rows["row"], rows["panel"] = rows.model + resolution, rows.metric.map(PANELS)
    gains = gain_panels.pair(rows, ["row", "panel"], ["AdamW"])
    return gains.assign(group="")[gain_panels.COLUMNS]


def draw(results: Path = RESULTS) -> Figure:
    """The table as numbers and bars; below ours, where run."""
    found = big_vision.contrastive(results)
    is_run = (found.n > 0).any()
    below = gain_panels.Below((1, 1, 1, 1.3), 2.5, lambda axes: _ours(axes, found))
    return gain_panels.draw(
        _papers(results), TITLE, f"{CAPTION} {held_out_panels.caption(found, OURS)}",
        label_inches=1.6, below=below if is_run else None,
    )  # fmt: skip


def _ours(axes: list[Any], found: pd.DataFrame) -> None:
    """A panel for each measure, and what Lion gains on either baseline."""
    for axis, (measure, (title, label)) in zip(axes, MEASURES.items(), strict=False):
        values = held_out_panels.arms(found[found.measure == measure])
        held_out_panels.means(axis, values, f"proxy's {label} (%)")
        figure_style.panel_title(axis, f"Ours, proxy:\n{title}")
    found = found.sort_values("measure", key=lambda names: names.map(list(MEASURES).index),
                              kind="stable")  # fmt: skip
    names = found.theirs.map(figure_style.name_of)
    titles = [MEASURES[measure][0].partition(",")[0] for measure in found.measure]
    rows = [f"{title}, {name}" for title, name in zip(titles, names, strict=True)]
    held_out_panels.differences(axes[3], found.assign(row=rows), "Lion − it (points)")
    figure_style.panel_title(axes[3], "Ours, proxy:\ngain of Lion over")
