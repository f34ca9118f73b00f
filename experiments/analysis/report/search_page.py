"""The page on program searches: what was searched, what was found, what it may mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd

from experiments.analysis import discovered, searches
from experiments.analysis.figures import search_discovered, search_funnel, search_rediscovery
from experiments.analysis.figures.catalogue import SEARCHES
from experiments.analysis.report.page import command, esc, not_run_yet, table
from experiments.analysis.text_discovered import verdict
from experiments.pages import script
from experiments.rounded import rounded
from experiments.store import UserError

MAX_ROWS = 60
"""Of a table of sightings or changes; the rest stands in the study's CSV."""
LEAD = """<h1>The program search</h1>
<p class="lead">Half of the paper is how Lion was found: programs are changed at random, trained on
a small task, and the best are kept. These are searches of ours on a <b>proxy</b>, models of some
thousand weights: what they find is good there, and may be bad anywhere else. <b>Gain</b> is how far
the loss lies below AdamW's; <b>search data</b> have picked a program, <b>fresh data</b> have not.
The <b>funnel</b> tries finalists on other small tasks.</p>"""


def body(
    tables: searches.Tables | None, drawn: Sequence[str], compared: pd.DataFrame | None = None
) -> str:
    """The page's content.

    Args:
        tables: Of the committed study; None where there is none yet.
        drawn: Paths of drawn figures in the report.
        compared: `discovered.table`; None or empty where the found program was not compared yet.
    """
    if tables is None:
        missing = not_run_yet("The program searches", searches.START)
        return f"{LEAD}\n{missing}\n{command(searches.COMMAND)}"
    parts = [LEAD, _searches(tables), _pictures(drawn), _best(tables), _lineage(tables)]
    parts += [_milestones(tables), _sightings(tables), _funnel(tables), _compared(compared)]
    return "\n".join(parts)


def _searches(tables: searches.Tables) -> str:
    rows = tables["searches"]
    finals = tables.get("finals", searches.no_rows("finals"))
    picked = searches.picked(finals).set_index("search")
    best = searches.best_of_finalists(finals).set_index("search")
    lines = [
        (
            searches.plain(row.arm) + ("" if row.state == "finished" else f" ({row.state})"),
            f"{row.seed:g}",
            searches.STRATEGIES.get(str(row.strategy), row.strategy),
            searches.proxy_of(row),
            f"{row.programs:,.0f}",
            f"{row.trained - row.rechecks:,.0f}",
            f"{row.rechecks:,.0f}",
            _gain(picked, str(row.search)),
            _gain(best, str(row.search)),
            getattr(row, "commit", ""),
        )
        for row in rows.itertuples()
    ]
    heads = ("arm", "seed", "strategy", "proxy", "programs", "trained", "incumbents again",
             "picked by search data", "best finalist", "commit")  # fmt: skip
    return (
        f"{table(heads, lines, 'Searches')}"
        '<p class="note">Gain on fresh data: nats of held-out loss below AdamW (without bias '
        "correction), both at the best of the same learning rates; mean ± standard error over "
        "rounds of data. The best finalist was picked by these same data, so it is biased upwards. "
        "Gains on different proxies do not compare.</p>"
    )


def _gain(rows: pd.DataFrame, search: str) -> str:
    if search not in rows.index:
        return ""
    row: Any = rows.loc[search]
    return _said(row["mean"], row.standard_error)


def _said(mean: float, error: float) -> str:
    if pd.isna(mean):
        return "failed"
    return rounded(mean, 3, signed=True) + ("" if pd.isna(error) else f" ± {error:.3f}")


def _best(tables: searches.Tables) -> str:
    search = searches.best_search(tables)
    if search is None:
        return not_run_yet("Final numbers of a search by evolution", "")
    finals = tables["finals"]
    row: Any = searches.best_of_finalists(finals[finals.search == search]).iloc[0]
    said = f"Candidate {row.number:g} of {search}: {_said(row['mean'], row.standard_error)} nats"
    return (
        f"<h2>The best program of evolution ({esc(searches.plain(row.arm))})</h2>"
        f'<p class="note">{esc(said)} on fresh data of its own proxy, which have picked it.</p>'
        f"<pre>{esc(row.text)}</pre>"
    )


def _lineage(tables: searches.Tables) -> str:
    steps = tables.get("lineage", searches.no_rows("lineage"))
    rows = steps[steps.search == searches.best_search(tables)]
    lines = [
        (f"{row.number:g}", row.change, "dead or failed" if pd.isna(row.fitness) else
         f"{row.fitness:+.4f}")
        for row in rows.itertuples()
    ]  # fmt: skip
    return _long(("candidate", "change", "gain when first judged (nats)"), lines, "Its lineage")


def _milestones(tables: searches.Tables) -> str:
    try:
        rows = search_rediscovery.milestones(tables)
    except UserError:
        return not_run_yet("Milestones", f"{script('search')} rediscovery NAME ...")
    wide = rows.assign(said=[_after(row) for row in rows.itertuples()])
    names = list(search_rediscovery.MILESTONES)
    wide = wide.pivot(index=["arm", "seed", "spent"], columns="milestone", values="said")
    lines = [
        (searches.plain(arm), f"{seed:g}", f"{spent:,.0f}", *(row[name] for name in names))
        for (arm, seed, spent), row in wide.iterrows()  # pyright: ignore[reportGeneralTypeIssues]
    ]
    heads = ("arm", "seed", "trainings in all", *search_rediscovery.MILESTONES.values())
    return table(heads, lines, "Trainings until each milestone")


