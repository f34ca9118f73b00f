"""Image-text retrieval during LiT training, and by our small model.

Source: a figure of the paper, digitised.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.analysis import big_vision
from experiments.analysis.drawing import (
    batch_panels,
    curve_panels,
    dot_panels,
    figure_style,
    held_out_panels,
)
from experiments.analysis.sources import RESULTS, paper

TITLE = "LiT-B/16-B: zero-shot image-text retrieval during training, recall (%)"
CAPTION = (
    "Paper: arXiv:2302.06675, digitised from the published figure; uncertainty about 0.01 (band, "
    "thinner than the line), checked on four published gaps; pale: hidden under a legend. Points "
    "below the published axes are unknown. One run each. Every panel has a scale of its own. "
    "The paper's models are not run here."
)
ROWS = ("COCO", "Flickr30K")
DIRECTIONS = {"img2txt": "image → text", "txt2img": "text → image"}
COLUMNS = tuple(product(DIRECTIONS, ("R@1", "R@10")))
OURS = "A text tower for a locked image tower; recall among 800 unseen glyphs and their names"
SERIES = (
    " Last row: as many pairs at each batch size, lr and weight decay tuned there; 95 % (thin: of "
    "the optimizers); coloured: shown at these settings (Holm over the sizes)."
)
OUR_DIRECTIONS = {"img2txt": "i2t", "txt2img": "t2i"}
PROXY_ORDER = ("adamw", "adafactor", "lion")


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Columns dataset, direction, metric, optimizer, step, value (%), uncertainty, quality, origin.

    Of ours (origin proxy; no step) the end only: mean and standard error over n seeds; at other
    batch sizes with batch_size.
    """
    papers = paper("retrieval_curves", results).drop(columns=["version", "model"])
    papers = papers.assign(origin="paper")
    ends, series = _ends(results), _series(big_vision.batch_series(results))
    ends = ends.drop(columns=["hollow", "colour", "row"]).rename(columns={"error": "uncertainty"})
    series = series.assign(dataset=big_vision.IMAGE_TEXT, direction="img2txt", metric="R@1")
    ours = [part.assign(origin="proxy") for part in (ends, series) if len(part)]
    return pd.concat([papers, *ours], ignore_index=True)


def _ends(results: Path) -> pd.DataFrame:
    """Our recalls at the end, a row per direction, rank and optimizer: `held_out_panels.ARMS`."""
    found = big_vision.reported(results, big_vision.IMAGE_TEXT, big_vision.RECALLS)
    is_untuned = held_out_panels.untuned(big_vision.contrastive(results))
    rows = []
    for (direction, metric), name in product(COLUMNS, PROXY_ORDER):
        if name in found:
            column = f"{OUR_DIRECTIONS[direction]} {metric.removeprefix('R@')}"
            values = found[name][column].dropna()
            shown = figure_style.name_of(name)
            rows.append({
                "dataset": big_vision.IMAGE_TEXT, "direction": direction, "metric": metric,
                "optimizer": shown, "value": values.mean(), "error": values.sem(),
                "n": len(values), "row": shown, "hollow": name in is_untuned,
                "colour": figure_style.colour_of(shown),
            })  # fmt: skip
    keys = ["dataset", "direction", "metric"]
    return pd.DataFrame(rows, columns=[*keys, *held_out_panels.ARMS])


def _series(found: pd.DataFrame) -> pd.DataFrame:
    """Recall of both optimizers at each batch size, as `batch_panels.panel` takes them."""
    rows = [
        {"optimizer": figure_style.name_of(item[side]), "batch_size": item["batch_size"],
         "value": item[f"{side}_mean"], "uncertainty": item[f"{side}_error"], "n": item["n"],
         "on_edge": item[side] in str(item["edges"]).split(", ")}
        for side in ("theirs", "ours")
        for item in found.sort_values("batch_size").to_dict("records")
    ]  # fmt: skip
    columns = ["optimizer", "batch_size", "value", "uncertainty", "n", "on_edge"]
    return pd.DataFrame(rows, columns=columns)


def draw(results: Path = RESULTS) -> Figure:
    """A row of panels per data set: both directions, recall at rank 1 and at rank 10; then ours."""
    points = table(results)
    points = points[points.origin == "paper"]
    ends, series = _ends(results), big_vision.batch_series(results)
    is_run, has_series = ends.value.notna().any(), (series.n > 0).any()
    rows = [1.0, 1.0, *([0.72] if is_run else []), *([0.9] if has_series else [])]
    figure, axes = figure_style.canvas(
        TITLE, f"{CAPTION} {_caption(results, is_run, has_series)}",
        (14, 6.2 + 2.4 * is_run + 3.0 * has_series), [1] * 4, rows,
    )  # fmt: skip
    if has_series:
        _over_batches(figure_style.panels(figure, axes[-1], (1.2, 1), space=0.12), series)
    if is_run:
        _our_ends(axes[2], ends)
    for (row, dataset), (column, (direction, metric)) in product(
        enumerate(ROWS), enumerate(COLUMNS)
    ):
        axis = axes[row, column]
        chosen = (points.dataset == dataset) & (points.direction == direction)
        title = f"{dataset}, {DIRECTIONS[direction]}, {metric}"
        _curves(axis, points[chosen & (points.metric == metric)], title)
        axis.set_xlabel("optimizer step (thousands)" if row else "")
        axis.set_ylabel("recall (%)" if column == 0 else "")
    return figure


def _caption(results: Path, is_run: bool, has_series: bool) -> str:
    found = big_vision.contrastive(results)
    said = held_out_panels.caption(found if is_run else found.iloc[:0], OURS, False)
    return said + (SERIES if has_series else "")


def _curves(axis: Any, mine: pd.DataFrame, title: str) -> None:
    ends = []
    for name, part in mine.groupby("optimizer"):
        curve_panels.curve(axis, part, name)
        end = curve_panels.last(part)
        ends.append((end, f"{name}\n{end:.1f}", figure_style.colour_of(name)))
    axis.margins(y=0.08)
    axis.yaxis.set_major_locator(MaxNLocator(5))
    curve_panels.finish(axis, title)
    figure_style.end_labels(axis, ends, gap=0.17)


def _our_ends(axes: Any, ends: pd.DataFrame) -> None:
    for axis, (direction, metric) in zip(axes, COLUMNS, strict=True):
        mine = ends[(ends.direction == direction) & (ends.metric == metric)]
        label = "proxy's recall (%)" if axis is axes[0] else ""
        held_out_panels.means(axis, mine.reset_index(drop=True), label)
        title = f"Ours, proxy: {DIRECTIONS[direction]}, {metric}"
        figure_style.panel_title(axis, title)


def _over_batches(axes: Any, series: pd.DataFrame) -> None:
    left, right = axes
    dot_panels.as_proxy(left)
    values = _series(series).dropna(subset="value")
    batch_panels.panel(left, values, decimals=None, gap=0.16)
    left.set_ylabel("proxy's recall at 1 (%)")
    left.set_xlabel("batch size")
    figure_style.panel_title(left, "Ours, proxy: image → text, R@1")
    found = series.assign(row=[f"{size:,}" for size in series.batch_size])
    held_out_panels.differences(right, found, "Lion − AdamW (points)")
    figure_style.panel_title(right, "Ours, proxy: gain of Lion by batch size")
