"""A table that can be seen: both values as numbers, their difference as a bar, on one scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import figure_style as style

ROW_INCHES = 0.265
NUMBER_INCHES = 0.46  # room for a number at the end of a bar
PLAIN_CAPTION_INCHES = 0.3  # two lines, which the height of every figure has room for
COLUMNS = ["group", "row", "panel", "baseline_name", "baseline", "lion", "gain"]


@dataclass(frozen=True)
class Below:
    """A row of panels of ours below the paper's table."""

    widths: tuple[float, ...]  # of its panels, relative to each other
    inches: float  # its height
    draw: Callable[[list[Any]], None]  # on the axes, from the left


def pair(table: pd.DataFrame, keys: list[str], baselines: list[str]) -> pd.DataFrame:
    """Puts Lion's value beside that of each baseline.

    Args:
        table: Tidy: the keys, optimizer, value.
        keys: Columns that name one measurement.
        baselines: Optimizers to compare with, in their order.

    Returns:
        The keys, baseline_name, baseline, lion and gain (lion - baseline).
    """
    ours = table[table.optimizer == "Lion"][[*keys, "value"]].rename(columns={"value": "lion"})
    parts = []
    for name in baselines:
        theirs = table[table.optimizer == name][[*keys, "value"]]
        theirs = theirs.rename(columns={"value": "baseline"}).assign(baseline_name=name)
        parts.append(ours.merge(theirs, on=keys, validate="one_to_one"))
    joined = pd.concat(parts, ignore_index=True)
    return joined.assign(gain=(joined.lion - joined.baseline).round(4))


def draw(
    gains: pd.DataFrame,
    title: str,
    caption: str,
    *,
    label_inches: float,
    unit: str = "points",
    decimals: int = 2,
    bar_inches: float = 1.5,
    extra: dict[str, dict[str, float]] | None = None,
    below: Below | None = None,
) -> Figure:
    """One line per row, one block of two numbers and a bar per panel.

    Args:
        gains: Columns `COLUMNS`; baseline_name is shown where a table has several; the optional
            early_gain is drawn as a diamond. Rows and panels stand in order of appearance.
        title: Of the figure.
        caption: Its provenance.
        label_inches: Width of the row labels.
        unit: Of the gain.
        decimals: Of every number.
        bar_inches: Width of the bars' axis.
        extra: Columns of numbers behind the panels: heading -> {row: value}.
        below: What else stands below the table.
    """
    lines = _lines(gains)
    panels = list(dict.fromkeys(gains.panel))
    widths = [label_inches, *[1.25, bar_inches] * len(panels)]
    if extra:
        widths.append(0.8 * len(extra))
    width, height = sum(widths) + 0.3, ROW_INCHES * (len(lines) + 2) + 1.45
    heights = [height]
    if below is not None:
        heights.append(below.inches)
        height += below.inches + style.caption_inches(caption, width) - PLAIN_CAPTION_INCHES
    figure, axes = style.canvas(title, caption, (width, height), widths, heights, sharey="row")
    figure.set_layout_engine("constrained", w_pad=0.0, wspace=0.0)
    if below is not None:
        below.draw(style.panels(figure, axes[1], below.widths, space=0.12))
        axes = axes[:1]
    axes[0, 0].set_ylim(len(lines) - 0.4, -2.3)  # two lines of headings above
    several = gains.baseline_name.nunique() > 1
    _labels(axes[0, 0], lines, several, label_inches)
    limits = _limits(gains, bar_inches)
    for number, panel in enumerate(panels):
        mine = gains[gains.panel == panel]
        heading = "baseline" if several else str(gains.baseline_name.iloc[0])
        _numbers(axes[0, 1 + 2 * number], mine, lines, (panel, heading), decimals)
        _bars(axes[0, 2 + 2 * number], mine, lines, limits, (unit, decimals))
    if extra:
        _extra(axes[0, -1], extra, lines, decimals)
    for axis in axes.flat:
        _stripes(axis, lines)
        for text in axis.texts:  # the columns are wide enough; no text may push them apart
            text.set_in_layout(False)
    return figure


Line = tuple[str, str, str]


def _lines(gains: pd.DataFrame) -> list[Line]:
    """What stands on each line, top to bottom: (group, row, baseline); a heading has no row."""
    lines: list[Line] = []
    rows = gains[["group", "row", "baseline_name"]].drop_duplicates()
    for group, part in rows.groupby("group", sort=False):
        if group:
            lines.append((str(group), "", ""))
        lines += [(str(group), r, b) for r, b in zip(part.row, part.baseline_name, strict=True)]
    return lines


def _place(lines: list[Line], item: Any) -> int:
    return lines.index((item.group, item.row, item.baseline_name))