def _after(row: Any) -> str:
    if pd.isna(row.trained):
        return "never"
    return "at the start" if row.trained == 0 else f"{row.trained:,.0f}"


def _sightings(tables: searches.Tables) -> str:
    seen = tables.get("sightings", searches.no_rows("sightings"))
    if seen.empty:
        return "<h2>Sign momentum met</h2><p>No search of the study met sign momentum.</p>"
    is_plain = (seen.beta1_value == 0) & (seen.beta2_value == 0)
    counts = is_plain.groupby(seen.arm, sort=False).agg(["size", "sum"])
    said = ", ".join(
        f"{searches.plain(arm)} {row['size']:,} ({row['sum']:,})" for arm, row in counts.iterrows()
    )
    first = seen.sort_values("fitness", ascending=False).groupby("search", sort=False).head(3)
    lines = [
        (searches.plain(row.arm), f"{row.seed:g}", f"{row.number:g}", f"{row.beta1_value:.4g}",
         f"{row.beta2_value:.4g}", "" if pd.isna(row.fitness) else f"{row.fitness:+.4f}")
        for row in first.sort_values(["arm", "seed", "number"]).itertuples()
    ]  # fmt: skip
    heads = ("arm", "seed", "candidate", "beta1", "beta2", "gain when first judged (nats)")
    return (
        _long(heads, lines, "Sign momentum met: the three with the largest gain of each search")
        + f'<p class="note">Programs of a structure of their own, by arm: {esc(said)}. In '
        "brackets those with both betas 0, which remember nothing: the sign of the gradient.</p>"
    )


def _funnel(tables: searches.Tables) -> str:
    rows = tables.get("funnel", searches.no_rows("funnel"))
    if rows.empty:
        return not_run_yet("The funnel", f"{script('search')} funnel NAME")
    lines = []
    for key, part in rows.groupby(["arm", "seed", "number"], sort=False):
        arm, seed, number = cast(tuple[Any, Any, Any], key)
        last = part[part.gate == part.gate.iloc[-1]]
        gains = ", ".join(
            f"{searches.FAMILIES.get(row.family, row.family)} {_said(row.mean, row.standard_error)}"
            for row in last.itertuples()
        )
        verdict = "promoted" if bool(last.promoted.iloc[0]) else "held back"
        lines.append(
            (searches.plain(arm), f"{seed:g}", f"{number:g}", last.gate.iloc[0], verdict, gains)
        )
    heads = ("arm", "seed", "candidate", "last gate", "there", "gain on fresh data (nats)")
    through, num = len(search_funnel.survivors(rows)), len(lines)
    return (
        f"{table(heads, lines, 'Funnel')}"
        f'<p class="note">{through} of {num} finalists came through the last gate: better by more '
        "than 2 standard errors on one family, and not worse by more than 2 on any.</p>"
    )


def _compared(cells: pd.DataFrame | None) -> str:
    """The discovered program and Lion minus AdamW, on each page of the suite."""
    title = "The discovered program beside Lion and AdamW"
    if cells is None or cells.empty:
        return not_run_yet(title, search_discovered.COMMAND)
    lines = [
        (
            row.experiment,
            discovered.ARMS[str(row.arm)],
            "" if pd.isna(row.difference) else 
            f"{rounded(row.difference, int(row.digits), signed=True)} {row.unit}",
            "" if pd.isna(row.low) else
            " to ".join(rounded(end, int(row.digits)) for end in (row.low, row.high)),
            verdict(row),
            f"{row.n:g}",
        )
        for row in cells.itertuples()
    ]  # fmt: skip
    heads = ("page", "", "minus AdamW", "95 %, at the settings found", "", "n")
    return (
        f"{table(heads, lines, title)}"
        '<p class="note">Proxies, each with a number of its own; of a loss less is better. Each '
        "tuned with as many settings; fresh seeds in pairs; Holm over the pages. At the settings "
        "found: without the luck of tuning.</p>"
    )


def _pictures(drawn: Sequence[str]) -> str:
    found = {Path(path).stem: path for path in drawn}
    images = "".join(
        f'<figure><a class="picture" href="{esc(found[name])}"><img loading="lazy" '
        f'src="{esc(found[name])}" alt="{esc(module.TITLE)}"></a>'
        f"<figcaption>{esc(module.TITLE)}</figcaption></figure>"
        for name, module in {**SEARCHES, "search_discovered": search_discovered}.items()
        if name in found
    )
    if not images:
        return not_run_yet("The drawn figures of searches", "make figures")
    return f"<h2>Figures</h2><div class='pictures'>{images}</div>"


def _long(heads: Sequence[str], lines: Iterable[Sequence[object]], caption: str) -> str:
    """A table that says how many of its rows it leaves out."""
    rows = list(lines)
    left = len(rows) - MAX_ROWS
    note = f'<p class="note">{left} more in {searches.STUDY}/.</p>' if left > 0 else ""
    return table(heads, rows[:MAX_ROWS], caption) + note
