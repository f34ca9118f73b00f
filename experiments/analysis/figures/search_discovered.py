"""The discovered program beside Lion and AdamW on the suite's proxies, all equally tuned.

Ours alone; what the paper's search ended with stands in the caption. Source: results/paper/
claims.csv.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from experiments.analysis import discovered
from experiments.analysis.drawing import dot_panels, figure_style, search_panels
from experiments.analysis.sources import RESULTS, paper
from experiments.analysis.text_discovered import verdict
from experiments.pages import script

TITLE = "The program of our searches that came through the funnel, beside Lion and AdamW"
QUOTED = "C005"
"""The paper's claim on what its search ended with: Lion against AdamW."""
COMMAND = f"{script('run')} -m experiment=vit_proxy sweep=discovered seed=0"
WIDTH = 3
OURS = (
    "Ours: a proxy in each panel, no result of the paper's models; every panel has a unit of its "
    "own, to the right is ahead of AdamW. The program (RMSprop without momentum: "
    "results/studies/program_search/programs/simplified.txt) was found on 100 steps of another, "
    "smaller model. Validation picks one of {settings} settings (learning rate, weight decay) for "
    "each optimizer on n = {tuning} other {seeds}; mean over n = {fresh} fresh seeds in pairs. "
    "Thick: 95 % at the settings found; thin: of the optimizers, with the luck of tuning in it. "
    "Filled: shown, after Holm's correction over the pages (for each optimizer by itself); open: "
    "not shown, which is not “equal”, or not tuned."
)


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's claim (origin paper: claim_id, metric, claim), and our `discovered.table`."""
    claims = paper("claims", results).rename(columns={"id": "claim_id"})
    said = claims[claims.claim_id == QUOTED][["claim_id", "metric", "claim"]]
    cells = discovered.table(results).assign(origin="proxy")
    said = said.assign(origin="paper")
    return pd.concat([said, cells], ignore_index=True) if len(cells) else said


def draw(results: Path = RESULTS) -> Figure:
    """A panel for each page."""
    values = table(results)
    said = values[values.origin == "paper"].iloc[0]
    theirs = f"Paper: arXiv:2302.06675, transcribed: {said.metric}: {said.claim} ({QUOTED})."
    cells = values[values.origin == "proxy"]
    if cells.empty:
        reason = "the discovered program has not been compared"
        return search_panels.not_run(TITLE, theirs, reason, COMMAND)
    pages = list(dict.fromkeys(cells.experiment))
    width = min(WIDTH, len(pages))
    height = -(-len(pages) // width)
    size = (max(8.0, 4.4 * width), 2.2 + 1.55 * height)
    figure, axes = figure_style.canvas(
        TITLE, f"{theirs} {dot_panels.with_counts(OURS, cells)}", size, [1] * width, [1] * height
    )
    for axis in axes.flat[len(pages) :]:
        axis.set_axis_off()
    for number, (axis, page) in enumerate(zip(axes.flat, pages, strict=False)):
        _panel(axis, cells[cells.experiment == page], number % width == 0)
        figure_style.panel_title(axis, f"{page}: {discovered.PAGES[page]}")
    return figure


def _panel(axis: Any, cells: pd.DataFrame, is_first: bool) -> None:
    dot_panels.as_proxy(axis)
    names = list(discovered.ARMS.values())
    for cell in cells.itertuples():
        height = names.index(discovered.ARMS[cell.arm])
        colour = _colour(cell.arm)
        said = verdict(cell)
        if cell.difference != cell.difference:
            axis.text(0.03, height, said, transform=axis.get_yaxis_transform(), va="center",
                      fontsize=8.5, color=figure_style.FAINT)  # fmt: skip
            continue
        dot_panels.two_intervals(axis, height, cell, colour)
        text = f"{figure_style.signed(cell.sign * cell.difference, int(cell.digits))}, {said}"
        axis.text(0.02, height - 0.34, text, transform=axis.get_yaxis_transform(), va="center",
                  fontsize=8.5, color=colour)  # fmt: skip
    axis.axvline(0, color=figure_style.FAINT, linewidth=0.8)
    axis.set_ylim(len(names) - 0.5, -0.95)
    axis.set_yticks(range(len(names)), names if is_first else [""] * len(names))
    axis.tick_params(axis="y", length=0)
    axis.margins(x=0.08)
    axis.xaxis.set_major_locator(ticker.MaxNLocator(4))
    first = cells.iloc[0]
    axis.set_xlabel(f"ahead of AdamW ({first.unit} of {first.report} {first.metric})")


def _colour(arm: str) -> str:
    return search_panels.PALETTE[2] if arm == "program" else figure_style.colour_of(arm)
