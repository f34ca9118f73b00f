"""What the figures of program searches share: bands over seeds, colours, and "not run yet"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import searches
from experiments.analysis.drawing import figure_style
from experiments.store import UserError

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#A8578E", "#7A5C00", "#555555")
GAIN = (
    "Gain: nats of held-out loss below that of AdamW (without bias correction), both at the best "
    "of the same learning rates, same initial weights and batches."
)
SMALL = "Tiny models, some hundred steps: no claim about larger ones."


def draw_or_say(
    title: str, paper: str, results: Path, draw: Callable[[searches.Tables], Figure]
) -> Figure:
    """The figure of the committed study; where it lacks what is drawn, one that says so.

    Args:
        title: Of the figure.
        paper: Sentence on the paper's numbers.
        results: Folder of all results.
        draw: Makes the figure of a study's tables; raises UserError for what is missing.
    """
    tables = searches.of_results(results)
    if tables is None:
        return not_run(title, paper, "no program search of ours has been collected", searches.START)
    try:
        return draw(tables)
    except UserError as missing:
        return not_run(title, paper, str(missing), searches.COMMAND)


def not_run(title: str, paper: str, reason: str, command: str) -> Figure:
    """A figure without numbers that says what is missing, and which command makes it."""
    figure, axes = figure_style.canvas(title, f"{paper} Ours: not run yet.", (8.5, 2.1))
    axis = axes[0, 0]
    axis.set_axis_off()
    axis.text(0, 0.75, f"Not run yet: {reason}", transform=axis.transAxes, va="center")
    axis.text(0, 0.3, command, transform=axis.transAxes, va="center", fontsize=9,
              family="DejaVu Sans Mono", color=figure_style.FAINT)  # fmt: skip
    return figure


def band(curves: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Mean and standard error over seeds at common places, each seed as a step function.

    Args:
        curves: Of one arm: seed, x, y; places without a finite value do not count.
        x: Column of the place.
        y: Column of the value.

    Returns:
        x, mean, error (0 with one seed); only where every seed has a value.
    """
    curves = curves.loc[np.isfinite(curves[y].to_numpy(float))]
    by_seed = [part.sort_values(x, kind="stable") for _, part in curves.groupby("seed")]
    if not by_seed:
        return pd.DataFrame(columns=["x", "mean", "error"], dtype=float)
    low, high = max(p[x].min() for p in by_seed), min(p[x].max() for p in by_seed)
    places = np.unique(np.concatenate([part[x].to_numpy() for part in by_seed]))
    places = places[(places >= low) & (places <= high)]
    values = np.stack(
        [p[y].to_numpy()[np.searchsorted(p[x].to_numpy(), places, "right") - 1] for p in by_seed]
    ).astype(float)
    count = len(by_seed)
    error = values.std(axis=0, ddof=1) / count**0.5 if count > 1 else np.zeros(len(places))
    return pd.DataFrame({"x": places, "mean": values.mean(axis=0), "error": error})


def draw_band(axis: Any, line: pd.DataFrame, colour: str) -> None:
    """A mean with its standard error, in steps; some places of many are enough for the eye."""
    line = thinned(line)
    axis.fill_between(line.x, line["mean"] - line.error, line["mean"] + line.error,
                      color=colour, alpha=0.2, linewidth=0, step="post")  # fmt: skip
    axis.plot(line.x, line["mean"], color=colour, linewidth=1.7, drawstyle="steps-post")


def thinned(line: pd.DataFrame, most: int = 60) -> pd.DataFrame:
    """At most so many places of a line, first and last among them: files stay small."""
    if len(line) <= most:
        return line
    return line.iloc[np.unique(np.linspace(0, len(line) - 1, most).round().astype(int))]


def seeds_of(rows: pd.DataFrame, column: str = "label") -> str:
    """How many seeds each arm has, for a caption."""
    counts = rows.groupby(column, sort=False).seed.nunique()
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def nothing(axis: Any, said: str) -> None:
    """An empty panel that says why."""
    axis.set_axis_off()
    axis.text(0.02, 0.8, said, color=figure_style.FAINT, transform=axis.transAxes)
