"""Accuracy against pre-training compute on JFT-300M. Source: figure and Table 8 of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import figure_style
from experiments.analysis.sources import METRICS, RESULTS, paper

TITLE = "JFT-300M: accuracy after fine-tuning on ImageNet against pre-training compute"
CAPTION = (
    "Paper: arXiv:2302.06675. Compute digitised from the published figure (± 5 exaFLOPs, narrower "
    "than the markers); accuracy from Table 8 (rounding 0.005); one run each. Arrow: from "
    "AdamW's best run to the cheapest run of Lion that is at least as accurate. The lines join "
    "different models and only lead the eye. Every panel has a scale of its own. JFT is not "
    "public: not run here."
)


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Columns metric, budget, optimizer, exaflops, exaflops_uncertainty, accuracy (%)."""
    rows = paper("jft_compute", results, version=None)
    names = {
        "model_and_budget": "budget",
        "pretrain_exaflops": "exaflops",
        "pretrain_exaflops_unc": "exaflops_uncertainty",
    }
    rows = rows.rename(columns=names)
    return rows[["metric", "optimizer", "accuracy", *names.values()]]


def saving(points: pd.DataFrame) -> tuple[float, float]:
    """Compute of the cheapest Lion run that is as good as AdamW's best, and how often it fits in.

    Args:
        points: Rows of `table` for one metric.
    """
    theirs = points[points.optimizer == "AdamW"].sort_values("accuracy").iloc[-1]
    as_good = (points.optimizer == "Lion") & (points.accuracy >= theirs.accuracy)
    needed = float(points[as_good].exaflops.min())
    return needed, float(theirs.exaflops / needed)


def draw(results: Path = RESULTS) -> Figure:
    """One panel per test set."""
    points = table(results)
    figure, axes = figure_style.canvas(TITLE, CAPTION, (12.5, 4.6), [1, 1, 1])
    for axis, (metric, mine) in zip(axes[0], points.groupby("metric", sort=False), strict=True):
        _panel(axis, mine)
        figure_style.panel_title(axis, METRICS[metric])
        axis.set_xlabel("pre-training compute (exaFLOPs)")
        axis.set_ylabel("top-1 accuracy (%)" if axis is axes[0, 0] else "")
    return figure


def _panel(axis: Any, points: pd.DataFrame) -> None:
    ends = []
    for name, mine in points.groupby("optimizer"):
        mine = mine.sort_values("exaflops")
        colour = figure_style.colour_of(name)
        axis.errorbar(mine.exaflops, mine.accuracy, xerr=mine.exaflops_uncertainty, color=colour,
                      linestyle=figure_style.dash_of(name), marker="o", markersize=6)  # fmt: skip
        last = mine.accuracy.iloc[-1]
        ends.append((last, f"{name}\n{last:.2f}", colour))
    _name_points(axis, points)
    needed, ratio = saving(points)
    target = points[points.optimizer == "AdamW"].accuracy.max()
    axis.plot([needed, points.exaflops.max()], [target] * 2, color=figure_style.INK, linewidth=0.9)
    axis.plot([needed], [target], "<", color=figure_style.INK, markersize=7)
    axis.text(0.98, 0.05, f"as good as AdamW's best\nwith {ratio:.1f} × less compute", ha="right",
              transform=axis.transAxes, fontsize=9.5)  # fmt: skip
    axis.grid(axis="y")
    axis.set_xlim(0, points.exaflops.max() * 1.06)
    axis.margins(y=0.2)
    axis.autoscale_view(scalex=False)
    figure_style.end_labels(axis, ends, gap=0.15)


def _name_points(axis: Any, points: pd.DataFrame) -> None:
    """Writes what model and how many epochs under each point of the lower line."""
    lower = points[points.optimizer == "AdamW"].sort_values("exaflops")
    for item in lower.itertuples():
        model, epochs = str(item.budget).split(", ")
        is_last = item.exaflops == lower.exaflops.max()
        axis.annotate(f"{model}\n{epochs}", (item.exaflops, item.accuracy),
                      xytext=(0 if is_last else 6, -8), textcoords="offset points", va="top",
                      ha="right" if is_last else "left", fontsize=8,
                      color=figure_style.FAINT)  # fmt: skip
