"""Values against the batch size: a curve for each optimizer, hollow where it is not tuned."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.analysis.drawing import figure_style as style


def panel(
    axis: Any,
    values: pd.DataFrame,
    decimals: int | None,
    beside: bool = False,
    gap: float = 0.075,
) -> None:
    """A curve for each optimizer, its numbers along it and its name at its end.

    Args:
        axis: To draw on; x is the batch size.
        values: optimizer (as figures call it), batch_size, value, uncertainty, on_edge.
        decimals: Of the numbers; None: there are none.
        beside: Numbers stand beside the error bars, for where these are long.
        gap: Of the names, as a share of the axis' height.
    """
    axis.set_xscale("log", base=2)
    ends = []
    upper = values.sort_values("value").groupby("batch_size").optimizer.last()
    for name, mine in values.dropna(subset="value").groupby("optimizer"):
        colour = style.colour_of(name)
        axis.errorbar(mine.batch_size, mine.value, yerr=mine.uncertainty.fillna(0), color=colour,
                      linestyle=style.dash_of(name), marker="o", capsize=3)  # fmt: skip
        hollow = mine[mine.on_edge.eq(True)]
        axis.plot(hollow.batch_size, hollow.value, "o", color=colour, markerfacecolor="white")
        for number, item in enumerate([] if decimals is None else mine.itertuples()):
            side = 1 if upper[item.batch_size] == name else -1
            shift = _aside(list(mine.value), number, side), 11 * side
            if beside:
                is_end = number in (0, len(mine) - 1)  # the last must be clear of the name
                shift = 17 * (side if number else 1), (13 if is_end else 8) * side
            axis.annotate(f"{item.value:.{decimals}f}", (item.batch_size, item.value),
                          xytext=shift, textcoords="offset points", ha="center",
                          va="center", fontsize=8.5, color=colour,
                          path_effects=style.halo(axis.get_facecolor()))  # fmt: skip
        ends.append((mine.value.iloc[-1], name, colour))
    sizes = sorted(values.batch_size.unique())
    axis.set_xticks(sizes, [_short(size) for size in sizes])
    axis.minorticks_off()
    axis.margins(y=0.12)
    axis.autoscale_view()
    axis.grid(axis="y")
    axis.set_xlabel("batch size (examples per optimizer step)")
    style.end_labels(axis, ends, gap)


def _aside(heights: list[float], number: int, side: int) -> int:
    """How far to move a number (points) out of the way of its own line where that is steep."""
    steep = 0.15 * (max(heights) - min(heights))
    before = heights[number - 1] if number else heights[number]
    after = heights[number + 1] if number + 1 < len(heights) else heights[number]
    here = heights[number]
    left, right = (side * (other - here) > steep for other in (before, after))
    shift = 13 * (int(left) - int(right))
    return shift if number else max(shift, 0)  # never across the vertical axis


def _short(size: float) -> str:
    return f"{size / 1024:g}K" if size >= 10_000 else f"{size:g}"
