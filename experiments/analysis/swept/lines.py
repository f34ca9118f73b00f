"""Lines of one's own sweep: the value along one tuned key, and picks along the training steps."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from experiments.analysis.drawing import dot_panels
from experiments.analysis.drawing import figure_style as style
from experiments.analysis.swept import cells as cells_of
from experiments.analysis.swept.picks import LABELS, Picked, value_text
from experiments.headline import Headline

MORE_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#111111", "#7F7F00", "#8C564B")
"""For optimizers without a colour of their own; Okabe and Ito's first."""
WITHIN = 3.0
"""Ends of the colour scale that an axis of values reaches beyond the best; the rest is marked."""
MOST_TICKS = 12
WIDTH = 9.6


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and dashes of each optimizer: those of the other figures, where it has them."""
    others = iter(MORE_COLOURS * (1 + len(names) // len(MORE_COLOURS)))
    return {
        name: {
            "color": style.COLOURS[name] if name in style.COLOURS else next(others),
            "linestyle": style.dash_of(name),
        }
        for name in dict.fromkeys(names)
    }


def is_one_line(arms: Sequence[Picked]) -> bool:
    """Whether all arms tune one and the same number, so that a line shows all."""
    keys = {one.arm.keys for one in arms}
    return len(keys) == 1 and all(
        len(one.arm.keys) == 1 and all(map(cells_of.is_number, one.arm.planned[one.arm.keys[0]]))
        for one in arms
    )


def draw_key(arms: Sequence[Picked], title: str, is_proxy: bool) -> Figure:
    """Mean and range over seeds along the one key that is tuned, a line for each optimizer."""
    tables = [cells_of.cells_of(one) for one in arms]
    headline, key = arms[0].headline, arms[0].arm.keys[0]
    best = cells_of.best_of(tables, headline.sign)
    worst = best - headline.sign * WITHIN * cells_of.scale_end(tables, best)
    far, cut = _far(tables, worst, headline.sign), any(_lost(t).any() for t in tables)
    words = _caption_of_key(arms, tables, bool(far.any()), cut)
    figure, axes = style.canvas(title, words, (WIDTH, 4.6 + style.caption_inches(words, WIDTH)))
    axis, of_name, ends = axes[0, 0], looks([one.name for one in arms]), []
    with matplotlib.rc_context(style.STYLE):
        if is_proxy:
            dot_panels.as_proxy(axis)
        for one, table in zip(arms, tables, strict=True):
            ordered = table.sort_values(key)
            near = ordered[~_far([ordered], worst, headline.sign)]
            _line(axis, near, key, of_name[one.name])
            last = near.value.dropna()
            if len(last):
                ends.append((float(last.iloc[-1]), one.name, of_name[one.name]["color"]))
        _scale_x(axis, pd.concat(tables)[key])
        _limit(axis, best, worst if far.any() else None, headline.sign)
        for one, table in zip(arms, tables, strict=True):
            _at_the_edge(axis, table, key, of_name[one.name]["color"], (worst, headline.sign))
        axis.set_xlabel(LABELS.get(key, key))
        axis.set_ylabel(_of(headline))
        axis.grid(axis="y")
        low, high = sorted(axis.get_ylim())
        style.end_labels(axis, [(min(max(y, low), high), n, c) for y, n, c in ends], 0.06)
    return figure


def _of(headline: Headline) -> str:
    unit = f" ({headline.unit})" if headline.unit else ""
    return f"{headline.tune} {headline.metric}{unit}"


def _lost(table: pd.DataFrame) -> pd.Series:
    """Settings without a number to draw."""
    return ~np.isfinite(table.value.astype(float))


def _far(tables: Sequence[pd.DataFrame], worst: float, sign: int) -> pd.Series:
    values = pd.concat(list(tables)).value.astype(float)
    return np.isfinite(values) & (sign * values < sign * worst)


def _line(axis: Any, table: pd.DataFrame, key: str, look: dict[str, Any]) -> None:
    known = table[~_lost(table)]
    reach = [known.value - known.low, known.high - known.value]
    axis.plot(known[key], known.value, linewidth=1.6, **look)
    axis.errorbar(known[key], known.value, yerr=reach, color=look["color"], fmt="o", capsize=3,
                  markersize=5)  # fmt: skip
    bad = known[(known.num_diverged > 0) | ~known.is_complete]
    axis.plot(bad[key], bad.value, "o", markersize=5, markerfacecolor="white", zorder=4,
              linestyle="none", color=look["color"])  # fmt: skip
    pick = known[known.is_picked]
    axis.plot(pick[key], pick.value, "o", markersize=13, markerfacecolor="none",
              color=look["color"], linestyle="none",
              markeredgewidth=1.4)  # fmt: skip


def _at_the_edge(
    axis: Any, table: pd.DataFrame, key: str, colour: str, worst: tuple[float, int]
) -> None:
    """Marks at the bad end of the axis: a triangle for values beyond it, a cross for diverged."""
    level, sign = worst
    values = table.value.astype(float)
    far = table[np.isfinite(values) & (sign * values < sign * level)]
    lost = table[_lost(table) & (table.num_over > 0)]
    height = 0.025 if sign > 0 else 0.975
    place = {"transform": axis.get_xaxis_transform(), "color": colour, "linestyle": "none"}
    axis.plot(far[key], [height] * len(far), marker="v" if sign > 0 else "^", **place)
    axis.plot(lost[key], [height] * len(lost), marker="x", markeredgewidth=1.8, **place)


def _limit(axis: Any, best: float, worst: float | None, sign: int) -> None:
    axis.margins(x=0.04, y=0.08)
    axis.autoscale_view()
    if worst is not None and worst == worst:
        room = 0.12 * abs(best - worst)
        axis.set_ylim(*sorted((worst, best + sign * room)))


def _scale_x(axis: Any, values: pd.Series) -> None:
    ordered = sorted(set(values))
    if ordered[0] > 0 and len(ordered) > 1:
        axis.set_xscale("log")
    step = -(-len(ordered) // MOST_TICKS)
    kept = ordered[::step]
    axis.set_xticks(kept, labels=[value_text(value) for value in kept])
    axis.minorticks_off()
    if len(kept) > 8:
        axis.tick_params(axis="x", rotation=45)


def _caption_of_key(
    arms: Sequence[Picked], tables: Sequence[pd.DataFrame], has_far: bool, has_lost: bool
) -> str:
    headline, shown = arms[0].headline, pd.concat(list(tables))
    said = [
        f"{_of(headline)}, by which settings are picked; {headline.better} is better. Mean and "
        f"range over n = {style.span(shown.n[shown.n > 0])} (seeds); ring: picked."
    ]
    if edges := [one.name for one in arms if one.found and one.found.edges]:
        said.append(f"On an edge of what was tried, so not tuned: {', '.join(edges)}.")
    if has_far:
        said.append("Triangles: beyond the axis.")
    if has_lost:
        said.append("Crosses: diverged.")
    if ((shown.num_diverged > 0) & shown.value.notna()).any():
        said.append("Hollow: diverged for some seed, and cannot win.")
    if not shown.is_complete.all():
        said.append("Hollow or missing: seeds have no result yet.")
    return " ".join(said)


def draw_steps(
    arms: Sequence[Picked], curves: pd.DataFrame, title: str, is_proxy: bool
) -> Figure | None:
    """The picks along the steps: what picks, and the training loss; None where there is no line.

    Args:
        arms: Of one condition.
        curves: run_id, step, split, metric, value, of the runs in `Picked.shown`.
        title: Of the figure.
        is_proxy: Whether panels are marked as those of a proxy.
    """
    headline = arms[0].headline
    wanted = [(headline.tune, headline.metric, _of(headline)), ("train", "loss", "training loss")]
    panels = [
        (label, split, _lines(arms, curves, split, metric)) for split, metric, label in wanted
    ]
    panels = [panel for panel in panels if panel[2]]
    if not panels:
        return None
    words = _caption_of_steps([one for one in arms if len(one.shown)])
    width = 5.6 * len(panels) + 1.0
    size = (width, 4.2 + style.caption_inches(words, width))
    figure, axes = style.canvas(title, words, size, [1] * len(panels))
    of_name = looks([one.name for one in arms])
    with matplotlib.rc_context(style.STYLE):
        for axis, (label, split, lines) in zip(axes[0], panels, strict=True):
            digits = headline.digits if split != "train" else 3
            sign = headline.sign if split != "train" else -1
            _panel(axis, lines, of_name, label, digits, sign, is_proxy)
    return figure


def _lines(
    arms: Sequence[Picked], curves: pd.DataFrame, split: str, metric: str
) -> dict[str, pd.DataFrame]:
    """By optimizer mean, low and high at each step that all of its runs have."""
    found = {}
    mine = curves[(curves.split == split) & (curves.metric == metric)]
    for one in arms:
        over = one.shown[one.shown.state == "finished"].run_id if len(one.shown) else []
        own = mine[mine.run_id.isin(over)]
        points = own.groupby("step").value.agg(value="mean", low="min", high="max", n="count")
        points = points[points.n == points.n.max()].reset_index()
        if len(points) > 1:
            found[one.name] = points
    return found


def _panel(
    axis: Any,
    lines: dict[str, pd.DataFrame],
    of_name: dict[str, dict[str, Any]],
    label: str,
    digits: int,
    sign: int,
    is_proxy: bool,
) -> None:
    if is_proxy:
        dot_panels.as_proxy(axis)
    ends = []
    for name, points in lines.items():
        look = of_name[name]
        axis.plot(points.step, points.value, linewidth=1.8, **look)
        axis.fill_between(points.step, points.low, points.high, color=look["color"], alpha=0.2,
                          linewidth=0)  # fmt: skip
        end = float(points.value.iloc[-1])
        ends.append((end, f"{name} {end:.{digits}f}", look["color"]))
    axis.set_xlabel("optimizer step")
    axis.set_ylabel(label)
    axis.grid(axis="y")
    axis.margins(x=0.02, y=0.06)
    axis.xaxis.set_major_locator(ticker.MaxNLocator(5))
    axis.autoscale_view()
    _leave_out_the_start(axis, pd.concat(list(lines.values())), sign)
    style.end_labels(axis, ends, gap=0.065, size=9)


def _leave_out_the_start(axis: Any, points: pd.DataFrame, sign: int) -> None:
    """Of a steep start only its end is shown: what comes later would be one flat line."""
    later = points[points.step >= 0.1 * points.step.max()]
    low, high = float(later.low.min()), float(later.high.max())
    room = 0.08 * (high - low)
    if not np.isfinite(room) or room == 0:
        return
    bottom, top = axis.get_ylim()
    if sign > 0:
        axis.set_ylim(max(bottom, low - room), top)
    else:
        axis.set_ylim(bottom, min(top, high + room))


def _caption_of_steps(arms: Sequence[Picked]) -> str:
    kinds = {one.is_fresh for one in arms}
    counts = pd.Series([int((one.shown.state == "finished").sum()) for one in arms])
    seeds = f"n = {style.span(counts)}"
    fresh = "fresh seeds, which had no part in picking"
    tuned = "seeds that picked them (no fresh ones), so they look better than they are"
    how = fresh if kinds == {True} else tuned if kinds == {False} else f"{fresh}, or {tuned}"
    at = "; ".join(
        f"{one.name} {', '.join(f'{k} {value_text(v)}' for k, v in one.setting.items())}".strip()
        for one in arms
    )
    said = f"The picked settings ({at}): mean and range over {seeds} {how}."
    lost = sum(int((one.shown.state == "diverged").sum()) for one in arms)
    return said + (f" {lost} that diverged are left out." if lost else "")
