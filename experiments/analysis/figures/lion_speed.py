"""Time of an optimizer step on a CPU: ours, other Lions and AdamW. Source: our benchmark."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from experiments.analysis.drawing import figure_style
from experiments.analysis.sources import RESULTS
from experiments.pages import script
from experiments.store import UserError

TITLE = "Time of one optimizer step on a CPU, by implementation and model size"
CAPTION = (
    "Our measurement, scripts/bench_lion.py on {cpu}, {threads} threads, torch {torch}, weights in "
    "float32; medians, in turns in one process (results/bench/). Dashed: "
    "a plain loop with Lion's traffic, 20 bytes a parameter, about the memory's speed (AdamW moves "
    "28, Lion with a smaller momentum less). No GPU was measured. Rows "
    "that name no other optimizer are Lion."
)
SIZES = {
    "vit_base": "ViT-B/16, 87 M",
    "vit_small": "ViT-S/16, 22 M",
    "tiny": "tiny ViT, 1.8 M",
    "micro": "micro ViT, 0.2 M",
}
ROOF = "roof"
OURS = "(ours"


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Columns params, name, ms, roof_percent, state_bytes_per_param; and the machine's.

    Raises:
        UserError: where a measurement is missing or damaged.
    """
    rows = []
    for size in SIZES:
        path = results / "bench" / f"lion_{size}.json"
        try:
            measured = json.loads(path.read_text())
            machine = {key: measured[key] for key in ("cpu", "threads", "torch")}
            rows += [{"params": size, **machine, **row} for row in measured["rows"]]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path}: no measurement ({error}): check it out, or run "
                f"{script('bench_lion')} --params {size} --json"
            ) from None
    columns = ["params", "name", "ms", "roof_percent", "state_bytes_per_param"]
    return pd.DataFrame(rows)[[*columns, "cpu", "threads", "torch"]]


def draw(results: Path = RESULTS) -> Figure:
    """A panel per model size, a dot per implementation, the quickest at the top."""
    measured = table(results)
    machine = measured.iloc[0]
    caption = CAPTION.format(cpu=machine.cpu, threads=machine.threads, torch=machine.torch)
    figure, axes = figure_style.canvas(TITLE, caption, (13, 10.4), [1, 1], [1, 1])
    for axis, (size, title) in zip(axes.flat, SIZES.items(), strict=True):
        _panel(axis, measured[measured.params == size])
        figure_style.panel_title(axis, f"{title} parameters")
    return figure


def _panel(axis: Any, measured: pd.DataFrame) -> None:
    times = measured.set_index("name").ms
    roof, times = times[ROOF], times.drop(ROOF).sort_values(ascending=False)
    axis.axvline(roof, color=figure_style.FAINT, linewidth=1.1, linestyle=(0, (4, 2)), zorder=0)
    for height, (name, ms) in enumerate(times.items()):
        colour = figure_style.OTHER_COLOUR
        if OURS in name:
            colour = figure_style.colour_of("lion")
        elif name.startswith("AdamW"):
            colour = figure_style.colour_of("adamw")
        axis.plot(ms, height, "o", color=colour, markersize=7)
        axis.annotate(f"{ms:.3g}", (ms, height), xytext=(9, 0), textcoords="offset points",
                      va="center", fontsize=8.5, color=colour,
                      fontweight="bold" if OURS in name else "normal",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4})  # fmt: skip
    names = [re.sub(r"^Lion \((.*)\)$", r"\1", name) for name in times.index]
    axis.set_yticks(range(len(times)), names, fontsize=8.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y")
    axis.set_ylim(-0.7, len(times) - 0.3)
    axis.set_xscale("log")
    axis.set_xlim(min(roof, times.min()) * 0.7, times.max() * 2)
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.set_xlabel(f"ms a step (logarithmic); dashed: {roof:.3g} ms")
