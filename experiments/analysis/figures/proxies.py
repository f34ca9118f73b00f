"""The published comparisons on proxies: Lion minus AdamW over paired seeds. Only our own runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import dot_panels, figure_style
from experiments.analysis.markdown import SAID
from experiments.analysis.sources import PROXIES, RESULTS, proxies
from experiments.analysis.statistics.comparison import choose, compare
from experiments.analysis.statistics.difference import MIN_PAIRS

TITLE = "Our proxies: Lion against AdamW after tuning the learning rate of both"
CAPTION = (
    "Ours, all proxies: no results of the paper's models or of ImageNet. {models} Validation picks "
    "one of three learning rates, the test set reports it; weight decay was not tuned. Left: mean "
    "and standard error over the seeds. Right: difference over paired seeds, of which each reports "
    "what the others picked, with its 95 % interval (Student's t; the spread is not below the "
    "steps of the metric), not corrected for asking several times; n = {seeds} seeds. Filled: "
    "shown, for which an exact test has to agree, too ({test}; 5 %){unlike}."
)


def table(results: Path = RESULTS) -> pd.DataFrame:
    """One row per proxy.

    Returns:
        Columns experiment, adamw and lion (test accuracy, %), adamw_error and lion_error (standard
        errors), difference, low, high (points, 95 % interval), n, p_exact (of the exact test),
        verdict on Lion, on_edge.
    """
    rows = []
    for experiment, runs in proxies(results).items():
        lion, adamw = choose(runs, "lion"), choose(runs, "adamw")
        gain = compare(runs, "lion", "adamw")
        rows.append({
            "experiment": experiment,
            "adamw": adamw.test_mean, "adamw_error": adamw.test_error,
            "lion": lion.test_mean, "lion_error": lion.test_error,
            "difference": gain.mean, "low": gain.low, "high": gain.high, "n": gain.n,
            "p_exact": gain.p_exact, "verdict": gain.verdict,
            "on_edge": lion.on_edge or adamw.on_edge,
        })  # fmt: skip
    return pd.DataFrame(rows).sort_values("difference", ascending=False, ignore_index=True)


def draw(results: Path = RESULTS) -> Figure:
    """Left the accuracies, right their difference."""
    rows = table(results)
    counts = sorted(rows.n.unique())
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    models = "; ".join(f"{e}: {PROXIES[e]}" for e in rows.experiment if e in PROXIES) + "."
    said = CAPTION.format(
        models=models, seeds=seeds, test=_exact_test(counts), unlike=_unlike(rows)
    )
    figure, axes = figure_style.canvas(TITLE, said, (12.5, 0.5 * len(rows) + 1.9), [1, 1])
    _accuracies(axes[0, 0], rows)
    _differences(axes[0, 1], rows)
    return figure


def _exact_test(counts: Sequence[int]) -> str:
    """Which one fits the numbers of seeds (`difference.p_exact`)."""
    flips, groups = "all ways to turn signs", "all ways to divide the values over the two"
    kinds = {flips if n >= MIN_PAIRS else groups for n in counts}
    return " or ".join(sorted(kinds))


def _unlike(rows: pd.DataFrame) -> str:
    """Where the interval leaves out 0 and the exact test does not agree."""
    apart = rows[((rows.low > 0) | (rows.high < 0)) & (rows.verdict == "inconclusive")]
    each = [f"of {item.experiment} it says p {item.p_exact:.2g}" for item in apart.itertuples()]
    return f": {', '.join(each)}" if each else ""


def _accuracies(axis: Any, rows: pd.DataFrame) -> None:
    dot_panels.as_proxy(axis)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_yticks(range(len(rows)), rows.experiment)
    for name, page, shift in (("AdamW", "adamw", 0.16), ("Lion", "lion", -0.16)):
        heights = [height + shift for height in range(len(rows))]
        colour = figure_style.colour_of(name)
        axis.errorbar(rows[page], heights, xerr=rows[f"{page}_error"], fmt="o", color=colour,
                      capsize=3)  # fmt: skip
        for height, value, error in zip(heights, rows[page], rows[f"{page}_error"], strict=True):
            axis.annotate(f"{name} {value:.1f}", (value + error, height), xytext=(7, 0),
                          textcoords="offset points", va="center", fontsize=9,
                          color=colour)  # fmt: skip
    low, high = axis.get_xlim()
    axis.set_xlim(low, high + 0.2 * (high - low))
    axis.set_xlabel("proxy's test accuracy (%)")
    axis.grid(axis="x")
    axis.tick_params(axis="y", length=0)
    figure_style.panel_title(axis, "Test accuracy at the picked learning rate")


def _differences(axis: Any, rows: pd.DataFrame) -> None:
    dot_panels.as_proxy(axis)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_yticks(range(len(rows)), rows.experiment)
    axis.tick_params(axis="y", length=0, labelleft=False)
    axis.axvline(0, color="#888888", linewidth=1)
    for height, item in enumerate(rows.itertuples()):
        shown = item.verdict in ("better", "worse")
        colour = figure_style.colour_of("lion" if item.difference > 0 else "adamw")
        colour = colour if shown else figure_style.FAINT
        reach = [[item.difference - item.low], [item.high - item.difference]]
        axis.errorbar([item.difference], [height], xerr=reach, fmt="o", color=colour, capsize=4,
                      markerfacecolor=colour if shown else "white")  # fmt: skip
        difference = figure_style.signed(item.difference, 1)
        said = f"{difference}: {SAID[item.verdict]}"
        axis.annotate(said, (item.difference, height), xytext=(0, 11), va="center", ha="center",
                      textcoords="offset points", fontsize=9, color=colour,
                      path_effects=figure_style.halo(axis.get_facecolor()))  # fmt: skip
    axis.set_xlabel("Lion − AdamW, test accuracy (points)")
    figure_style.panel_title(axis, "Difference, with its 95 % interval")
