"""Two betas or one: the ablation of Lion's two interpolations. Source: Table 7 and a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import tuned
from experiments.analysis.drawing import dot_panels, figure_style
from experiments.analysis.sources import RESULTS, paper, study

TITLE = "Beta ablation: sign momentum (one beta) against Lion's two betas"
CAPTION = (
    "Paper: arXiv:2302.06675, Table 7 (ViT-S/16 and B/16 from scratch with RandAugment and Mixup) "
    "and the text of the early version (JFT-300M, fine-tuned on ImageNet), transcribed (rounding "
    "0.005); number of runs not stated. Bold: best of a panel, which is no "
    "test. Every panel has a scale of its own that does not start at 0."
)
STUDY = "betas"
ARMS = {
    "AdamW": "AdamW (0.9, 0.999)",
    "Ablation_0.9": "sign momentum 0.9",
    "Ablation_0.99": "sign momentum 0.99",
    "Ablation (single interpolate, beta 0.9, sign)": "sign momentum 0.9",
    "Lion": "Lion (0.9, 0.99)",
}
PANELS = {
    "ViT-S/16": "Paper: ViT-S/16",
    "ViT-B/16": "Paper: ViT-B/16",
    "JFT ViT-B/16": "Paper: ViT-B/16, JFT-300M",
}


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's values and, where run, ours.

    Returns:
        Columns origin (paper or proxy), optimizer, arm (optimizer and betas), model, value (%),
        uncertainty (proxy: standard error over n seeds), n, lr, weight_decay, on_edge.
    """
    scratch = paper("optimizer_comparison", results)
    scratch = scratch[(scratch.metric == "imagenet_top1") & scratch.optimizer.isin(ARMS)]
    theirs = pd.concat([scratch, _jft(results)], ignore_index=True)
    theirs = theirs.assign(arm=theirs.optimizer.map(ARMS), origin="paper", uncertainty=0.005)
    theirs = theirs[["origin", "optimizer", "arm", "model", "value", "uncertainty"]]
    runs = study(STUDY, results)
    if runs is None:
        return theirs
    arms = tuned.tuned(runs, ["optimizer", "beta1", "beta2"])
    arms = arms.rename(columns={"test_mean": "value", "test_error": "uncertainty"})
    arms["arm"] = [_name(*a) for a in zip(arms.optimizer, arms.beta1, arms.beta2, strict=True)]
    arms["optimizer"] = arms.optimizer.map(figure_style.name_of)
    arms = arms.assign(origin="proxy", model=str(runs.iloc[0].get("experiment")))
    return pd.concat([theirs, arms], ignore_index=True)


def _jft(results: Path) -> pd.DataFrame:
    rows = paper("jft", results, "hero-lion")
    ablation = rows[rows.table.str.contains("beta ablation")].iloc[0]
    same = rows[(rows.model == ablation.model) & (rows.resolution == ablation.resolution)]
    same = same[(same.epochs == ablation.epochs) & (same.metric == ablation.metric)]
    return same.assign(model="JFT ViT-B/16")


def _name(optimizer: str, beta1: float, beta2: float) -> str:
    name = figure_style.name_of(optimizer)
    if beta1 != beta1:
        return name
    if (name == "Lion" or name.startswith("sign")) and beta1 == beta2:
        return f"sign momentum {beta1:g}"
    return f"{name} ({beta1:g}, {beta2:g})"


def draw(results: Path = RESULTS) -> Figure:
    """A panel per model of the paper and, where run, ours below."""
    values, runs = table(results), study(STUDY, results)
    theirs, ours = values[values.origin == "paper"], values[values.origin == "proxy"]
    said = tuned.NOT_RUN if runs is None else tuned.caption(ours)
    heights = [1.0] if runs is None else [1.0, max(1.0, 0.25 * len(ours))]
    size = (12.5, 2.2 * sum(heights) + 1.3)
    figure, axes = figure_style.canvas(TITLE, f"{CAPTION} {said}", size, [1, 1, 1], heights)
    order = list(dict.fromkeys(ARMS.values()))
    for axis, (model, title) in zip(axes[0], PANELS.items(), strict=True):
        _panel(axis, theirs[theirs.model == model].assign(error=float("nan")), order)
        figure_style.panel_title(axis, title)
        axis.set_xlabel("ImageNet top-1 accuracy (%)")
        axis.tick_params(labelleft=axis is axes[0, 0])
    if runs is not None:
        axis = figure_style.one_panel(figure, axes[1])
        dot_panels.as_proxy(axis)
        hollow = ours.on_edge.eq(True)
        ours = ours.assign(error=ours.uncertainty, hollow=hollow)
        is_double = ours.beta1 != ours.beta2  # single betas first, as above; then by their size
        ordered = ours.assign(is_double=is_double).sort_values(["is_double", "beta1", "beta2"])
        _panel(axis, ours, list(ordered.arm))
        axis.set_xlabel("proxy's test accuracy (%)")
        figure_style.panel_title(axis, tuned.title(runs))
    return figure


def _panel(axis: Any, values: pd.DataFrame, order: list[str]) -> None:
    names = values.arm.where(~values.arm.str.startswith("single"), "other")
    colours = names.str.split(" ").str[0].map(figure_style.colour_of)
    dot_panels.dots(axis, values.assign(row=values.arm, colour=colours), order)
