"""Runs of one id that two studies trained: grouped otherwise, or alone, they round otherwise."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.rounded import rounded

_COLUMNS = ["run_id", "experiment", "cpu", "seconds", "test", "unit", "digits"]


def trained_twice(results: Path) -> pd.DataFrame:
    """Runs that stand in two tables and were trained for each, on one kind of CPU.

    Returns:
        A row per run: experiment, unit, digits and gap, the distance of its test values. A row that
        one table has from the other took exactly as long there, and is not counted.
    """
    paths = sorted((results / "studies").glob("*/*/runs.csv"))
    tables = [pd.read_csv(path) for path in paths]
    known = [table[_COLUMNS] for table in tables if set(_COLUMNS) <= set(table)]
    if not known:
        return pd.DataFrame(columns=["experiment", "unit", "digits", "gap"])
    rows = pd.concat(known).drop_duplicates(["run_id", "cpu", "seconds"])
    runs = rows.groupby(["run_id", "cpu"])
    wide = runs.agg(
        experiment=("experiment", "first"),
        unit=("unit", "first"),
        digits=("digits", "first"),
        num=("test", "count"),
        low=("test", "min"),
        high=("test", "max"),
    )
    twice = wide[wide.num > 1]
    return twice.assign(gap=twice.high - twice.low).reset_index(drop=True)


def sentence(results: Path) -> str:
    """How many of them end alike, page by page; empty where there is none."""
    runs = trained_twice(results)
    said = []
    for name, mine in runs.groupby("experiment"):
        alike, digits = int((mine.gap == 0).sum()), int(mine.digits.iloc[0])
        far = ""
        if alike < len(mine):
            unit = "points" if mine.unit.iloc[0] == "%" else mine.unit.iloc[0]
            middle, largest = (rounded(gap, digits) for gap in (mine.gap.median(), mine.gap.max()))
            far = f" (median distance {middle}, largest {largest} {unit})"
        said.append(f"`{name}` {alike} of {len(mine)}{far}")
    if not said:
        return ""
    return (
        "Runs that two studies have trained under one id, each time alone or in other groups of "
        f"runs, and that end at the same test value: {'; '.join(said)}."
    )
