"""Image-text retrieval during LiT training. Source: a figure of the paper, digitised."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import curve_panels, figure_style
from experiments.analysis.sources import RESULTS, paper

TITLE = "LiT-B/16-B: zero-shot image-text retrieval during training, recall (%)"
CAPTION = (
    "Paper: arXiv:2302.06675, digitised from the published figure; uncertainty about 0.01 (band, "
    "thinner than the line), checked on four published gaps; pale: hidden under a legend. Points "
    "below the published axes are unknown. One run each. Every panel has a scale of its own. "
    "Not run here."
)
ROWS = ("COCO", "Flickr30K")
DIRECTIONS = {"img2txt": "image → text", "txt2img": "text → image"}
COLUMNS = tuple(product(DIRECTIONS, ("R@1", "R@10")))


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Columns dataset, direction, metric, optimizer, step, value (%), uncertainty, quality."""
    return paper("retrieval_curves", results).drop(columns=["version", "model"])


def draw(results: Path = RESULTS) -> Figure:
    """A row of panels per data set: both directions, recall at rank 1 and at rank 10."""
    points = table(results)
    figure, axes = figure_style.canvas(TITLE, CAPTION, (14, 6.2), [1] * 4, [1] * 2)
    for (row, dataset), (column, (direction, metric)) in product(
        enumerate(ROWS), enumerate(COLUMNS)
    ):
        axis = axes[row, column]
        chosen = (points.dataset == dataset) & (points.direction == direction)
        mine = points[chosen & (points.metric == metric)]
        ends = []
        for name, part in mine.groupby("optimizer"):
            curve_panels.curve(axis, part, name)
            end = curve_panels.last(part)
            ends.append((end, f"{name}\n{end:.1f}", figure_style.colour_of(name)))
        axis.margins(y=0.08)
        curve_panels.finish(axis, f"{dataset}, {DIRECTIONS[direction]}, {metric}")
        figure_style.end_labels(axis, ends, gap=0.17)
        axis.set_xlabel("optimizer step (thousands)" if row else "")
        axis.set_ylabel("recall (%)" if column == 0 else "")
    return figure
