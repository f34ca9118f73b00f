"""Every sign momentum that the searches met, by its two betas, beside the paper's Lion.

Source of the paper's betas: results/paper/hyperparameters.csv.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import searches
from experiments.analysis.drawing import dot_panels, figure_style, search_panels
from experiments.analysis.sources import RESULTS, paper
from experiments.store import UserError

TITLE = "Sign momentum, as the searches met it"
PAPERS = (
    "Paper: arXiv:2302.06675, hyperparameter tables, transcribed: crosses, the betas of its Lion, "
    "{betas}."
)
OURS = (
    "Ours: a proxy in each panel. {exact} programs of {searches} searches are proved to be sign "
    "momentum or, at (0, 0), the sign of the gradient alone; {left_out} more would be without "
    "their clip, arcsin and the like; of all {plain} lie at (0, 0), {outside} outside of the "
    "panels. Each mark: the programs of a cell of 0.04, larger for more; colour: "
    "the median of their gains on the data each was first judged on, in nats, within one panel "
    "only; grey: none has a gain. On the diagonal there is one average. "
    "Arms that start from a damaged Lion begin near it. {small}"
)
VIEW = (-0.25, 1.25)
CELL = 0.04
MAX_VECTORS = 300


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The betas of the paper's Lion, and those that our searches met (origin proxy)."""
    rows = paper("hyperparameters", results)
    lion = rows[rows.optimizer == "Lion"].dropna(subset=["beta1", "beta2"])
    pairs = lion[["beta1", "beta2"]].drop_duplicates()
    pairs = pairs.rename(columns={"beta1": "beta1_value", "beta2": "beta2_value"})
    found = [pairs.assign(origin="paper")]
    tables = searches.of_results(results) or {}
    if len(seen := tables.get("sightings", searches.no_rows("sightings"))):
        found.append(seen.assign(origin="proxy"))
    return pd.concat(found, ignore_index=True)


def draw(results: Path = RESULTS) -> Figure:
    """A map of the betas for each proxy of the study."""
    said = _papers(results)
    return search_panels.draw_or_say(TITLE, said, results, lambda t: draw_study(t, results))


def _papers(results: Path) -> str:
    rows = table(results)
    rows = rows[rows.origin == "paper"]
    pairs = zip(rows.beta1_value, rows.beta2_value, strict=True)
    return PAPERS.format(betas=" and ".join(f"({a:g}, {b:g})" for a, b in pairs))


def draw_study(tables: searches.Tables, results: Path = RESULTS) -> Figure:
    """A panel for each proxy, since gains compare only within one.

    Raises:
        UserError: if no search met any.
    """
    seen = tables.get("sightings", searches.no_rows("sightings"))
    seen = seen.dropna(subset=["beta1_value", "beta2_value"])
    if seen.empty:
        raise UserError("no search of this study met sign momentum: there is nothing to draw")
    heads = tables["searches"].set_index("search")[["family", "num_steps"]]
    seen = seen.join(heads, on="search")
    spread = seen[seen.beta1_value.between(*VIEW) & seen.beta2_value.between(*VIEW)]
    is_exact = seen.is_exact.astype(bool)
    ours = OURS.format(
        exact=int(is_exact.sum()),
        searches=seen.search.nunique(),
        left_out=int((~is_exact).sum()),
        plain=int(((seen.beta1_value == 0) & (seen.beta2_value == 0)).sum()),
        outside=len(seen) - len(spread),
        small=search_panels.SMALL,
    )
    panels = list(spread.groupby(["family", "num_steps"], sort=False)) or [(None, spread)]
    size = (max(8.5, 6.2 * len(panels)), 6.6)
    figure, axes = figure_style.canvas(TITLE, f"{_papers(results)} {ours}", size, [1] * len(panels))
    theirs = table(results).query("origin == 'paper'")
    for axis, (_, part) in zip(axes[0], panels, strict=True):
        _panel(figure, axis, part)
        axis.plot(theirs.beta1_value, theirs.beta2_value, "x", color=figure_style.INK, markersize=9)
        if len(part):
            arms = ", ".join(searches.plain(arm) for arm in part.arm.unique())
            title = f"Ours, proxy: {searches.proxy_of(part.iloc[0])}\n{textwrap.fill(arms, 66)}"
            figure_style.panel_title(axis, title)
    return figure


def in_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Programs of nearly the same betas as one: x and y (means), count, gain (median or NaN)."""
    names = ["beta1_value", "beta2_value"]
    values = rows[names].astype(float).assign(gain=rows.fitness.astype(float))
    cells = [np.round(values[name] / CELL) for name in names]
    grouped = values.groupby(cells)
    found = grouped[names].mean().set_axis(["x", "y"], axis=1)
    found = found.assign(count=grouped.size(), gain=grouped.gain.median())
    return found.reset_index(drop=True)


def _panel(figure: Figure, axis: Any, rows: pd.DataFrame) -> None:
    cells = in_cells(rows).sort_values("count", ascending=False)
    size = 16 + 26 * np.log10(cells["count"].to_numpy(dtype=float))
    known = cells.gain.notna().to_numpy(dtype=bool)
    is_full = len(cells) > MAX_VECTORS  # as paths they would take megabytes
    edge: dict[str, Any] = {"linewidths": 0 if is_full else 0.4, "edgecolors": "#777777"}
    edge["rasterized"] = is_full
    axis.scatter(cells.x[~known], cells.y[~known], s=size[~known], color="#cccccc", **edge)
    if known.any():
        limit = float(cells.gain.abs().quantile(0.95)) or 1.0
        drawn = axis.scatter(cells.x[known], cells.y[known], c=cells.gain[known], cmap="PuOr",
                             vmin=-limit, vmax=limit, s=size[known], **edge)  # fmt: skip
        label = "median gain (nats)"
        bar = figure.colorbar(drawn, ax=axis, label=label, shrink=0.8, extend="both")
        if bar.solids is not None:
            bar.solids.set_rasterized(True)
    axis.set_xlim(*VIEW)
    axis.set_ylim(*VIEW)
    axis.set_aspect("equal")
    axis.plot(VIEW, VIEW, color=figure_style.FAINT, linewidth=0.8, zorder=0)
    axis.set_xlabel("beta1 (weight of the momentum in what is signed)")
    axis.set_ylabel("beta2 (weight of the momentum in the momentum)")
    dot_panels.as_proxy(axis)
