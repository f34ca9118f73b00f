"""Values of many arms as dots with their numbers, and panels of ours that cannot be mistaken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib import ticker

from experiments.analysis.drawing import figure_style as style

PROXY_BACKGROUND = "#fdf6e3"


@dataclass(frozen=True)
class Difference:
    """A row of `differences`."""

    row: str
    mean: float
    low: float  # not finite: there is no interval
    high: float
    winner: str = ""  # optimizer that is shown to be ahead; none: nothing is shown
    is_tuned: bool = True  # hollow where not
    wide: tuple[float, float] | None = None  # a second interval, drawn thin


def dots(axis: Any, values: pd.DataFrame, order: Sequence[str], decimals: int = 2) -> None:
    """One dot per row, its number beside it, and a line through the row for the eye.

    Args:
        axis: x is the value; rows go from top to bottom.
        values: row, value, colour; optional error (half width of the bar) and hollow.
        order: Every row's name, top to bottom; a row without value stays empty.
        decimals: Of the numbers.
    """
    rules(axis, order)
    best = values.value.max()
    for item in values.dropna(subset="value").itertuples():
        height = list(order).index(item.row)
        error = getattr(item, "error", float("nan"))
        error = error if error == error else 0.0
        face = "white" if getattr(item, "hollow", False) else item.colour
        axis.errorbar([item.value], [height], xerr=[[error], [error]] if error else None,
                      color=item.colour, marker="o", markersize=7, markerfacecolor=face,
                      capsize=3, linewidth=1.6)  # fmt: skip
        axis.annotate(f"{item.value:.{decimals}f}", (item.value + error, height), xytext=(8, 0),
                      textcoords="offset points", va="center", fontsize=9,
                      fontweight="bold" if item.value == best else "normal",
                      bbox={"facecolor": axis.get_facecolor(), "edgecolor": "none", "pad": 0.6},
                      color=style.INK)  # fmt: skip
    axis.margins(x=0.1)
    low, high = axis.get_xlim()
    axis.set_xlim(low, high + 0.24 * (high - low))  # room for the numbers
    axis.xaxis.set_major_locator(ticker.MaxNLocator(5))


def differences(axis: Any, rows: Sequence[Difference], order: Sequence[str]) -> None:
    """Intervals of ours minus theirs, a row each, with a line at zero; grey where nothing is shown.

    Args:
        axis: x is the difference; rows go from top to bottom.
        rows: Of a name in `order`.
        order: Every row's name, top to bottom; a row without difference stays empty.
    """
    rules(axis, order)
    axis.axvline(0, color="#888888", linewidth=0.9, zorder=1)
    for item in rows:
        height = list(order).index(item.row)
        is_bounded = math.isfinite(item.low) and math.isfinite(item.high)
        reach = [[item.mean - item.low], [item.high - item.mean]] if is_bounded else None
        colour = style.colour_of(item.winner) if item.winner else style.OTHER_COLOUR
        axis.errorbar([item.mean], [height], xerr=reach, color=colour, marker="o", markersize=7,
                      markerfacecolor=colour if item.is_tuned else "white", capsize=3,
                      linewidth=1.6)  # fmt: skip
        end = item.high if is_bounded else item.mean
        if item.wide is not None and all(map(math.isfinite, item.wide)):
            axis.plot(item.wide, [height] * 2, color=colour, linewidth=0.7, zorder=2)
            end = max(end, item.wide[1])
        said = style.signed(item.mean, 2) + ("" if is_bounded else " (no interval)")
        axis.annotate(said, (end, height), xytext=(7, 0),
                      textcoords="offset points", va="center", fontsize=9, color=colour,
                      bbox={"facecolor": axis.get_facecolor(), "edgecolor": "none",
                            "pad": 0.6})  # fmt: skip
    axis.margins(x=0.1)
    axis.autoscale_view(scaley=False)
    low, high = axis.get_xlim()
    room = 0.3 if all(math.isfinite(item.high) for item in rows) else 0.75
    axis.set_xlim(low, high + room * (high - low))  # for the numbers
    axis.xaxis.set_major_locator(ticker.MaxNLocator(4))


def with_counts(words: str, cells: Any) -> str:
    """A caption with {settings}, {tuning}, {seeds} and {fresh} filled in.

    Args:
        words: The caption.
        cells: Columns num_settings, num_tuning_seeds and n, of fresh seeds.
    """
    tuning = style.span(cells.num_tuning_seeds)
    return words.format(
        settings=style.span(cells.num_settings),
        tuning=tuning,
        seeds="seed" if tuning == "1" else "seeds",
        fresh=style.span(cells.n[cells.n > 0]),
    )


def two_intervals(axis: Any, height: float, cell: Any, colour: str) -> None:
    """How far ours is ahead: thick at the settings found, thin of the optimizers; filled: shown.

    Args:
        axis: x is the difference, positive where ours is ahead.
        height: Of the row.
        cell: A row with `confirmed.COLUMNS`, and `sign`: 1 where a larger value is better.
        colour: Of the line.
    """
    for low, high, width in (
        (cell.wide_low, cell.wide_high, 1.0),
        (cell.low, cell.high, 3.4),
    ):
        ends = sorted((cell.sign * low, cell.sign * high))
        axis.plot(ends, [height] * 2, color=colour, linewidth=width, solid_capstyle="butt")
    is_shown = cell.verdict in ("better", "worse")
    axis.plot([cell.sign * cell.difference], [height], "o", color=colour, markersize=7,
              markerfacecolor=colour if is_shown else "white")  # fmt: skip


def rules(axis: Any, order: Sequence[str]) -> None:
    """Names of the rows at the left, from top to bottom, and a line through each for the eye."""
    axis.set_ylim(len(order) - 0.5, -0.5)
    axis.set_yticks(range(len(order)), order)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.hlines(range(len(order)), 0, 1, transform=axis.get_yaxis_transform(),
                color="#e3e3e3", linewidth=0.9, zorder=0)  # fmt: skip


def as_proxy(axis: Any) -> None:
    """Marks a panel as ours: another background, and the word."""
    axis.set_facecolor(PROXY_BACKGROUND)
    axis.text(0.985, 0.985, "proxy", transform=axis.transAxes, ha="right", va="top",
              fontsize=9, style="italic", color=style.FAINT)  # fmt: skip
