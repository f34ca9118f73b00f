"""Searches for optimizers: fitness over trained programs, fresh data, shares, meta-overfitting.

Ours alone, but for two shares of the paper. Source: results/paper/search_method.csv.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import searches
from experiments.analysis.drawing import dot_panels, figure_style, search_panels
from experiments.analysis.sources import RESULTS
from experiments.pages import script

TITLE = "Searching for an optimizer: programs evolved on a small proxy"
QUANTITIES = ("cache hit rate", "redundant statements at the end", "programs generated per run",
              "programs actually evaluated per run")  # fmt: skip
SHARES = {
    "cached %": "met before (cache)",
    "redundant statements %": "redundant statements",
    "dead %": "dead before training",
    "invalid mutants %": "mutants that are\nno program",
}
PAPERS_SHARES = {"cached %": QUANTITIES[0], "redundant statements %": QUANTITIES[1]}
OURS = (
    "Ours: a proxy ({proxy}); arms on another one are left out, gains do not compare. {gain} On "
    "search data the best is biased upwards: it is picked; and rounds of them differ in how much "
    "there is to gain, so lines of search data go up and down with them, and compare with no other "
    "search. {same}Lines: mean and standard error over "
    "seeds, as far as all seeds go; beginnings may lie below the axis. Trainings: "
    "of new programs, and of the best ones again in every round of data. Fresh data: the finalist "
    "that search data put first, mean and standard error over rounds, the same for all searches. "
    "Seeds: {seeds}. {small}"
)


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's numbers, and the curves of our searches where they were run.

    Returns:
        Columns origin, quantity, said, value, uncertainty, unit of the paper's; of ours those of
        curves.csv and `label`.
    """
    rows = searches.papers(QUANTITIES, results)
    tables = searches.of_results(results)
    if tables is None:
        return rows
    curves = searches.within(tables["curves"], searches.comparable(tables["searches"]))
    return pd.concat([rows, curves.assign(origin="proxy")], ignore_index=True)


def draw(results: Path = RESULTS) -> Figure:
    """Fitness, final numbers, shares and over-fitting of the study."""
    said = _papers(results)
    return search_panels.draw_or_say(TITLE, said, results, lambda t: draw_study(t, results))


def _papers(results: Path) -> str:
    (hits, hits_error), (waste, waste_error) = (searches.stated(q, results) for q in QUANTITIES[:2])
    return (
        f"Paper: arXiv:2302.06675, section 2.2, transcribed: {hits:g} ± {hits_error:g} % of the "
        f"programs were met before, {waste:g} ± {waste_error:g} % of statements are redundant at "
        "the end (5 runs of 300,000 programs on TPUs; dashed)."
    )


def draw_study(tables: searches.Tables, results: Path = RESULTS) -> Figure:
    """Four panels of the searches on one proxy.

    Args:
        tables: As `searches.read` gives them.
        results: Where the paper's numbers lie.
    """
    rows = searches.comparable(tables["searches"])
    colours = dict(zip(dict.fromkeys(rows.label), search_panels.PALETTE * 9, strict=False))
    ours = OURS.format(
        proxy=searches.proxy_of(rows.iloc[0]),
        gain=search_panels.GAIN,
        seeds=search_panels.seeds_of(rows),
        small=search_panels.SMALL,
        same=_same_rounds(tables),
    )
    caption = f"{_papers(results)} {ours}"
    size = (12.5, 9.4)
    figure, axes = figure_style.canvas(TITLE, caption, size, [1, 1], [1, 1])
    evolved = searches.evolved(rows)
    _fitness(axes[0, 0], searches.within(tables["curves"], rows), colours)
    finals = tables.get("finals", searches.no_rows("finals"))
    same = searches.on_same_rounds(tables)
    if not same.empty:
        finals = finals.assign(on_the_same=finals.search.map(same))
    _finals(axes[0, 1], searches.within(finals, rows), colours)
    papers = searches.like_the_papers(rows)
    _shares(axes[1, 0], searches.within(tables["curves"], papers), results)
    meta = tables.get("meta", searches.no_rows("meta"))
    _meta(axes[1, 1], searches.within(meta, evolved))
    return figure


def _same_rounds(tables: searches.Tables) -> str:
    """What the open marks are of; empty where they are of each search's own rounds."""
    if "picks" not in tables:
        return ""
    count = tables["picks"]["round"].nunique()
    return f"Open marks: the mean of {count} rounds of search data, the same for all searches. "


