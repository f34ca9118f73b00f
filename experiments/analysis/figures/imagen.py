"""Text-to-image models (Imagen) during training. Source: a figure of the paper, digitised."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import curve_panels, figure_style
from experiments.analysis.sources import RESULTS, paper

TITLE = "Imagen: CLIP score (higher is better) and FID-30K (lower is better) during training"
CAPTION = (
    "Paper: arXiv:2302.06675, digitised from the published figure (band: uncertainty). Pale: read "
    "with difficulty, which is all of the super-resolution model. Measured there on 2,000 images "
    "during training, so the curves are noisy; one run each. Every panel has a scale of its own. "
    "Not run here."
)
MODELS = {"base_64": "base model, 64 × 64", "superres_64to256": "super-resolution, 64 → 256"}
METRICS = {"clip_score": "CLIP score", "fid30k": "FID-30K"}


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Columns model, metric, optimizer, step, value, uncertainty, quality."""
    return paper("imagen_curves", results).drop(columns="version")


def draw(results: Path = RESULTS) -> Figure:
    """A column of panels per model, a row per metric."""
    points = table(results)
    figure, axes = figure_style.canvas(TITLE, CAPTION, (12, 6.6), [1, 1], [1, 1])
    for row, (metric, y_label) in enumerate(METRICS.items()):
        for column, (model, title) in enumerate(MODELS.items()):
            axis = axes[row, column]
            mine = points[(points.model == model) & (points.metric == metric)]
            ends = []
            for name, part in mine.groupby("optimizer"):
                curve_panels.curve(axis, part, name, width=1.6)
                end = curve_panels.last(part)
                said = f"{name} {end:.3f}" if metric == "clip_score" else f"{name} {end:.1f}"
                ends.append((end, said, figure_style.colour_of(name)))
            curve_panels.finish(axis, f"{y_label}, {title}", y_label if column == 0 else "")
            figure_style.end_labels(axis, ends, gap=0.085)
            axis.set_xlabel("optimizer step (thousands)" if row else "")
    return figure
