"""By what factor Lion's best settings differ from AdamW's, on each proxy and batch size.

Ours: the studies of `analysis.best_ratios`. Paper: its advice, section 5.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from experiments.analysis import best_ratios
from experiments.analysis.best_ratios import PAPER
from experiments.analysis.drawing import dot_panels, figure_style, search_panels
from experiments.analysis.sources import RESULTS
from experiments.pages import script

TITLE = "By what factor do the best settings of Lion and AdamW differ?"
ADVICE = (
    "Paper: arXiv:2302.06675, section 5, transcribed: a learning rate 3 to 10 times smaller than "
    "AdamW's, a weight decay larger by as much (shaded)."
)
OURS = (
    "Ours: a proxy in each row and panel, no result of the paper's models. A smooth top is fitted "
    "to each optimizer's grid of {settings} settings ({seeds}), by validation; 95 % by a bootstrap "
    "of the fit, not corrected for their number, and cut at the end of a panel. Over the batch "
    "size: the number of epochs is fixed, so a larger batch also means fewer steps; grey, with "
    "40 % of the labels redrawn; dotted, with 200 examples to train on. {trend}"
)
COMMAND = f"{script('run')} -m experiment=vit_proxy optimizer=adamw,lion sweep=lr_wd_proxy"
PER_ROW = 4
LIONS, REDRAWN = figure_style.colour_of("Lion"), "#8a8a8a"
SHADES = ("#9ecae1", "#4292c6", "#0868ac", "#08306b")
"""Of batch sizes, small to large."""
TICKS = (0.3, 1, 3, 10, 30, 100)
HIGHEST = 60.0
"""End of the scale of the lower panels: wider intervals are cut there."""


def table(results: Path = RESULTS) -> pd.DataFrame:
    """What `best_ratios.table` gives."""
    return best_ratios.table(results)


def draw(results: Path = RESULTS) -> Figure:
    """Every proxy as it was tuned; then each family over its batch sizes, and over its lengths."""
    found = table(results)
    if found.empty:
        return search_panels.not_run(TITLE, ADVICE, "nothing has been tuned", COMMAND)
    rows = found[found.kind.isin(["tuned", "length"])]
    lower = [(_batches, part) for part in _families(found, "batch")]
    lower += [(_steps, part) for kind in ("parted", "steps") for part in _families(found, kind)]
    num_rows = -(-len(lower) // PER_ROW)
    caption = f"{ADVICE} {_said(found)}"
    width, inches = 12.6, [0.3 * len(rows) + 0.9, *[2.7] * num_rows]
    size = (width, sum(inches) + 0.4 + figure_style.caption_inches(caption, width))
    figure, axes = figure_style.canvas(TITLE, caption, size, [1] * PER_ROW, inches)
    left, right = figure_style.panels(figure, axes[0], [1, 1], space=0.04)
    _forest(left, rows, "lr", "AdamW's best learning rate / Lion's")
    _forest(right, rows, "decay", "Lion's best weight decay / AdamW's", names=False)
    for number, axis in enumerate(axes[1:].ravel()):
        if number >= len(lower):
            axis.set_axis_off()
            continue
        panel, mine = lower[number]
        panel(axis, mine)
        _finish(axis, mine.name.iloc[0], is_first=number % PER_ROW == 0)
    return figure


def _said(found: pd.DataFrame) -> str:
    trend = ""
    if found_trends := best_ratios.trends(found):
        trend = f"With each doubling of it the ratio changes by {_factor(found_trends)}."
    if parted := best_ratios.trends(found, "parted"):
        trend += (
            " Over the number of steps: with each doubling it changes by "
            f"{_factor(parted, 'steps')} at one batch size, and with each doubling of the batch, "
            f"at as many steps, by {_factor(parted)}."
        )
    if later := best_ratios.trends(found, "steps"):
        trend += (
            f" Last, other families, predicted to grow, too, at batch {best_ratios.BATCH}: with "
            f"each doubling of the steps {_factor(later, 'steps')}."
        )
    seeds = figure_style.span(found.seeds)
    return OURS.format(
        settings=figure_style.span(found.settings),
        seeds=f"{seeds} tuning seed" + "s" * (seeds != "1"),
        trend=trend,
    )


def _factor(found: Mapping[str, best_ratios.Trend], name: str = "batch_size") -> str:
    one = found[name]
    families = f"{len(one.of_families)} families"
    return f"a factor of {one} (mean over {families})"


def _families(found: pd.DataFrame, kind: str) -> list[pd.DataFrame]:
    """The rows of each experiment, in order."""
    rows = found[found.kind == kind]
    return [rows[rows.experiment == name] for name in dict.fromkeys(rows.experiment)]


def _name(item: Any) -> str:
    name = item.name + (f", {100 * item.label_noise:.0f} % redrawn" if item.label_noise else "")
    return name + (f", {item.steps:,} steps" if item.kind == "length" else "")


def _forest(axis: Any, rows: pd.DataFrame, short: str, label: str, *, names: bool = True) -> None:
    order = [_name(item) for item in rows.itertuples()]
    dot_panels.as_proxy(axis)
    dot_panels.rules(axis, order)
    axis.set_ylim(len(order) - 0.5, -1.1)  # the word proxy has a line of its own
    axis.axvspan(*PAPER, color="#dddddd", alpha=0.6, linewidth=0, zorder=0)
    axis.axvline(1, color="#888888", linewidth=0.9, zorder=1)
    for height, item in enumerate(rows.itertuples()):
        if reason := getattr(item, f"{short}_reason"):
            axis.text(1.15, height, f"not known: {reason}", va="center", fontsize=8.5,
                      color=figure_style.FAINT)  # fmt: skip
            continue
        ends = [getattr(item, f"{short}_{x}") for x in ("estimate", "low", "high")]
        _interval(axis, *ends, height=height)
    axis.set_xscale("log")
    axis.set_xlim(0.7 if short == "lr" else 0.5, 30 if short == "lr" else 150)
    _plain_ticks(axis.xaxis)
    axis.set_xlabel(label)
    axis.tick_params(labelleft=names)


def _interval(axis: Any, middle: float, low: float, high: float, *, height: float) -> None:
    axis.plot([low, high], [height] * 2, color=LIONS, linewidth=1.8, solid_capstyle="butt")
    axis.plot([middle], [height], "o", color=LIONS, markersize=6.5)


def _batches(axis: Any, curves: pd.DataFrame) -> None:
    """A line for each study and share of redrawn labels: blue as they are, grey redrawn."""
    parts = [part for _, part in curves.groupby(["study", "label_noise"], sort=False)]
    for number, part in enumerate(parts):
        is_small = "200 examples" in part.name.iloc[0]
        colour = REDRAWN if (part.label_noise > 0).any() else LIONS
        places = part.batch_size * 1.12 ** (number - 0.5)
        _curve(axis, places, part, "s:" if is_small else "o-", colour)
    axis.set_xscale("log", base=2)
    sizes = sorted(set(curves.batch_size))
    axis.set_xticks(sizes, [f"{size}" for size in sizes])
    axis.set_xlabel("batch size")


def _steps(axis: Any, cells: pd.DataFrame) -> None:
    """A line for each batch size, the darker the larger."""
    sizes = sorted(set(cells.batch_size))
    shades = SHADES if len(sizes) > 1 else (LIONS,)
    for number, size in enumerate(sizes):
        part = cells[cells.batch_size == size].sort_values("steps")
        places = part.steps * 1.1 ** (number - (len(sizes) - 1) / 2)
        shade = shades[number % len(shades)]
        _curve(axis, places, part, "o-", shade, label=f"batch {size}")
    axis.set_xscale("log")
    lengths = sorted(set(cells.steps))
    axis.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axis.set_xlabel("steps")
    axis.legend(frameon=False, fontsize=8, ncols=2, loc="lower right", handlelength=1.2,
                columnspacing=1.0)  # fmt: skip


def _curve(axis: Any, places: Any, part: pd.DataFrame, line: str, colour: str, **more: Any) -> None:
    """Estimates that are told, joined, with their intervals."""
    told = part.lr_reason == ""
    places, part = places[told], part.loc[told]
    axis.plot(places, part.lr_estimate, line, color=colour, markersize=5, linewidth=1.5, **more)
    axis.vlines(places, part.lr_low, part.lr_high.clip(upper=HIGHEST), color=colour, linewidth=1)


def _finish(axis: Any, name: str, *, is_first: bool) -> None:
    dot_panels.as_proxy(axis)
    axis.axhspan(*PAPER, color="#dddddd", alpha=0.6, linewidth=0, zorder=0)
    axis.axhline(1, color="#888888", linewidth=0.9, zorder=1)
    axis.set_yscale("log")
    axis.set_ylim(0.7, HIGHEST)
    axis.minorticks_off()
    _plain_ticks(axis.yaxis)
    axis.tick_params(labelleft=is_first)
    if is_first:
        axis.set_ylabel("lr, AdamW's / Lion's")
    figure_style.panel_title(axis, f"Ours, proxy: {name}")


def _plain_ticks(axis: Any) -> None:
    axis.set_major_locator(ticker.FixedLocator(TICKS))
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_locator(ticker.NullLocator())
