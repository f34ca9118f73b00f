"""Which runs the studies consist of: how many, how long, how they were started, at which commit."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from experiments.analysis.markdown import table

_COLUMNS = ["run_id", "seconds", "commit", "launcher", "cpu"]
_TOGETHER = re.compile(r"(\d+) runs together")


def run_table(results: Path) -> str:
    """A row per page and study, tuning and fresh seeds beside each other, and the sums."""
    found: dict[tuple[str, str], dict[bool, pd.DataFrame]] = {}
    for path in sorted((results / "studies").glob("*/*/runs.csv")):
        page, name = path.parts[-3:-1]
        is_fresh = name.endswith("fresh")
        study = name.removesuffix("fresh").removesuffix("_") or "tuning"
        read = pd.read_csv(path, usecols=_COLUMNS, dtype=dict.fromkeys(_COLUMNS[2:], str))
        found.setdefault((page, study), {})[is_fresh] = read
    rows, all_of = [], []
    for (page, name), parts in sorted(found.items()):
        whole = pd.concat(parts.values())
        all_of.append(whole)
        counts = [f"{len(parts[is_fresh]):,}" for is_fresh in (False, True) if is_fresh in parts]
        minutes = f"{whole.seconds.sum() / 60:,.0f}"
        told = f"`{page}`", name, " + ".join(counts), minutes, _together(whole), _commits(whole)
        rows.append(told)
    whole = pd.concat(all_of).drop_duplicates(["run_id", "cpu"])
    minutes = f"{whole.seconds.sum() / 60:,.0f}"
    rows.append(("all, each run once on each CPU", "", f"{len(whole):,}", minutes, "", ""))
    heads = ("page", "study", "runs (tuning + fresh)", "core-minutes", "trained together", "commit")
    return table(heads, rows)


def _together(rows: pd.DataFrame) -> str:
    """How many runs were trained as one, and how many alone."""
    sizes = [int(m[1]) if (m := _TOGETHER.search(text)) else 1 for text in rows.launcher]
    many = [size for size in sizes if size > 1]
    if not many:
        return "alone"
    span = f"{min(many)} to {max(many)}" if min(many) < max(many) else f"{many[0]}"
    alone = len(sizes) - len(many)
    return f"{span}; {alone:,} alone" if alone else span


def _commits(rows: pd.DataFrame) -> str:
    """The commits, the one with the most runs first; + where files were changed."""
    counts = rows.commit.str.replace(r"^(\w{7})\w*", r"\1", regex=True).value_counts()
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    if len(ordered) == 1:
        return str(ordered[0][0])
    return ", ".join(f"{name} ({count:,})" for name, count in ordered)
