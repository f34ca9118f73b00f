"""FID of diffusion models on ImageNet against steps. Source: a figure of the paper, digitised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from experiments.analysis.drawing import curve_panels, figure_style, fresh_panels
from experiments.analysis.sources import RESULTS, paper
from experiments.analysis.statistics.crossing import times_sooner
from experiments.analysis.tuned import title

TITLE = "Diffusion models on ImageNet: FID during training (lower is better)"
CAPTION = (
    "Paper: arXiv:2302.06675, digitised from the published figure; uncertainty 0.001 to 0.02 "
    "(band, mostly thinner than the line); pale: hidden under a legend or very steep. One run "
    "each, constant learning rate. Arrow, × sooner: steps to AdamW's last value, on straight lines "
    "between evaluations. The paper says up to 2.3 × (256 pixels: 440K of 1M steps). At 64 and 128 "
    "pixels AdamW's own curve is flat and noisy at its end: it, too, passed its last value long "
    "before (in brackets), so 4.1 × and 4.0 × say as much of its noise as of Lion. The three "
    "vertical scales differ."
)
OURS = "diffusion_proxy"
METRICS = {
    "eps_loss": "error of the predicted noise",
    "fd1k_ddim20": "Fréchet distance, 1,000 samples (no FID)",
}
SPLITS = {"fd1k_ddim20": "samples"}
"""Where a metric is not measured on the split that is tuned on."""


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Columns origin, resolution, optimizer, step, value (FID), uncertainty, quality.

    Of ours (origin proxy) also metric, experiment and n.
    """
    rows = paper("diffusion_fid_curves", results).rename(columns={"fid": "value"})
    rows = rows[["resolution", "optimizer", "step", "value", "uncertainty", "quality"]]
    ours = [fresh_panels.tidy(_read(results, m), m) for m in METRICS]
    parts = [rows.assign(origin="paper"), *(part for part in ours if len(part))]
    return pd.concat(parts, ignore_index=True)


def _read(results: Path, metric: str) -> fresh_panels.Fresh | None:
    return fresh_panels.read(results, OURS, metric, SPLITS.get(metric))


def draw(results: Path = RESULTS) -> Figure:
    """One panel per resolution; below ours, where run."""
    points = table(results)
    points = points[points.origin == "paper"]
    found = {metric: _read(results, metric) for metric in METRICS}
    is_run = any(one is not None and len(one.points) for one in found.values())
    caption = f"{CAPTION} {fresh_panels.caption(list(found.values()), 'below')}"
    caption += " Averaged weights, logarithmic scales." if is_run else ""
    size, heights = ((12, 8.6), [1, 0.9]) if is_run else ((12, 4.3), [1])
    figure, axes = figure_style.canvas(TITLE, caption, size, [1, 1, 1], heights)
    if is_run:
        axes[1, 2].set_axis_off()
        for axis, (metric, one) in zip(axes[1], found.items(), strict=False):
            assert one is not None
            axis.set_yscale("log")  # the ends are what is asked, and small
            axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_locator(NullLocator())
            fresh_panels.panel(axis, one, METRICS[metric])
            figure_style.panel_title(
                axis, title(one.runs).replace(" (", "\n(") if metric == "eps_loss" else ""
            )
    for axis, resolution in zip(axes[0], ("64x64", "128x128", "256x256"), strict=True):
        _panel(axis, points[points.resolution == resolution])
        curve_panels.finish(axis, f"{resolution.replace('x', ' × ')} pixels", "FID")
    return figure


def _panel(axis: Any, points: pd.DataFrame) -> None:
    by_optimizer = {name: points[points.optimizer == name] for name in ("AdamW", "Lion")}
    for name, mine in by_optimizer.items():
        curve_panels.curve(axis, mine, name)
    ratio = curve_panels.mark_reach(axis, by_optimizer["Lion"], by_optimizer["AdamW"])
    axis.margins(y=0.1)
    axis.autoscale_view()
    ends = []
    for name, mine in by_optimizer.items():
        end = curve_panels.last(mine)
        sooner = f"\n{ratio:.1f} × sooner" if name == "Lion" and ratio else ""
        if name == "AdamW" and (own := times_sooner(mine, mine)):
            sooner = f"\n(itself {own:.1f} ×)"
        ends.append((end, f"{name}\n{end:.2f}{sooner}", figure_style.colour_of(name)))
    figure_style.end_labels(axis, ends, gap=0.19)
