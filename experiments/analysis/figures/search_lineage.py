"""The way from a search's initial program to its best, a row per change that moved the fitness.

Ours alone; the paper's lengths of programs stand in the caption. Source: results/paper/
search_method.csv.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import searches
from experiments.analysis.drawing import dot_panels, figure_style, search_panels
from experiments.analysis.sources import RESULTS
from experiments.store import UserError

TITLE = "From the initial program to the best, change by change"
QUANTITIES = ("raw program length", "program after redundancy removal")
MAX_ROWS = 32
MAX_CHARACTERS = 68
OURS = (
    "Ours: a proxy ({proxy}). Search {search}: of the arm {arm}, the one whose best finalist is "
    "ahead on fresh data, which have picked it. Each row: candidate number, its change (+ "
    "inserted, - deleted, ~ modified statement), its gain on the data it was first judged on "
    "(nats), × where it was dead or failed. {neutral} changes that left the fitness as it was are "
    "not shown{fewer}. Rows of different rounds of data compare only roughly. {small}"
)


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's lengths of programs, and the lineages of our searches where they were run."""
    return searches.beside_paper(QUANTITIES, "lineage", results)


def draw(results: Path = RESULTS) -> Figure:
    """The lineage of the best search of the study."""
    said = _papers(results)
    return search_panels.draw_or_say(TITLE, said, results, lambda t: draw_study(t, results=results))


def _papers(results: Path) -> str:
    raw, short = searches.papers(QUANTITIES, results).said
    return (
        "Paper: arXiv:2302.06675, appendix, transcribed: the program that its search ended with "
        f"has {raw}, without redundant statements {short}; its lineage is not published."
    )


def draw_study(
    tables: searches.Tables, search: str | None = None, results: Path = RESULTS
) -> Figure:
    """One lineage.

    Args:
        tables: As `searches.read` gives them.
        search: Which one; None: the best by evolution.
        results: Where the paper's numbers lie.

    Raises:
        UserError: if the study has no lineage of it.
    """
    steps = tables.get("lineage", searches.no_rows("lineage"))
    search = search or searches.best_search(tables)
    rows = steps[steps.search == search].reset_index(drop=True)
    if rows.empty:
        raise UserError(f"no lineage of {search or 'any search'}; collect a search that has ended")
    shown, neutral, num_left_out = chosen(rows)
    of = tables["searches"].set_index("search").loc[str(search)]
    ours = OURS.format(
        proxy=searches.proxy_of(of),
        search=search,
        arm=searches.plain(of.arm),
        neutral=neutral,
        fewer=f", nor {num_left_out} that set no record" if num_left_out else "",
        small=search_panels.SMALL,
    )
    size = (12, 2.3 + 0.27 * len(shown))
    figure, axes = figure_style.canvas(TITLE, f"{_papers(results)} {ours}", size, [1.9, 1])
    _draw_rows(axes[0], shown)
    return figure


def chosen(rows: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """The rows that moved the fitness; of too many, those that set a record, and the last.

    Returns:
        The rows, how many moved nothing, and how many more were left out.
    """
    moved = rows.fitness.ne(rows.fitness.shift()) & ~(
        rows.fitness.isna() & rows.fitness.shift().isna()
    )
    moved.iloc[0] = True
    shown, neutral = rows[moved], int((~moved).sum())
    if len(shown) <= MAX_ROWS:
        return shown, neutral, 0
    before = shown.fitness.fillna(-float("inf")).cummax().shift(fill_value=-float("inf"))
    keep = shown.fitness.gt(before)
    keep.iloc[[0, -1]] = True
    records = shown[keep]
    if len(records) > MAX_ROWS:
        records = pd.concat([records.iloc[:1], records.iloc[1 - MAX_ROWS :]])
    return records, neutral, len(shown) - len(records)


def rounded(change: str) -> str:
    """A change with its constants to four digits."""
    return re.sub(r"\d+\.\d{4,}(?:e[+-]?\d+)?", lambda found: f"{float(found[0]):.4g}", change)


def _draw_rows(axes: list, shown: pd.DataFrame) -> None:
    left, right = axes
    left.set_axis_off()
    left.set_xlim(0, 1)
    dot_panels.as_proxy(right)
    for axis in (left, right):
        axis.set_ylim(len(shown) - 0.5, -0.9)
    for height, row in enumerate(shown.itertuples()):
        change = rounded(str(row.change))
        if len(change) > MAX_CHARACTERS:
            change = f"{change[: MAX_CHARACTERS - 1]}…"
        left.text(0.0, height, f"{row.number}", fontsize=9, va="center", color=figure_style.FAINT)
        left.text(0.085, height, change, fontsize=9, va="center", family="DejaVu Sans Mono",
                  parse_math=False)  # fmt: skip
        if pd.isna(row.fitness):
            right.plot(
                [0], [height], marker="x", color=figure_style.FAINT, markersize=6, clip_on=False
            )
    right.barh(
        range(len(shown)), shown.fitness.fillna(0), color=search_panels.PALETTE[0], height=0.6
    )
    right.axvline(0, color=figure_style.FAINT, linewidth=0.8)
    right.set_yticks([])
    right.set_xlabel("gain (nats)")
