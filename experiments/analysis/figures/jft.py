"""Pre-trained on JFT, fine-tuned on ImageNet; and our two stages. Source: Tables 3 and 8."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import big_vision
from experiments.analysis.drawing import figure_style, gain_panels, held_out_panels
from experiments.analysis.sources import METRICS, RESULTS, paper

TITLE = "Pre-trained on JFT, fine-tuned on ImageNet: top-1 accuracy (%)"
CAPTION = (
    "Paper: arXiv:2302.06675, Tables 3 (above) and 8 (below), transcribed (rounding 0.005); one "
    "run each, as far as stated. The ViT-G/14 baseline is from prior work (Zhai et al.). Oracle: "
    "the best checkpoint by test accuracy, because fine-tuning overfits; last: the last one. "
    "Bars of all panels share one scale. JFT is not public: the paper's models are not run here."
)
GROUPS = {
    "higher resolution + Polyak averaging": "Higher resolution, Polyak averaging",
    "fine-tuned without Polyak averaging": "Without Polyak averaging",
}
VARIANTS = {
    "last checkpoint": ", last",
    "oracle checkpoint (fine-tuning overfits)": ", oracle",
}
KEYS = ["group", "row", "panel"]
OURS = (
    "Signals: fine-tuned alike from what AdamW or Lion pre-trained; shifted: more noise and slope; "
    "raw and averaged (Polyak) weights"
)
NAMES = {
    "test": ("test", "raw"),
    "test, averaged": ("test", "averaged"),
    "shifted": ("shifted test", "raw"),
    "shifted, averaged": ("shifted test", "averaged"),
}
"""Measures of `big_vision.TWO_STAGE`, in the order of the figure: test set and weights."""


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Both values (%) and their difference (points), by model, epochs and test set.

    Of ours (origin proxy) also low, high, n and verdict: of the difference, 95 %.
    """
    ours = two_stage(results).rename(columns={"ours_mean": "lion", "theirs_mean": "baseline"})
    ours = ours.rename(columns={"difference": "gain"})
    ours = ours.assign(origin="proxy", group="Ours, proxy", panel=ours["set"],
                       baseline_name=ours.theirs.map(figure_style.name_of))  # fmt: skip
    columns = [*gain_panels.COLUMNS, "origin", "low", "high", "n", "verdict"]
    parts = [_papers(results).assign(origin="paper"), *([ours[columns]] if len(ours) else [])]
    return pd.concat(parts, ignore_index=True)


def two_stage(results: Path = RESULTS) -> pd.DataFrame:
    """`big_vision.two_stage` with names for a reader: set, weights, row (both)."""
    found = big_vision.two_stage(results)
    named = [NAMES[measure] for measure in found.measure]
    found = found.assign(
        set=[which for which, _ in named],
        weights=[weights for _, weights in named],
        row=[f"{which}, {weights}" for which, weights in named],
    )
    rank = found.measure.map(list(NAMES).index)
    return found.assign(rank=rank).sort_values("rank", ignore_index=True)


def _papers(results: Path) -> pd.DataFrame:
    rows = paper("jft", results)
    rows = rows[rows.table.isin(GROUPS)]
    rows = pd.concat([_once_per_variant(part) for _, part in rows.groupby("table", sort=False)])
    epochs = rows.epochs.map(lambda e: f", {e:.0f} epochs" if e == e else "")
    data = rows.pretrain_data.map(lambda d: f", {d}" if d != "JFT-300M" else "")
    resolution = rows.resolution.map(", {:.0f} px".format)
    rows["row"] = rows.model + epochs + resolution + data + rows.variant.map(VARIANTS).fillna("")
    rows["group"], rows["panel"] = rows.table.map(GROUPS), rows.metric.map(METRICS)
    gains = gain_panels.pair(rows, KEYS, ["AdamW", "Adafactor"])
    order = list(dict.fromkeys(zip(rows.group, rows.row, strict=True)))
    rank = [order.index(pair) for pair in zip(gains.group, gains.row, strict=True)]
    gains = gains.assign(rank=rank).sort_values("rank", kind="stable", ignore_index=True)
    return gains[gain_panels.COLUMNS]


def _once_per_variant(rows: pd.DataFrame) -> pd.DataFrame:
    """Repeats the only baseline of a model beside each of Lion's two checkpoints."""
    parts = []
    for _, model in rows.groupby("model", sort=False):
        variants = [v for v in VARIANTS if (model.variant == v).any()]
        baseline = model[model.optimizer != "Lion"]
        parts += [baseline.assign(variant=v) for v in variants] or [baseline]
        parts.append(model[model.optimizer == "Lion"])
    return pd.concat(parts)


def draw(results: Path = RESULTS) -> Figure:
    """The tables as numbers and bars; below ours, where run."""
    found = two_stage(results)
    is_run = (found.n > 0).any()
    below = gain_panels.Below((1, 1, 1), 2.5, lambda axes: _ours(axes, found))
    return gain_panels.draw(
        _papers(results), TITLE, f"{CAPTION} {held_out_panels.caption(found, OURS)}",
        label_inches=3.15, bar_inches=1.15, below=below if is_run else None,
    )  # fmt: skip


def _ours(axes: list[Any], found: pd.DataFrame) -> None:
    """Accuracy on either test set, and what Lion gains on both."""
    for axis, name in zip(axes, ("test", "shifted test"), strict=False):
        mine = found[found["set"] == name]
        parts = [
            held_out_panels.arms(part).assign(weights=weights)
            for weights, part in mine.groupby("weights", sort=False)
        ]
        values = pd.concat(parts, ignore_index=True)
        values = values.assign(row=values.row + ", " + values.weights)
        held_out_panels.means(axis, values, "proxy's accuracy (%)")
        figure_style.panel_title(axis, f"Ours, proxy: {name} set")
    held_out_panels.differences(axes[2], found, "Lion − AdamW (points)")
    figure_style.panel_title(axes[2], "Ours, proxy: gain of pre-training with Lion")
