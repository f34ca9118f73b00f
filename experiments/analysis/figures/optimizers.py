"""The paper's ten optimizers on ViTs with strong augmentation, and ours. Source: its Table 7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import tuned
from experiments.analysis.drawing import dot_panels, figure_style
from experiments.analysis.sources import METRICS, RESULTS, paper, study

TITLE = "Optimizers, each with its own learning rate and weight decay"
CAPTION = (
    "Paper: arXiv:2302.06675, Table 7 (ten optimizers), transcribed (rounding 0.005); ViTs trained "
    "on ImageNet with RandAugment and Mixup; learning rate and weight decay tuned per optimizer "
    "(values not published); number of runs not stated. Bold: best of a panel, which is no test. "
    "Sorted by the mean of the two models on ImageNet. Every panel has a scale of its own that "
    "does not start at 0."
)
STUDY = "optimizers"
ABLATIONS = {"Ablation_0.9": "sign momentum 0.9", "Ablation_0.99": "sign momentum 0.99"}


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's values and, where run, ours.

    Returns:
        Columns origin (paper or proxy), optimizer, model, metric, value (%), uncertainty
        (proxy: standard error over n seeds), n, lr, weight_decay, on_edge.
    """
    theirs = paper("optimizer_comparison", results)
    theirs["optimizer"] = theirs.optimizer.replace(ABLATIONS)
    theirs = theirs[["optimizer", "model", "metric", "value"]]
    theirs = theirs.assign(origin="paper", uncertainty=0.005)
    runs = study(STUDY, results)
    if runs is None:
        return theirs
    arms = tuned.tuned(runs, ["optimizer"])
    arms = arms.rename(columns={"test_mean": "value", "test_error": "uncertainty"})
    arms = arms.assign(origin="proxy", metric="test", model=str(runs.iloc[0].get("experiment")))
    arms["optimizer"] = arms.optimizer.map(figure_style.name_of)
    return pd.concat([theirs, arms], ignore_index=True)


def draw(results: Path = RESULTS) -> Figure:
    """Two rows of panels for the paper's models and, where run, a wide one of ours."""
    values, runs = table(results), study(STUDY, results)
    theirs, ours = values[values.origin == "paper"], values[values.origin == "proxy"]
    said = tuned.NOT_RUN if runs is None else tuned.caption(ours)
    heights = [1, 1] if runs is None else [1, 1, 1]
    size = (13, 3.3 * len(heights) + 1.2)
    figure, axes = figure_style.canvas(TITLE, f"{CAPTION} {said}", size, [1, 1, 1], heights)
    top1 = theirs[theirs.metric == "imagenet_top1"].groupby("optimizer").value.mean()
    order = list(top1.sort_values(ascending=False).index)
    for row, model in enumerate(("ViT-B/16", "ViT-S/16")):
        for column, metric in enumerate(("imagenet_top1", "real_top1", "v2_top1")):
            axis = axes[row, column]
            _panel(axis, theirs[(theirs.model == model) & (theirs.metric == metric)], order)
            figure_style.panel_title(axis, f"Paper: {model}, {METRICS[metric]}")
            axis.tick_params(labelleft=column == 0)
            axis.set_xlabel("top-1 accuracy (%)" if row == 1 else "")
    if runs is not None:
        _ours(figure_style.one_panel(figure, axes[2]), ours, tuned.title(runs))
    return figure


def _ours(axis: Any, ours: pd.DataFrame, title: str) -> None:
    dot_panels.as_proxy(axis)
    order = list(ours.sort_values("value", ascending=False, na_position="last").optimizer)
    _panel(axis, ours, order)
    axis.set_xlabel("proxy's test accuracy (%)")
    figure_style.panel_title(axis, title)


def _panel(axis: Any, values: pd.DataFrame, order: list[str]) -> None:
    rows = values.assign(row=values.optimizer, colour=values.optimizer.map(figure_style.colour_of))
    if "on_edge" in rows:
        rows = rows.assign(hollow=rows.on_edge.eq(True), error=rows.uncertainty)
    if (values.origin == "paper").all():
        rows = rows.assign(error=float("nan"), hollow=False)
    dot_panels.dots(axis, rows, order)
