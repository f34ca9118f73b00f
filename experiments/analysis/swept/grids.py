"""Heat maps of what a sweep tried: all optimizers of a condition on one colour scale."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.analysis.drawing import figure_style as style
from experiments.analysis.drawing.dot_panels import PROXY_BACKGROUND
from experiments.analysis.swept import cells as cells_of
from experiments.analysis.swept.picks import LABELS, Picked, value_text

COLOURS = "cividis_r"  # as in `figures.lr_wd_heatmaps`
MOST_TEXTS = (9, 14)
"""Columns and rows up to which each cell has its number."""
MOST_TICKS = 9
"""Of a grid whose cells have numbers; of a finer one half as many, to two digits."""
COLUMNS = 3
"""Panels beside each other, at most."""


def draw(arms: Sequence[Picked], title: str, is_proxy: bool) -> Figure:
    """A panel for each optimizer of one condition.

    Args:
        arms: Of one condition.
        title: Of the figure.
        is_proxy: Whether panels are marked as those of a proxy.
    """
    tables = [cells_of.cells_of(one) for one in arms]
    sign = arms[0].headline.sign
    best = cells_of.best_of(tables, sign)
    end = cells_of.scale_end(tables, best)
    planes = [cells_of.plane(one, table) for one, table in zip(arms, tables, strict=True)]
    columns = min(COLUMNS, len(arms))
    rows = math.ceil(len(arms) / columns)
    tallest = max(min(MOST_TEXTS[1], len(p[0][p[1][1]].unique()) if p[1][1] else 1) for p in planes)
    height = max(1.9, 0.42 * tallest + 1.2)
    words = caption(arms, planes)
    width = max(7.6, 4.4 * columns + 1.2)
    size = (width, rows * height + 0.9 + style.caption_inches(words, width))
    figure, axes = style.canvas(title, words, size, [1] * columns, [1] * rows)
    scale, drawn = Normalize(0, end, clip=True), None
    for number, axis in enumerate(axes.flat):
        if number >= len(arms):
            axis.remove()
            continue
        axis.set_facecolor(PROXY_BACKGROUND if is_proxy else "white")
        one, (cells, keys, at) = arms[number], planes[number]
        away = (best - cells.value) * sign
        with matplotlib.rc_context(style.STYLE):
            panel = _points if not cells_of.is_grid(cells, keys) else _grid
            drawn = panel(axis, cells.assign(away=away), keys, scale, one.headline.digits)
        style.panel_title(axis, heading(one, at))
    bar = figure.colorbar(drawn, ax=list(figure.axes), shrink=0.95, pad=0.015, extend="max")
    bar.ax.invert_yaxis()  # the best on top
    where = "below" if sign > 0 else "above"
    headline = arms[0].headline
    unit = f"{headline.points} " if headline.points else ""
    bar.set_label(f"{unit}{where} the best ({headline.tune} {headline.metric})")
    bar.outline.set_visible(False)
    return figure


def heading(one: Picked, at: str) -> str:
    """The optimizer, and what of its pick a reader must know."""
    name = f"{one.name}, {at}" if at else one.name
    if one.found is None:
        return f"{name}: nothing to pick from yet"
    if one.found.edges:
        edges = " and ".join(LABELS.get(key, key) for key in one.found.edges)
        return f"{name}: not tuned, {edges} on an edge"
    return name


def caption(arms: Sequence[Picked], planes: Sequence[tuple[pd.DataFrame, Any, str]]) -> str:
    """What the panels show, and the marks that occur in them."""
    headline = arms[0].headline
    shown = pd.concat([plane[0] for plane in planes])
    said = [
        f"Mean {headline.tune} {headline.metric}{f' ({headline.unit})' if headline.unit else ''} "
        f"over n = {style.span(shown.n[shown.n > 0])} (seeds), by which settings are picked; "
        f"{headline.better} is better. All that is beyond the end of the scale is as dark."
    ]
    dotted = any(not cells_of.is_grid(cells, keys) for cells, keys, _ in planes)
    frame = "Ring" if dotted else "White frame"
    marks = [f"{frame}: picked."] if any(one.found for one in arms) else []
    if any(one.found and one.found.edges for one in arms):
        marks = [f"{frame}: picked; dashed: on an edge of what was tried, so not tuned."]
    if (shown.num_diverged > 0).any():
        marks.append("Hatched: diverged for some seed, and cannot win.")
    if not shown.is_complete.all():
        marks.append("Dotted, a question mark or a cross: seeds have no result yet.")
    if any(plane[2] for plane in planes):
        marks.append("Further keys stand where the pick has them.")
    return " ".join([*said, *marks])


def _grid(axis: Any, cells: pd.DataFrame, keys: Any, scale: Normalize, digits: int) -> Any:
    """One grid; the first key goes right, the second up. Returns the mesh."""
    x, y = keys
    across = cells_of.ordered(cells[x]) if x else [None]
    up = cells_of.ordered(cells[y]) if y else [None]
    places = {_key(value): number for number, value in enumerate(across)}
    heights = {_key(value): number for number, value in enumerate(up)}
    values = [[math.nan] * len(across) for _ in up]
    is_small = len(across) <= MOST_TEXTS[0] and len(up) <= MOST_TEXTS[1]
    for item in cells.to_dict("records"):
        place = places[_key(item.get(x))], heights[_key(item.get(y))]
        values[place[1]][place[0]] = item["away"]
        _mark(axis, place, item, scale, digits if is_small else None)
    mesh = axis.pcolormesh(values, cmap=COLOURS, norm=scale, zorder=0,
                           edgecolors="white" if is_small else "face",
                           linewidth=1.5 if is_small else 0)  # fmt: skip
    _ticks(axis.set_xticks, across)
    _ticks(axis.set_yticks, up)
    axis.set_xlim(0, len(across))
    axis.set_ylim(0, len(up))
    axis.tick_params(length=0)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.set_xlabel(LABELS.get(x, x))
    axis.set_ylabel(LABELS.get(y, y))
    if not y:
        axis.set_yticks([])
    if not x:
        axis.set_xticks([])
    return mesh


def _key(value: Any) -> Any:
    return None if value != value else value


def _ticks(put: Any, values: Sequence[Any]) -> None:
    is_fine = len(values) > MOST_TEXTS[1]
    step = math.ceil(len(values) / (MOST_TICKS // 2 if is_fine else MOST_TICKS))
    kept = range(0, len(values), step)
    short = [_rounded(values[place]) if is_fine else value_text(values[place]) for place in kept]
    put([place + 0.5 for place in kept], short)


def _rounded(value: Any) -> str:
    return f"{value:.2g}" if cells_of.is_number(value) else value_text(value)


def _mark(
    axis: Any, place: tuple[int, int], item: dict[str, Any], scale: Normalize, digits: int | None
) -> None:
    """Number, hatch and frame of a cell; without a number where there is no room."""
    x, y = place
    if item["num_diverged"] or not item["is_complete"]:
        hatch = "////" if item["num_diverged"] else "...."
        axis.add_patch(Rectangle(place, 1, 1, hatch=hatch, fill=False, edgecolor="#bbbbbb",
                                 linewidth=0))  # fmt: skip
    has_value = item["value"] == item["value"]
    if digits is not None and (has_value or not item["num_over"]):
        dark = has_value and scale(item["away"]) > 0.45
        axis.text(x + 0.5, y + 0.5, brief(item["value"], digits) if has_value else "?",
                  ha="center", va="center", fontsize=9,
                  color="white" if dark else "#111111")  # fmt: skip
    if item["is_picked"]:
        dash = "--" if item["is_edge"] else "-"
        for width, colour, line in ((4.5, "#111111", "-"), (2.2, "white", dash)):
            axis.add_patch(Rectangle((x + 0.04, y + 0.05), 0.92, 0.9, fill=False, linestyle=line,
                                     edgecolor=colour, linewidth=width, zorder=4))  # fmt: skip


def brief(value: float, digits: int) -> str:
    """A value that fits into a cell."""
    is_long = abs(value) >= 1e5 or not math.isfinite(value)
    return f"{value:.1e}" if is_long else f"{value:.{min(digits, 1 if abs(value) >= 10 else 3)}f}"


def _points(axis: Any, cells: pd.DataFrame, keys: Any, scale: Normalize, digits: int) -> Any:
    """Settings that make no grid: a dot each. Returns the dots."""
    del digits
    x, y = keys
    known = cells[cells.away.notna()]
    size = 70 if len(cells) < 100 else 18
    dots = axis.scatter(known[x], known[y], c=known.away, cmap=COLOURS, norm=scale, s=size,
                        edgecolors="#888888", linewidths=0.5)  # fmt: skip
    lost = cells[cells.away.isna()]
    axis.scatter(lost[x], lost[y], marker="x", color="#888888", s=size / 2, linewidths=1)
    pick = cells[cells.is_picked]
    axis.scatter(pick[x], pick[y], s=size * 3.4, facecolors="none", edgecolors=style.INK,
                 linewidths=1.6, linestyles="--" if pick.is_edge.any() else "-")  # fmt: skip
    for key, scaled in ((x, axis.set_xscale), (y, axis.set_yscale)):
        if all(map(cells_of.is_number, cells[key])) and (cells[key] > 0).all():
            scaled("log")
    axis.set_xlabel(LABELS.get(x, x))
    axis.set_ylabel(LABELS.get(y, y))
    axis.margins(0.1)
    return dots