def _fitness(axis: Any, curves: pd.DataFrame, colours: dict[str, str]) -> None:
    labels, lows = [], [0.0]
    for label, part in curves.groupby("label", sort=False):
        line = search_panels.band(part, "evaluated", "best")
        if line.empty:
            continue
        search_panels.draw_band(axis, line, colours[str(label)])
        end = float(line["mean"].iloc[-1])
        lows.append(end)
        labels.append((end, str(label), colours[str(label)]))
    axis.axhline(0, color=figure_style.FAINT, linewidth=0.8)
    axis.set_xscale("log")
    high = axis.get_ylim()[1]
    axis.set_ylim(min(lows) - 0.35 * (high - min(lows)), high)
    axis.grid(axis="y")
    axis.set_xlabel("trainings")
    axis.set_ylabel("best gain on search data (nats)")
    figure_style.panel_title(axis, "Best program so far, at equal numbers of trainings")
    figure_style.end_labels(axis, labels)
    dot_panels.as_proxy(axis)


def _finals(axis: Any, finals: pd.DataFrame, colours: dict[str, str]) -> None:
    figure_style.panel_title(axis, "Fresh data (open: search data)")
    rows = searches.picked(finals).sort_values(["label", "seed"])
    rows = pd.concat([rows[rows.label == label] for label in colours], ignore_index=True)
    if rows.empty:
        return search_panels.nothing(axis, "no final numbers yet")
    dot_panels.as_proxy(axis)
    for height, row in enumerate(rows.itertuples()):
        look = {"color": colours[str(row.label)], "marker": "o", "markersize": 5.5}
        searched = getattr(row, "on_the_same", row.on_search_data)
        axis.plot([searched], [height], markerfacecolor="white", **look)
        if np.isfinite(row.mean):
            axis.errorbar([row.mean], [height], xerr=[row.standard_error], capsize=3, **look)
        else:
            axis.text(searched, height, "   failed on fresh data", va="center", fontsize=8.5)
    axis.set_ylim(len(rows) - 0.5, -1.2)
    arms = zip(rows.label, rows.seed, rows.label.duplicated(), strict=True)
    names = [f"seed {seed:g}" if more else f"{arm}, seed {seed:g}" for arm, seed, more in arms]
    axis.set_yticks(range(len(rows)), names)
    axis.tick_params(axis="y", length=0, labelsize=8.5)
    axis.axvline(0, color=figure_style.FAINT, linewidth=0.8)
    axis.grid(axis="x")
    axis.set_xlabel("gain (nats)")
    return None


def _shares(axis: Any, curves: pd.DataFrame, results: Path) -> None:
    if curves.empty:
        return search_panels.nothing(axis, "no search by evolution")
    labels = []
    for (column, said), colour in zip(SHARES.items(), search_panels.PALETTE, strict=False):
        line = search_panels.band(curves, "told", column)
        smooth = line["mean"].rolling(9, min_periods=1, center=True).mean()
        line = search_panels.thinned(line.assign(mean=smooth))
        axis.plot(line.x, line["mean"], color=colour, linewidth=1.5)
        end = float(smooth.iloc[-1])
        if quantity := PAPERS_SHARES.get(column):
            value, _ = searches.stated(quantity, results)
            axis.axhline(value, color=colour, linewidth=1.1, linestyle=(0, (4, 2)))
            said = f"{said}\n{end:.0f} % (paper {value:g} %)"
        labels.append((end, said, colour))
    axis.set_ylim(0, 100)
    axis.set_xlim(left=0)
    axis.grid(axis="y")
    axis.set_xlabel("programs generated")
    axis.set_ylabel("share (%)")
    figure_style.panel_title(axis, f"What becomes of children: {curves.label.iloc[0]}")
    figure_style.end_labels(axis, labels, gap=0.12, size=8.5)
    dot_panels.as_proxy(axis)
    return None


def _meta(axis: Any, meta: pd.DataFrame) -> None:
    """The best so far on search data, and the same program on fresh data of each family."""
    arms = " and ".join(dict.fromkeys(meta.arm)) if "arm" in meta else ""
    whose = f", {arms}" if arms else ""
    figure_style.panel_title(axis, f"Meta-overfitting{whose}: the best so far, elsewhere")
    if meta.empty:
        return search_panels.nothing(axis, f"not measured yet ({script('search')} meta)")
    dot_panels.as_proxy(axis)
    once = meta.drop_duplicates(["search", "told"])
    lines = [("search data", once.assign(value=once.best), figure_style.INK)]
    by_family = meta.groupby("family", sort=False)
    for (family, part), colour in zip(by_family, search_panels.PALETTE, strict=False):
        name = searches.FAMILIES.get(str(family), str(family))
        lines.append((f"fresh: {name}", part.assign(value=part["mean"]), colour))
    labels = []
    for name, part, colour in lines:
        line = search_panels.band(part, "told", "value")
        if line.empty:
            continue
        search_panels.draw_band(axis, line, colour)
        labels.append((float(line["mean"].iloc[-1]), name, colour))
    axis.axhline(0, color=figure_style.FAINT, linewidth=0.8)
    axis.margins(y=0.14)
    axis.grid(axis="y")
    axis.set_xlabel("programs generated")
    axis.set_ylabel("gain (nats)")
    figure_style.end_labels(axis, labels, size=8.5)
    return None
