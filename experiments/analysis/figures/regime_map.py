"""Who wins where: batch size x noise x kind of model, on small nets of ours."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.analysis import regimes, tuned
from experiments.analysis.drawing import dot_panels, figure_style
from experiments.analysis.sources import RESULTS, paper
from experiments.rounded import ends

TITLE = "Where Lion wins and where it loses: small batches, noise, small nets"
PAPER = (
    "Paper: arXiv:2302.06675 has no such map; what it says of where Lion gains nothing, "
    "transcribed: {quoted}."
)
OURS = (
    "Ours: a proxy in each row, no result of the paper's models. Lion minus AdamW in points of "
    "test accuracy, mean over n = {fresh} fresh seeds in pairs, and the 95 % interval at the "
    "settings found; validation picks one of {settings} settings (learning rate, weight decay) for "
    "each optimizer on n = {tuning} of other seeds. Holm's correction over the {cells} cells that "
    "were judged. Strong colour: shown, and of the optimizers, too: with the luck of tuning in it, "
    "the interval (of each cell alone) does not hold 0 either. Pale: shown at these settings only. "
    "Grey: not shown, which is not “equal”. Hatched: a best setting on the edge of its grid, so "
    "not tuned."
)
QUOTED = ("C049", "C048", "C070")
"""Claims of the paper on where Lion gains nothing: batch size, and its section on limitations."""
LEVELS = (0.85, 0.35)
"""How much of the winner's colour a cell has: shown of the optimizers, at the settings only."""
GREY = "#ececec"


def table(results: Path = RESULTS) -> pd.DataFrame:
    """What the paper says (origin paper: claim_id, metric, claim), and our `regimes.table`."""
    claims = paper("claims", results).rename(columns={"id": "claim_id"})
    said = claims[claims.claim_id.isin(QUOTED)][["claim_id", "metric", "claim"]]
    said = said.assign(origin="paper")
    cells = regimes.table(results).assign(origin="proxy")
    return pd.concat([said, cells], ignore_index=True) if len(cells) else said


def draw(results: Path = RESULTS) -> Figure:
    """A row for each family and regime, a column for each batch size."""
    values = table(results)
    said = values[values.origin == "paper"].set_index("claim_id")
    words = (f"{said.metric[name]}: {said.claim[name]} ({name})" for name in QUOTED)
    theirs = PAPER.format(quoted="; ".join(words))
    cells = values[values.origin == "proxy"]
    if cells.empty:
        figure, axes = figure_style.canvas(TITLE, f"{theirs} {tuned.NOT_RUN}", (9, 2.4))
        axes[0, 0].set_axis_off()
        axes[0, 0].text(0.5, 0.5, "not run", ha="center", va="center", fontsize=12,
                        color=figure_style.FAINT)  # fmt: skip
        return figure
    rows = list(dict.fromkeys(zip(cells.family, cells.regime, strict=True)))
    sizes = sorted(int(size) for size in cells.batch_size.unique())
    size = (max(9.0, 3.4 + 1.9 * len(sizes)), 2.8 + 0.55 * len(rows))
    figure, axes = figure_style.canvas(TITLE, f"{theirs} {_ours(cells)}", size)
    axis = axes[0, 0]
    axis.set_xlim(0, len(sizes))
    axis.set_ylim(len(rows), 0)
    there = set()
    for item in cells.itertuples():
        place = sizes.index(item.batch_size), rows.index((item.family, item.regime))
        there.add(place)
        _cell(axis, item, *place)
    for x, y in product(range(len(sizes)), range(len(rows))):
        if (x, y) not in there:
            axis.text(x + 0.5, y + 0.5, "not run", ha="center", va="center", fontsize=8,
                      color=figure_style.FAINT)  # fmt: skip
    _frame(axis, rows, sizes)
    return figure


def _ours(cells: pd.DataFrame) -> str:
    judged = cells[cells.verdict.isin(["better", "worse", "inconclusive"])]
    return OURS.format(
        settings=figure_style.span(cells.num_settings),
        tuning=figure_style.span(cells.num_tuning_seeds),
        fresh=figure_style.span(cells.n[cells.n > 0]),
        cells=len(judged),
    )


def colour_of(verdict: str, holds: bool) -> str | tuple[float, ...]:
    """Of a cell: the winner's, stronger where it is shown of the optimizers."""
    if verdict not in ("better", "worse"):
        return GREY if verdict == "inconclusive" else "white"
    own = to_rgb(figure_style.colour_of("lion" if verdict == "better" else "adamw"))
    share = LEVELS[0] if holds else LEVELS[1]
    return tuple(1 - share * (1 - part) for part in own)


def _cell(axis: Any, item: Any, x: int, y: int) -> None:
    face = colour_of(item.verdict, bool(item.holds))
    is_untuned = item.verdict == "not tuned"
    axis.add_patch(Rectangle((x + 0.02, y + 0.04), 0.96, 0.92, facecolor=face,
                             edgecolor="#bbbbbb", linewidth=0.6,
                             hatch="////" if is_untuned else None))  # fmt: skip
    big, small = _words(item)
    ink = "white" if item.holds and item.verdict == "better" else figure_style.INK
    look: Any = {"ha": "center", "va": "center", "color": ink}
    if is_untuned:
        look["path_effects"] = figure_style.halo("white")
    axis.text(x + 0.5, y + 0.36, big, fontsize=10, fontweight="bold", **look)
    axis.text(x + 0.5, y + 0.7, small, fontsize=8, **look)


def _words(item: Any) -> tuple[str, str]:
    """The two lines of a cell."""
    if item.verdict == regimes.UNTESTED:
        return "–", "no fresh seeds yet"
    if item.verdict == regimes.DIVERGED:
        return "–", "diverged"
    edge = ", ".join(figure_style.name_of(name) for name in str(item.edges).split(", ") if name)
    if item.difference != item.difference:
        return "–", f"edge: {edge}"
    big = figure_style.signed(item.difference, 1)
    small = ends(item.low, item.high, 1).replace("-", "−")
    if item.verdict == "not tuned":
        return f"{big} {small}", f"edge: {edge}"
    return big, small if item.verdict != "inconclusive" else f"{small} not shown"


def _frame(axis: Any, rows: list[tuple[str, str]], sizes: list[int]) -> None:
    """Names of rows and columns, and a gap between the families."""
    axis.set_xticks([n + 0.5 for n in range(len(sizes))], [f"{size}" for size in sizes])
    axis.set_yticks(
        [n + 0.5 for n in range(len(rows))], [f"{family}: {regime}" for family, regime in rows]
    )
    axis.tick_params(length=0)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.set_xlabel("batch size (examples per optimizer step; the number of epochs is fixed)")
    for number in range(1, len(rows)):
        if rows[number][0] != rows[number - 1][0]:
            axis.axhline(number, color="#666666", linewidth=1.2)
    axis.set_facecolor(dot_panels.PROXY_BACKGROUND)
    for place, (name, said) in enumerate((("lion", "Lion ahead"), ("adamw", "AdamW ahead"))):
        axis.annotate(said, (0, 1), xycoords="axes fraction", xytext=(90 * place, 5),
                      textcoords="offset points", fontsize=9.5, fontweight="bold",
                      color=figure_style.colour_of(name))  # fmt: skip
    axis.text(1.0, 1.02, "proxies", transform=axis.transAxes, ha="right", fontsize=9,
              style="italic", color=figure_style.FAINT)  # fmt: skip
