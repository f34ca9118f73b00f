"""Blocks of RESULTS.md on the program search; see `text_tables`."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from experiments.analysis import searches
from experiments.analysis.figures import search_rediscovery
from experiments.analysis.markdown import NO_STUDY, table
from experiments.analysis.text_discovered import of_discovered
from experiments.rounded import rounded


def strategies(results: Path) -> str:
    """What each strategy spent, and what its picks are worth on search data and on fresh data.

    On search data twice: as each search has counted, and in the same rounds for all.
    """
    tables = searches.of_results(results)
    if tables is None or "finals" not in tables:
        return NO_STUDY
    rows = searches.comparable(tables["searches"])
    picks = searches.picked(tables["finals"]).set_index("search")
    same = searches.on_same_rounds(tables)
    rows = rows.assign(
        searched=rows.search.map(picks.on_search_data),
        same=rows.search.map(same),
        fresh=rows.search.map(picks["mean"]),
    )
    gains = {"searched": "search data, as each counts", "same": "the same rounds", "fresh": "fresh"}
    if same.empty:
        del gains["same"]
    said = [
        (
            str(label),
            f"{len(part)}",
            f"{part.children.mean():,.0f}",
            f"{(part.trained - part.rechecks).mean():,.0f}",
            f"{part.rechecks.mean():,.0f}",
            *(_mean(part[column]) for column in gains),
        )
        for label, part in rows.groupby("label", sort=False)
    ]
    heads = ("", "searches", "programs each", "trained each", "incumbents again")
    made = table((*heads, *(f"gain, {name}" for name in gains.values())), said)
    return made if same.empty else f"{made}\n\n{_rounds(tables['picks'])}"


def _rounds(picks: pd.DataFrame) -> str:
    """How far rounds of search data lie apart for one and the same program."""
    of_one = picks.groupby("search").fitness
    spread = rounded(float(of_one.std().mean()), 2)
    low, high = (rounded(end, 2, signed=True) for end in (picks.fitness.min(), picks.fitness.max()))
    return (
        f"The same rounds: {picks['round'].nunique()} of search data. From round to round the gain "
        f"of one program has a standard deviation of {spread} nats; over all picks and rounds it "
        f"is {low} to {high}. What a search itself counts is of rounds of its own, so it compares "
        "with no other search."
    ).replace("-0.", "−0.")


def _mean(values: pd.Series) -> str:
    """`+0.123 ± 0.004`, over searches; how many of them gave no number."""
    known = values.dropna()
    error = f" ± {known.sem():.3f}" if len(known) > 1 else ""
    lost = f" ({len(values) - len(known)} failed)" if len(known) < len(values) else ""
    return (
        f"{rounded(known.mean(), 3, signed=True)}{error}{lost}".replace("-", "−")
        if len(known)
        else "failed"
    )


def rediscovery(results: Path) -> str:
    """Of each arm: in how many searches a milestone was reached, and after how many trainings."""
    tables = searches.of_results(results)
    if tables is None or "rediscovery" not in tables:
        return NO_STUDY
    rows = search_rediscovery.milestones(tables)
    said = []
    for arm, part in rows.groupby("arm", sort=False):
        spent = part.drop_duplicates("search").spent
        reached = [_reached(part[part.milestone == name]) for name in search_rediscovery.MILESTONES]
        proxy = searches.proxy_of(part.iloc[0])
        said.append((searches.plain(arm), proxy, f"{spent.mean():,.0f}", *reached))
    heads = [name[0].lower() + name[1:] for name in search_rediscovery.MILESTONES.values()]
    text = table(("searches", "proxy", "trainings each", *heads), said)
    note = search_rediscovery.nearly_one(rows)
    return f"{text}\n\n{note}" if note else text


def _reached(rows: pd.DataFrame) -> str:
    """`3 of 5, after 12 to 340`."""
    known = rows.trained.dropna()
    if known.empty:
        return f"0 of {len(rows)}"
    if (known == 0).all():
        return f"{len(known)} of {len(rows)}, at the start"
    low, high = f"{known.min():,.0f}", f"{known.max():,.0f}"
    return f"{len(known)} of {len(rows)}, after {low if low == high else f'{low} to {high}'}"


def known(results: Path) -> str:
    """What programs of the library gain over AdamW on the searches' proxies, fresh data."""
    path = results / "studies" / searches.STUDY / "known.csv"
    if not path.exists():
        return NO_STUDY
    rows = pd.read_csv(path)
    rows["said"] = [
        f"{rounded(r.mean, 3, signed=True)} ± {r.standard_error:.3f}" for r in rows.itertuples()
    ]
    rows["proxy"] = [searches.proxy_of(row) for row in rows.itertuples()]
    wide = rows.pivot(index="program", columns="proxy", values="said")
    wide = wide.loc[list(dict.fromkeys(rows.program)), list(dict.fromkeys(rows.proxy))]
    said = [
        (f"`{name}`", *map(str, row)) for name, row in zip(wide.index, wide.values, strict=True)
    ]
    heads = ("program of the library", *map(str, wide.columns))
    return table(heads, said).replace("-0.", "−0.")


BLOCKS: dict[str, Callable[[Path], str]] = {
    "search": strategies,
    "rediscovery": rediscovery,
    "known_programs": known,
    "discovered": of_discovered,
}
"""Name of a block -> what makes it."""
