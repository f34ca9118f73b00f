"""Which finalists of the searches hold on other families of models, gate by gate.

Ours alone; the paper's funnel stands in the caption. Source: results/paper/search_method.csv.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from experiments.analysis import searches
from experiments.analysis.drawing import dot_panels, figure_style, search_panels
from experiments.analysis.sources import RESULTS
from experiments.pages import script
from experiments.store import UserError

TITLE = "Which finalists hold on other models"
QUANTITIES = ("funnel",)
OURS = (
    "Ours: a proxy. {gain} Here on fresh data, mean and standard error over {rounds} seeds; × at "
    "the left edge: it failed. Promoted (filled): better by more than 2 standard errors on one "
    "family, and not worse by more than 2 on any. T2 has 10 times the steps of T1. {through} of "
    "{num} finalists came through all gates. Scale: linear within ± 0.1, logarithmic beyond. "
    "{small}"
)


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's funnel in words, and ours where it was run."""
    return searches.beside_paper(QUANTITIES, "funnel", results)


def draw(results: Path = RESULTS) -> Figure:
    """Each finalist at each gate: its gain on every family."""
    said = _papers(results)
    return search_panels.draw_or_say(TITLE, said, results, lambda t: draw_study(t, results))


def _papers(results: Path) -> str:
    (funnel,) = searches.papers(QUANTITIES, results).said
    return f"Paper: arXiv:2302.06675, section 2.3, transcribed: {funnel.replace('->', '→')}."


def draw_study(tables: searches.Tables, results: Path = RESULTS) -> Figure:
    """A panel for each gate, a row for each finalist.

    Raises:
        UserError: if no funnel was run.
    """
    rows = tables.get("funnel", searches.no_rows("funnel"))
    if rows.empty:
        raise UserError(f"no funnel yet; run {script('search')} funnel, then collect again")
    names = [f"{searches.plain(r.arm)}, seed {r.seed:g}, {r.number:g}" for r in rows.itertuples()]
    rows = rows.assign(name=names)
    gates = list(dict.fromkeys(rows.gate))
    order = list(dict.fromkeys(rows.name))
    ours = OURS.format(
        gain=search_panels.GAIN,
        rounds=f"{rows.n.min():g}",
        through=len(survivors(rows)),
        num=len(order),
        small=search_panels.SMALL,
    )
    size = (max(9.0, 4.2 * len(gates) + 2.2), 2.6 + 0.31 * len(order))
    caption = f"{_papers(results)} {ours}"
    figure, axes = figure_style.canvas(TITLE, caption, size, [1] * len(gates))
    for axis, gate in zip(axes[0], gates, strict=True):
        _gate(axis, rows[rows.gate == gate], order, axis is axes[0, 0])
        figure_style.panel_title(axis, gate)
    _legend(axes[0, -1], list(dict.fromkeys(rows.family)))
    return figure


def survivors(rows: pd.DataFrame) -> pd.DataFrame:
    """Finalists that were promoted at the last gate of the study."""
    last = rows[rows.gate == list(dict.fromkeys(rows.gate))[-1]]
    return last[last.promoted.astype(bool)].drop_duplicates(["search", "number"])


def _gate(axis: Any, rows: pd.DataFrame, order: list[str], is_first: bool) -> None:
    dot_panels.as_proxy(axis)
    families = list(dict.fromkeys(rows.family))
    for place, family in enumerate(families):
        colour = search_panels.PALETTE[place]
        for row in rows[rows.family == family].itertuples():
            height = order.index(str(row.name)) + 0.22 * (place - (len(families) - 1) / 2)
            if not np.isfinite(row.mean):
                axis.plot([0.005], [height], "x", color=colour, markersize=5,
                          transform=axis.get_yaxis_transform(), clip_on=False)  # fmt: skip
                continue
            axis.errorbar([row.mean], [height], xerr=[row.standard_error], color=colour, marker="o",
                          markersize=4.5, markerfacecolor=colour if row.promoted else "white",
                          capsize=0, linewidth=1.1)  # fmt: skip
    axis.set_xscale("symlog", linthresh=0.1, linscale=1.2)
    axis.xaxis.set_major_locator(ticker.FixedLocator([-10, -1, -0.1, 0, 0.1, 1]))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.set_ylim(len(order) - 0.5, -1.1)
    axis.set_yticks(range(len(order)), order if is_first else [""] * len(order))
    axis.tick_params(axis="y", length=0, labelsize=8.5)
    axis.hlines(np.arange(len(order) - 1) + 0.5, 0, 1, transform=axis.get_yaxis_transform(),
                color="#e3e3e3", linewidth=0.8, zorder=0)  # fmt: skip
    axis.axvline(0, color=figure_style.FAINT, linewidth=0.8)
    axis.set_xlabel("gain (nats)")


def _legend(axis: Any, families: list[str]) -> None:
    for place, family in enumerate(families):
        axis.plot([], [], "o", color=search_panels.PALETTE[place], markersize=4.5,
                  label=searches.FAMILIES.get(family, family))  # fmt: skip
    axis.legend(frameon=False, fontsize=8.5, loc="lower right", bbox_to_anchor=(1, 1),
                ncols=len(families), borderaxespad=0.2, columnspacing=1,
                handletextpad=0)  # fmt: skip
