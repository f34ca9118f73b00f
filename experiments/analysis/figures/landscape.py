"""Training loss with and without noise on the weights. Source: the paper's landscape table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import tuned
from experiments.analysis.drawing import dot_panels, figure_style
from experiments.analysis.sources import METRICS, RESULTS, noises, paper

TITLE = "Flatness: training loss of trained weights, and of the same weights with noise"
CAPTION = (
    "Paper: arXiv:2302.06675, ViT-B/16 trained on ImageNet from scratch, landscape table in the "
    "appendix, transcribed (rounding 0.005). Noise: mean over 1,000 Gaussian perturbations of the "
    "weights, their scale is not stated; one model each. Flatter is less rise. Accuracies: Lion "
    "has the higher training loss and yet generalises better."
)
OURS = (
    "Ours: a proxy, axes and noise scales of its own (standard deviation of the noise, the same "
    "for all weights, or relative to the weights of each filter); mean and standard error over "
    "n = {n} seeds, at the settings found. No test is drawn here: RESULTS.md, Flatness."
)
KINDS = {
    "sigma": "noise, the same for all weights (standard deviation)",
    "relative": "noise, relative to the filter's weights",
}
LOSSES = {"train_loss_L": "no noise", "perturbed_train_loss_L_N": "with noise"}


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's numbers and, where run, ours.

    Returns:
        Columns origin (paper or proxy), optimizer, metric (an accuracy in %, or loss in nats),
        noise ("no noise", "with noise", or our scale), kind (ours: sigma or relative), value,
        uncertainty, n (seeds), experiment (ours). Our loss without noise stands there once for
        each kind.
    """
    theirs = paper("landscape", results)
    theirs = theirs.assign(
        origin="paper",
        noise=theirs.metric.map(LOSSES),
        metric=theirs.metric.replace(dict.fromkeys(LOSSES, "loss")),
        uncertainty=0.005,
    )
    theirs = theirs[["origin", "optimizer", "metric", "noise", "value", "uncertainty"]]
    ours = [_ours(rows).assign(experiment=name) for name, rows in noises(results).items()]
    return pd.concat([theirs, *ours], ignore_index=True)


def _ours(rows: pd.DataFrame) -> pd.DataFrame:
    clean = rows[rows.noise == "none"]
    kinds = [kind for kind in KINDS if (rows.noise == kind).any()]
    parts = [rows[rows.noise != "none"], *(clean.assign(noise=kind) for kind in kinds)]
    by_scale = (
        pd.concat(parts)
        .rename(columns={"noise": "kind"})
        .groupby(["kind", "optimizer", "scale"])
        .loss
    )
    ours = by_scale.agg(value="mean", uncertainty="sem", n="count").reset_index()
    ours["optimizer"] = ours.optimizer.map(figure_style.name_of)
    scale = ours.scale.map(lambda s: "no noise" if s == 0 else f"{s:g}")
    return ours.drop(columns="scale").assign(origin="proxy", metric="loss", noise=scale)


def draw(results: Path = RESULTS) -> Figure:
    """The paper's losses and accuracies, and our losses beside them where measured."""
    values = table(results)
    theirs, ours = values[values.origin == "paper"], values[values.origin == "proxy"]
    said = tuned.NOT_RUN if ours.empty else OURS.format(n=_seeds(ours))
    names = [] if ours.empty else list(dict.fromkeys(ours.experiment))
    heights = [1] * (1 + len(names))
    figure, axes = figure_style.canvas(
        TITLE, f"{CAPTION} {said}", (10.5, 3.6 * len(heights) + 0.9), [1, 1], heights
    )
    _losses(axes[0, 0], theirs[theirs.metric == "loss"])
    axes[0, 0].set_ylabel("training loss (nats)")
    figure_style.panel_title(axes[0, 0], "Paper: ViT-B/16, loss")
    _accuracies(axes[0, 1], theirs[theirs.metric != "loss"])
    figure_style.panel_title(axes[0, 1], "Paper: ViT-B/16, accuracy")
    for row, name in zip(axes[1:], names, strict=True):
        _of_proxy(row, ours[ours.experiment == name], tuned.title(noises(results)[name]))
    return figure


def _seeds(ours: pd.DataFrame) -> str:
    counts = ours.groupby("experiment", sort=False).n.min()
    each = [f"{n:g} ({name})" for name, n in counts.items()]
    return f"{counts.iloc[0]:g}" if len(counts) == 1 else " and ".join(each)


def _of_proxy(row: Any, losses: pd.DataFrame, title: str) -> None:
    """A panel for each kind of noise."""
    kinds = [kind for kind in KINDS if (losses.kind == kind).any()]
    for axis, kind in zip(row, kinds, strict=False):
        dot_panels.as_proxy(axis)
        _losses(axis, losses[losses.kind == kind], num_numbers=1)
        axis.set_xlabel(KINDS[kind])
        axis.set_ylabel("proxy's training loss (nats)")
        is_first = kind == kinds[0]
        figure_style.panel_title(axis, title if is_first else "Ours, proxy: the same runs")
    for axis in row[len(kinds) :]:
        axis.set_visible(False)


def _losses(axis: Any, losses: pd.DataFrame, num_numbers: int = 9) -> None:
    """A line for each optimizer, with the numbers of its last points."""
    scales = list(dict.fromkeys(losses.noise))
    ends = []
    highest = losses.sort_values("value").groupby("noise").optimizer.last()
    for name, mine in losses.groupby("optimizer"):
        colour = figure_style.colour_of(name)
        places = [scales.index(scale) for scale in mine.noise]
        axis.errorbar(places, mine.value, yerr=mine.uncertainty.fillna(0), color=colour,
                      marker="o", linestyle=figure_style.dash_of(name), capsize=3)  # fmt: skip
        numbered = list(zip(places, mine.itertuples(), strict=True))
        for place, item in numbered[-num_numbers:]:
            side = 1 if highest[item.noise] == name else -1
            axis.annotate(f"{item.value:.2f}", (place, item.value), xytext=(0, 11 * side),
                          textcoords="offset points", ha="center", va="center", fontsize=9,
                          color=colour,
                          path_effects=figure_style.halo(axis.get_facecolor()))  # fmt: skip
        ends.append((float(mine.value.iloc[-1]), name, colour))
    axis.set_xticks(range(len(scales)), scales)
    axis.margins(x=0.18, y=0.24)
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
