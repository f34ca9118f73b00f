"""After how many trainings searches met sign momentum, two averages, one as good as Lion.

Ours alone; the sizes of the paper's searches stand in the caption. Source: results/paper/
search_method.csv.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import searches
from experiments.analysis.drawing import dot_panels, figure_style, search_panels
from experiments.analysis.sources import RESULTS
from experiments.pages import script
from experiments.store import UserError

TITLE = "Is Lion found again? Trainings until each milestone"
QUANTITIES = ("programs generated per run", "programs actually evaluated per run")
MILESTONES = {
    "sign_momentum": "Sign momentum",
    "two_averages": "Two averages, as in Lion",
    "as_good": "As good as Lion",
}
NEARLY_ONE = 0.01
"""Betas nearer to each other than this are one average, but for the name."""
OURS = (
    "Ours: a proxy ({proxies}). Sign momentum: it signs something that remembers. Two averages: "
    "what is signed and what is kept differ. As good as Lion: two averages, and on {rounds} rounds "
    "of fresh data not more than one standard error behind Lion, both at the best of the search's "
    "learning rates. In brackets: trainings in all, "
    "those of incumbents on new data too; open triangle: never in these. A short way from "
    "a program near Lion says nothing about the way from AdamW. Reached, by milestone: {reached}. "
    "{nearly_one} {small}"
)


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's sizes of a search, and our milestones where they were measured."""
    rows = searches.papers(QUANTITIES, results)
    tables = searches.of_results(results) or {}
    try:
        return pd.concat([rows, milestones(tables).assign(origin="proxy")], ignore_index=True)
    except UserError:
        return rows


def milestones(tables: searches.Tables) -> pd.DataFrame:
    """One row per search by evolution and milestone.

    Returns:
        search, arm, seed, family, num_steps, spent (trained programs), milestone, trained (NaN:
        never reached; 0: the initial program), apart (how far its two betas are from each other).

    Raises:
        UserError: if they were not measured.
    """
    rows = tables.get("rediscovery", searches.no_rows("rediscovery"))
    if rows.empty:
        raise UserError(
            f"no milestones yet; run {script('search')} rediscovery, then collect again"
        )
    heads = tables["searches"].set_index("search")[["strategy", "family", "num_steps", "trained"]]
    rows = rows.join(heads.rename(columns={"trained": "spent"}), on="search")
    rows = rows[rows.strategy == "evolution"]
    kept = [*searches.HEAD, "family", "num_steps", "spent"]
    parts = []
    for name in MILESTONES:
        trained = rows[f"{name}_trained"]
        if f"{name}_number" in rows:
            trained = trained.mask(rows[f"{name}_number"] == 0, 0)
        apart = (_beta(rows, f"{name}_beta1") - _beta(rows, f"{name}_beta2")).abs()
        parts.append(rows[kept].assign(milestone=name, trained=trained, apart=apart))
    return pd.concat(parts, ignore_index=True)


def _beta(rows: pd.DataFrame, column: str) -> pd.Series:
    """Numbers of a column of fractions; NaN where there is none."""
    told = rows[column] if column in rows else pd.Series(float("nan"), rows.index)
    return told.map(lambda said: float(Fraction(str(said))), na_action="ignore").astype(float)


def nearly_one(rows: pd.DataFrame) -> str:
    """Which two averages are hardly two, as a sentence; empty where there are none."""
    part = rows[(rows.milestone == "two_averages") & (rows.apart < NEARLY_ONE)]
    said = [
        f"{searches.plain(r.arm)}, seed {r.seed:g} ({r.apart:.1g} apart)" for r in part.itertuples()
    ]
    return f"Two averages in name only: {'; '.join(said)}." if said else ""


def counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Searches of each arm that reached each milestone: arm, milestone, reached, of."""
    grouped = rows.groupby(["arm", "milestone"], sort=False)
    return grouped.trained.agg(reached="count", of="size").reset_index()


def draw(results: Path = RESULTS) -> Figure:
    """Milestones of every search of the study."""
    said = _papers(results)
    return search_panels.draw_or_say(TITLE, said, results, lambda t: draw_study(t, results))


def _papers(results: Path) -> str:
    generated, trained = searches.papers(QUANTITIES, results).said
    return (
        f"Paper: arXiv:2302.06675, section 2.2, transcribed: its searches from AdamW generate "
        f"{generated} programs each and train {trained}; when Lion appeared is not said."
    )


def draw_study(tables: searches.Tables, results: Path = RESULTS) -> Figure:
    """A panel for each milestone, a row for each search.

    Raises:
        UserError: if they were not measured.
    """
    rows = milestones(tables).sort_values(["arm", "seed"], kind="stable")
    names = [
        f"{searches.plain(r.arm)}, seed {r.seed:g} ({r.spent:,.0f})" for r in rows.itertuples()
    ]
    rows = rows.assign(name=names)
    order = list(dict.fromkeys(rows.name))
    by_arm = counts(rows).groupby("arm", sort=False)
    reached = [
        f"{searches.plain(arm)} {', '.join(map(str, part.reached))} of {part.of.iloc[0]}"
        for arm, part in by_arm
    ]
    proxies = dict.fromkeys(searches.proxy_of(row) for row in rows.itertuples())
    found = tables["rediscovery"]
    rounds = found.num_rounds.min() if "num_rounds" in found else float("nan")
    ours = OURS.format(
        proxies=" or ".join(proxies),
        rounds=f"{rounds:g}",
        reached="; ".join(reached),
        nearly_one=nearly_one(rows),
        small=search_panels.SMALL,
    )
    size = (13, 2.9 + 0.23 * len(order))
    figure, axes = figure_style.canvas(TITLE, f"{_papers(results)} {ours}", size, [1, 1, 1])
    arms = list(dict.fromkeys(rows.arm))
    colours = dict(zip(arms, search_panels.PALETTE * len(arms), strict=False))
    for axis, (name, title) in zip(axes[0], MILESTONES.items(), strict=True):
        _panel(axis, rows[rows.milestone == name], order, colours)
        axis.tick_params(labelleft=axis is axes[0, 0])
        figure_style.panel_title(axis, title)
    return figure


def _panel(axis: Any, rows: pd.DataFrame, order: list[str], colours: dict[str, str]) -> None:
    dot_panels.as_proxy(axis)
    axis.set_xscale("log")
    for row in rows.itertuples():
        height, colour = order.index(str(row.name)), colours[str(row.arm)]
        is_reached = not pd.isna(row.trained)
        place = max(1.0, float(row.trained if is_reached else row.spent))
        said = f"{row.trained:,.0f}" if is_reached else "never"
        face = colour if is_reached else "white"
        axis.plot([1, place], [height, height], color=colour, linewidth=0.9,
                  linestyle="-" if is_reached else ":")  # fmt: skip
        axis.plot([place], [height], marker="o" if is_reached else ">", color=colour,
                  markerfacecolor=face, markersize=6)  # fmt: skip
        axis.annotate("at the start" if row.trained == 0 else said, (place, height),
                      xytext=(7, 0), textcoords="offset points", va="center",
                      fontsize=8.5, color=figure_style.INK)  # fmt: skip
    axis.set_ylim(len(order) - 0.5, -1.6)
    arms = [name.partition(",")[0] for name in order]
    said = [name if arm not in arms[:i] else name.partition(", ")[2]
            for i, (name, arm) in enumerate(zip(order, arms, strict=True))]  # fmt: skip
    axis.set_yticks(range(len(order)), said)
    axis.tick_params(axis="y", length=0, labelsize=8.5)
    axis.set_xlim(0.8, 9.0 * max(10.0, float(rows.spent.max())))  # room for the words
    axis.set_xlabel("trainings")
