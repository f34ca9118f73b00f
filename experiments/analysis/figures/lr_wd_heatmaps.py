"""Accuracy over learning rate and weight decay, both optimizers. Source: a figure of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.analysis import tuned
from experiments.analysis.drawing import figure_style
from experiments.analysis.drawing.dot_panels import PROXY_BACKGROUND
from experiments.analysis.sources import RESULTS, paper, study

TITLE = "Learning rate × weight decay: what a setting costs, both optimizers on one scale"
CAPTION = (
    "Paper: arXiv:2302.06675, ViT-B/16 on ImageNet without strong augmentation; read back from the "
    "published colours, ± 0.05 points; one run a cell, as far as stated. White frame: the setting "
    "of Table 2. In both of the paper's grids the best cell lies on the edge. Colour: how far a "
    "cell lies below the best of its row of panels; everything beyond the end of the scale is as "
    "dark."
)
OURS = (
    "Ours: a proxy, never to be compared with the paper's; mean validation accuracy over n = "
    "{seeds} seeds per cell, since validation picks (white frame); hatched: diverged for some "
    "seed. What was picked gives on the test set: {tests}."
)
STUDY = "heatmap"
OPTIMIZERS = ("AdamW", "Lion")
COLOURS = "cividis_r"  # even in brightness, and the same for colour-blind eyes; light is best
CLIP = 5.0  # points below the best; beyond, a setting is simply bad


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Every cell of the paper's grids and, where run, of ours.

    Returns:
        Columns origin (paper or proxy), optimizer, lr, weight_decay, value (%; of ours that on
        validation, and in a column test that on the test set), uncertainty (paper:
        of the reading; proxy: standard error), n (runs finished), num_diverged, picked (Table 2's
        setting, or the one that validation picked).
    """
    theirs = paper("lr_wd_heatmap", results)
    theirs = theirs[["optimizer", "lr", "weight_decay", "value", "uncertainty"]]
    table2 = _table2_settings(results)
    cells = zip(theirs.optimizer, theirs.lr, theirs.weight_decay, strict=True)
    theirs = theirs.assign(origin="paper", picked=[cell in table2 for cell in cells], n=1)
    theirs["num_diverged"] = 0
    runs = study(STUDY, results)
    if runs is None:
        return theirs
    return pd.concat([theirs, cells_of(runs)], ignore_index=True)


def cells_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean validation accuracy of each cell of a study, its test mean, and which one is picked."""
    parts = []
    for optimizer, mine in runs.groupby("optimizer"):
        by_cell = mine.groupby(["lr", "weight_decay"])
        cells = by_cell.val.agg(value="mean", uncertainty="sem", n="count")
        cells["test"] = by_cell.test.mean()
        cells["num_diverged"] = by_cell.state.agg(lambda state: int((state == "diverged").sum()))
        cells = cells.reset_index()
        best = tuned.tuned(mine, ["optimizer"]).iloc[0]
        cells["picked"] = (cells.lr == best.lr) & (cells.weight_decay == best.weight_decay)
        cells["optimizer"] = figure_style.name_of(optimizer)
        parts.append(cells.assign(origin="proxy"))
    return pd.concat(parts, ignore_index=True)


def _table2_settings(results: Path) -> set[tuple[str, float, float]]:
    rows = paper("hyperparameters", results)
    rows = rows[(rows.group == "scratch ImageNet") & (rows.model == "ViT-B/16")]
    rows = rows[rows.randaug_layers.isna()]
    return set(zip(rows.optimizer, rows.lr.astype(float), rows.weight_decay.astype(float),
                   strict=True))  # fmt: skip


def draw(results: Path = RESULTS) -> Figure:
    """A row of two grids from the paper and, where run, a row of ours below."""
    values = table(results)
    theirs, ours = values[values.origin == "paper"], values[values.origin == "proxy"]
    rows = [theirs] if ours.empty else [theirs, ours]
    runs = study(STUDY, results)
    said = tuned.NOT_RUN
    if runs is not None:
        said = OURS.format(seeds=figure_style.span(ours.n[ours.n > 0]), tests=_tests(runs))
    size = (11.5, 4.5 if ours.empty else 8.4)
    heights = [3.0] if ours.empty else [3.0, max(3.0, 0.5 * ours.weight_decay.nunique())]
    figure, axes = figure_style.canvas(TITLE, f"{CAPTION} {said}", size, [1, 1], heights)
    names = ["Paper: ViT-B/16", "" if runs is None else tuned.title(runs)]
    labels = ["points below the best", "points below the best (validation)"]
    for row, (cells, name, label) in enumerate(zip(rows, names, labels, strict=False)):
        best = cells.value.max()
        scale = Normalize(0, CLIP, clip=True)
        for axis, optimizer in zip(axes[row], OPTIMIZERS, strict=True):
            drawn = _grid(axis, cells[cells.optimizer == optimizer], scale, best)
            place = name if axis is axes[row, 0] else name.partition(":")[0]
            figure_style.panel_title(axis, f"{optimizer}. {place}")
            axis.set_facecolor(PROXY_BACKGROUND if row else "white")
        bar = figure.colorbar(drawn, ax=list(axes[row]), shrink=0.95, pad=0.015, extend="max")
        bar.ax.invert_yaxis()  # the best on top
        bar.set_label(label)
        bar.outline.set_visible(False)
    return figure


def _tests(runs: pd.DataFrame) -> str:
    """Test means of the picked settings, for the caption."""
    arms = tuned.tuned(runs, ["optimizer"]).dropna(subset="test_mean")
    return "; ".join(
        f"{figure_style.name_of(arm.optimizer)} {arm.test_mean:.2f} ± {arm.test_error:.2f} %"
        for arm in arms.itertuples()
    )


def _grid(axis: Any, cells: pd.DataFrame, scale: Normalize, best: float) -> Any:
    """Draws one grid; learning rates go right, weight decays up. Returns the mesh."""
    grid = cells.pivot(index="weight_decay", columns="lr", values="value")
    mesh = axis.pcolormesh(best - grid.to_numpy(), cmap=COLOURS, norm=scale, edgecolors="white",
                           linewidth=1.5)  # fmt: skip
    places = {value: number for number, value in enumerate(grid.columns)}
    heights = {value: number for number, value in enumerate(grid.index)}
    for item in cells.itertuples():
        x, y = places[item.lr], heights[item.weight_decay]
        if item.num_diverged:
            axis.add_patch(Rectangle((x, y), 1, 1, hatch="////", fill=False, edgecolor="#bbbbbb",
                                     linewidth=0))  # fmt: skip
        if item.value == item.value:
            dark = scale(best - item.value) > 0.45
            axis.text(x + 0.5, y + 0.5, f"{item.value:.1f}", ha="center", va="center",
                      fontsize=10 if len(grid.columns) < 6 else 8.5,
                      color="white" if dark else "#111111")  # fmt: skip
        if item.picked:
            for width, colour in ((4.5, "#111111"), (2.2, "white")):
                axis.add_patch(Rectangle((x + 0.04, y + 0.05), 0.92, 0.9, fill=False,
                                         edgecolor=colour, linewidth=width))  # fmt: skip
    axis.set_xticks([x + 0.5 for x in places.values()], [f"{lr:g}" for lr in places])
    axis.set_yticks([y + 0.5 for y in heights.values()], [f"{wd:g}" for wd in heights])
    axis.tick_params(length=0)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.set_xlabel("peak learning rate")
    axis.set_ylabel("weight decay")
    return mesh
