"""Training loss with and without noise on the weights. Source: the paper's landscape table."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false
# (the types of pandas do not follow columns and filters)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import dot_panels, figure_style, tuned
from experiments.analysis.sources import METRICS, RESULTS, noise, paper

TITLE = "Flatness: training loss of trained weights, and of the same weights with noise"
CAPTION = (
    "Paper: arXiv:2302.06675, ViT-B/16 trained on ImageNet from scratch, landscape table in the "
    "appendix, transcribed (rounding 0.005). Noise: mean over 1,000 Gaussian perturbations of the "
    "weights, their scale is not stated; one model each. Flatter is less rise. Accuracies: Lion "
    "has the higher training loss and yet generalises better."
)
OURS = (
    "Ours: a proxy, its own axis and noise scales (standard deviation of each weight's noise); "
    "mean and standard error over n = {n} seeds."
)
LOSSES = {"train_loss_L": "no noise", "perturbed_train_loss_L_N": "with noise"}


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's numbers and, where run, ours.

    Returns:
        Columns origin (paper or proxy), optimizer, metric (an accuracy in %, or loss in nats),
        noise ("no noise", "with noise", or our scale), value, uncertainty, n (seeds).
    """
    theirs = paper("landscape", results)
    theirs = theirs.assign(
        origin="paper",
        noise=theirs.metric.map(LOSSES),
        metric=theirs.metric.replace(dict.fromkeys(LOSSES, "loss")),
        uncertainty=0.005,
    )
    theirs = theirs[["origin", "optimizer", "metric", "noise", "value", "uncertainty"]]
    ours = _ours(results)
    return theirs if ours is None else pd.concat([theirs, ours], ignore_index=True)


def _ours(results: Path) -> pd.DataFrame | None:
    rows = noise(results)
    if rows is None:
        return None
    rows = rows[rows.noise != "relative"]
    by_scale = rows.groupby(["optimizer", "scale"]).loss
    ours = by_scale.agg(value="mean", uncertainty="sem", n="count").reset_index()
    ours["optimizer"] = ours.optimizer.map(figure_style.name_of)
    scale = ours.scale.map(lambda s: "no noise" if s == 0 else f"{s:g}")
    return ours.drop(columns="scale").assign(origin="proxy", metric="loss", noise=scale)


def draw(results: Path = RESULTS) -> Figure:
    """The paper's losses and accuracies, and our losses beside them where measured."""
    values = table(results)
    theirs, ours = values[values.origin == "paper"], values[values.origin == "proxy"]
    said = tuned.NOT_RUN if ours.empty else OURS.format(n=f"{ours.n.min():g}")
    size = (8.6 if ours.empty else 13.5, 4.4)
    columns = [1, 1] if ours.empty else [1, 1, 1.2]
    figure, axes = figure_style.canvas(TITLE, f"{CAPTION} {said}", size, columns)
    _losses(axes[0, 0], theirs[theirs.metric == "loss"])
    axes[0, 0].set_ylabel("training loss (nats)")
    figure_style.panel_title(axes[0, 0], "Paper: ViT-B/16, loss")
    _accuracies(axes[0, 1], theirs[theirs.metric != "loss"])
    figure_style.panel_title(axes[0, 1], "Paper: ViT-B/16, accuracy")
    if not ours.empty:
        right = axes[0, 2]
        dot_panels.as_proxy(right)
        _losses(right, ours)
        right.set_xlabel("noise on the weights (standard deviation)")
        right.set_ylabel("proxy's training loss (nats)")
        figure_style.panel_title(right, tuned.title(noise(results)))
    return figure


def _losses(axis: Any, losses: pd.DataFrame) -> None:
    scales = list(dict.fromkeys(losses.noise))
    ends = []
    highest = losses.sort_values("value").groupby("noise").optimizer.last()
    for name, mine in losses.groupby("optimizer"):
        colour = figure_style.colour_of(name)
        places = [scales.index(scale) for scale in mine.noise]
        axis.errorbar(places, mine.value, yerr=mine.uncertainty.fillna(0), color=colour,
                      marker="o", linestyle=figure_style.dash_of(name), capsize=3)  # fmt: skip
        for place, item in zip(places, mine.itertuples(), strict=True):
            side = 1 if highest[item.noise] == name else -1
            axis.annotate(f"{item.value:.2f}", (place, item.value), xytext=(0, 11 * side),
                          textcoords="offset points", ha="center", va="center", fontsize=9,
                          color=colour,
                          path_effects=figure_style.halo(axis.get_facecolor()))  # fmt: skip
        ends.append((float(mine.value.iloc[-1]), name, colour))
    axis.set_xticks(range(len(scales)), scales)
    axis.margins(x=0.18, y=0.15)
    axis.autoscale_view()
    axis.grid(axis="y")
    figure_style.end_labels(axis, ends)


def _accuracies(axis: Any, rows: pd.DataFrame) -> None:
    """Two bars of numbers would start at 0 and show nothing: dots on one axis, each named."""
    sets = list(dict.fromkeys(rows.metric))
    axis.set_ylim(len(sets) - 0.5, -0.5)
    axis.set_yticks(range(len(sets)), [METRICS[name] for name in sets])
    axis.tick_params(axis="y", length=0)
    for name, side in (("AdamW", -1), ("Lion", 1)):
        mine = rows[rows.optimizer == name]
        heights = [sets.index(metric) for metric in mine.metric]
        colour = figure_style.colour_of(name)
        axis.plot(mine.value, heights, "o", color=colour, markersize=7)
        for value, height in zip(mine.value, heights, strict=True):
            axis.annotate(f"{name} {value:.2f}" if height == 0 else f"{value:.2f}",
                          (value, height), xytext=(8 * side, 0), textcoords="offset points",
                          va="center", ha="left" if side > 0 else "right", fontsize=9,
                          color=colour)  # fmt: skip
    low, high = axis.get_xlim()
    axis.set_xlim(low - 0.35 * (high - low), high + 0.35 * (high - low))
    axis.grid(axis="x")
    axis.set_xlabel("top-1 accuracy (%)")
