"""What each statement of a discovered program does: trained without it, on three kinds of models.

Ours alone; how the paper simplified its program stands in the caption. Source: results/paper/
search_method.csv.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from experiments.analysis import searches
from experiments.analysis.drawing import dot_panels, figure_style, search_panels
from experiments.analysis.figures.search_lineage import rounded
from experiments.analysis.sources import RESULTS
from experiments.pages import script
from experiments.store import UserError

TITLE = "What each statement of a program does: trained without it"
QUANTITIES = ("simplification steps", "raw program length", "program after redundancy removal")
PROGRAMS = {
    "found": "the only one of our finalists that came through the funnel",
    "raw": "the program that the paper's search ended with",
}
"""Programs of the table, and what their panels are called."""
OURS = (
    "Ours: a proxy ({steps} steps). Each row: the statement that is left out (or what it becomes); "
    "gain: nats of held-out loss below that of the whole program, both at the best of the same "
    "learning rates, same initial weights and batches; left of 0 the statement is missed. Mean and "
    "standard error over {rounds} rounds of fresh data in pairs, no correction for their number; × "
    "at the left edge: it failed in a round; without what sets the size of the step by that alone, "
    "as the rates are the whole program's. Statements that do nothing are left out before; lr "
    "itself cannot be. Scale: linear within ± 0.1, logarithmic beyond. {small}"
)


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's simplification in words, and our ablation where it was run."""
    return searches.beside_paper(QUANTITIES, "ablation", results)


def draw(results: Path = RESULTS) -> Figure:
    """Each statement's worth, a panel for each program."""
    said = _papers(results)
    return search_panels.draw_or_say(TITLE, said, results, lambda t: draw_study(t, results))


def _papers(results: Path) -> str:
    steps, raw, short = searches.papers(QUANTITIES, results).said
    return (
        f"Paper: arXiv:2302.06675, section 2.3, transcribed: simplification is {steps}; from "
        f"{raw} to {short}."
    )


def draw_study(tables: searches.Tables, results: Path = RESULTS) -> Figure:
    """A panel for each program, a row for each statement, a colour for each family.

    Raises:
        UserError: if no ablation was run.
    """
    rows = tables.get("ablation", searches.no_rows("ablation"))
    if rows.empty:
        raise UserError(f"no ablation yet; run {script('search')} ablate FILE --study NAME")
    rows = rows.assign(name=[_name(row) for row in rows.itertuples()])
    programs = list(dict.fromkeys(rows.program))
    parts = [rows[rows.program == name] for name in programs]
    heights = [part.name.nunique() + 1.5 for part in parts]
    ours = OURS.format(
        steps=figure_style.span(rows.num_steps),
        rounds=figure_style.span(rows.n),
        small=search_panels.SMALL,
    )
    size = (11.0, 2.6 + 0.27 * sum(heights))
    caption = f"{_papers(results)} {ours}"
    figure, axes = figure_style.canvas(TITLE, caption, size, [1], heights, sharex=True)
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.14)  # letters of one width come out wider than they are measured
    families = list(dict.fromkeys(rows.family))
    for axis, name, part in zip(axes[:, 0], programs, parts, strict=True):
        _panel(axis, part, families)
        said = f": {PROGRAMS[name]}" if name in PROGRAMS else ""
        figure_style.panel_title(axis, f"{name}{said}")
    _legend(axes[0, 0], families)
    axes[-1, 0].set_xlabel("gain without the statement (nats)")
    return figure


def _name(row: Any) -> str:
    """The statement, and what it becomes where it does not simply go."""
    instead = "" if pd.isna(row.instead) else str(row.instead).partition(" = ")[2]
    return rounded(str(row.statement)) + (f"  →  {rounded(instead)}" if instead else "")


def _panel(axis: Any, rows: pd.DataFrame, families: list[str]) -> None:
    dot_panels.as_proxy(axis)
    order = list(dict.fromkeys(rows.sort_values("place", kind="stable").name))
    for place, family in enumerate(families):
        colour = search_panels.PALETTE[place]
        for row in rows[rows.family == family].itertuples():
            height = order.index(str(row.name)) + 0.22 * (place - (len(families) - 1) / 2)
            if not np.isfinite(row.mean):
                axis.plot([0.005], [height], "x", color=colour, markersize=5,
                          transform=axis.get_yaxis_transform(), clip_on=False)  # fmt: skip
                continue
            axis.errorbar([row.mean], [height], xerr=[row.standard_error], color=colour, marker="o",
                          markersize=4.5, capsize=0, linewidth=1.1)  # fmt: skip
    axis.set_xscale("symlog", linthresh=0.1, linscale=1.2)
    axis.xaxis.set_major_locator(ticker.FixedLocator([-10, -1, -0.1, 0, 0.1, 1]))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.set_ylim(len(order) - 0.5, -1.1)
    axis.set_yticks(range(len(order)), order, family="DejaVu Sans Mono", parse_math=False)
    axis.tick_params(axis="y", length=0, labelsize=8.5)
    axis.hlines(np.arange(len(order) - 1) + 0.5, 0, 1, transform=axis.get_yaxis_transform(),
                color="#e3e3e3", linewidth=0.8, zorder=0)  # fmt: skip
    axis.axvline(0, color=figure_style.FAINT, linewidth=0.8)


def _legend(axis: Any, families: list[str]) -> None:
    for place, family in enumerate(families):
        axis.plot([], [], "o", color=search_panels.PALETTE[place], markersize=4.5,
                  label=searches.FAMILIES.get(family, family))  # fmt: skip
    axis.legend(frameon=False, fontsize=8.5, loc="upper left", ncols=len(families),
                borderaxespad=0.2, columnspacing=1, handletextpad=0)  # fmt: skip