def _labels(axis: Any, lines: list[Line], several: bool, inches: float) -> None:
    axis.axis("off")
    left, indented = 0.09 / inches, 0.2 / inches
    indented = indented if any(group for group, _, _ in lines) else left
    for height, (group, row, baseline) in enumerate(lines):
        if not row:
            axis.text(left, height, group, va="center", fontsize=9.5, fontweight="bold")
            continue
        axis.text(indented, height, row, va="center", fontsize=9.5)
        if several:
            axis.text(1.0, height, baseline, va="center", ha="right", fontsize=9,
                      color=style.colour_of(baseline))  # fmt: skip
    if several:
        axis.text(1.0, -0.62, "against", ha="right", va="bottom", fontsize=9, color=style.FAINT)


def _numbers(
    axis: Any, mine: pd.DataFrame, lines: list[Line], headings: tuple[str, str], decimals: int
) -> None:
    panel, baseline = headings
    axis.axis("off")
    axis.text(0.06, -1.5, panel, fontsize=10.5, fontweight="bold", va="bottom")
    for x, text in ((0.48, baseline), (0.95, "Lion")):
        axis.text(x, -0.62, text, ha="right", va="bottom", fontsize=9, color=style.FAINT)
    for item in mine.itertuples():
        height = _place(lines, item)
        for x, value, other in ((0.48, item.baseline, item.lion), (0.95, item.lion, item.baseline)):
            weight = "bold" if value >= other else "normal"
            axis.text(x, height, f"{value:.{decimals}f}", ha="right", va="center",
                      fontsize=9.5, fontweight=weight)  # fmt: skip


def _bars(
    axis: Any,
    mine: pd.DataFrame,
    lines: list[Line],
    limits: tuple[float, float],
    numbers: tuple[str, int],
) -> None:
    unit, decimals = numbers
    axis.set_xlim(limits)
    axis.plot([0, 0], [-0.6, len(lines) - 0.4], color="#888888", linewidth=0.9)
    axis.tick_params(left=False, labelleft=False)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel(f"gain ({unit})", fontsize=8.5)
    axis.set_xticks([0, _round_number(limits[1])])
    axis.tick_params(axis="x", labelsize=8.5)
    for item in mine.itertuples():
        height = _place(lines, item)
        colour = style.colour_of("lion") if item.gain >= 0 else style.colour_of(item.baseline_name)
        axis.barh(height, item.gain, height=0.62, color=colour, linewidth=0)
        early = getattr(item, "early_gain", float("nan"))
        if early == early:
            axis.plot([early], [height], "D", markersize=5, markerfacecolor="white",
                      markeredgecolor=style.INK, markeredgewidth=1.0)  # fmt: skip
        side = 1 if item.gain >= 0 else -1
        end = max(item.gain, early if early == early else item.gain) if side > 0 else item.gain
        gap = 8 if early == early else 4  # more beside a diamond
        axis.annotate(style.signed(item.gain, decimals), (end, height), xytext=(gap * side, 0),
                      textcoords="offset points", va="center", fontsize=8.5,
                      ha="left" if side > 0 else "right", color=colour)  # fmt: skip


def _limits(gains: pd.DataFrame, bar_inches: float) -> tuple[float, float]:
    """One scale for every bar of the figure, with room for the numbers at their ends."""
    low, high = min(0.0, gains.gain.min()), max(0.0, gains.gain.max())
    room = NUMBER_INCHES / bar_inches
    left = room if low < 0 else 0.04
    scale = (high - low) / (1 - left - room)
    return low - left * scale, high + room * scale


def _round_number(limit: float) -> float:
    """Largest of 1, 2, 5, 10, 20, ... (or 0.5, 0.2, ...) that has room on an axis up to limit."""
    power = 10.0 ** math.floor(math.log10(0.8 * limit))
    return max(step * power for step in (1, 2, 5) if step * power <= 0.8 * limit)


def _extra(axis: Any, extra: dict[str, dict[str, float]], lines: list[Line], decimals: int) -> None:
    axis.axis("off")
    for number, (heading, values) in enumerate(extra.items()):
        x = (number + 0.95) / len(extra)
        axis.text(x, -0.62, heading, ha="right", va="bottom", fontsize=9, color=style.FAINT)
        for height, (_, row, _) in enumerate(lines):
            if row in values:
                axis.text(x, height, f"{values[row]:.{decimals}f}", ha="right", va="center",
                          fontsize=9.5, color=style.FAINT)  # fmt: skip


def _stripes(axis: Any, lines: list[Line]) -> None:
    """A pale band behind every second row leads the eye across the panels."""
    axis.patch.set_alpha(0)
    for height, (_, row, _) in enumerate(lines):
        if row and height % 2:
            axis.axhspan(height - 0.5, height + 0.5, color="#f3f4f6", linewidth=0, zorder=-5)
