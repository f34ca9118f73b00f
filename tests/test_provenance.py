"""Every committed number can be traced: to a commit, a processor and versions, or to such a row."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

RESULTS = Path(__file__).resolve().parent.parent / "results"
OF_RUNS = re.findall(
    r"^/results/(\w+)/$", (RESULTS.parent / ".gitignore").read_text(), re.MULTILINE
)
"""Folders that are no part of the repository, such as the report's."""
TABLES = sorted(
    str(path.relative_to(RESULTS))
    for path in RESULTS.rglob("*.csv")
    if path.relative_to(RESULTS).parts[0] not in ("paper", *OF_RUNS)
)
COMPUTED = {  # by the code that is committed, from tables or pages that are; nothing was measured
    "claims.csv",
    "plan.csv",
    "plan_claim.csv",
    "plan_sharded.csv",
    "studies/lm_proxy/kjv_entropies.csv",
}
VERSIONS = {"conformance/matrix.csv": "version"}  # of each library; the README beside has torch's


def parents(name: str) -> tuple[str, str] | None:
    """The column that names a traced row, and the table with that row."""
    path = Path(name)
    if path.parent.name == "program_search" and path.name != "searches.csv":
        return "search", str(path.with_name("searches.csv"))
    if path.name in ("curves.csv", "other_weights.csv"):
        return "run_id", str(path.with_name("runs.csv"))
    return None


@pytest.mark.parametrize("name", sorted({*TABLES} - COMPUTED - {*VERSIONS}))
def test_rows_name_their_commit_or_a_row_that_does(name: str) -> None:
    table = pd.read_csv(RESULTS / name)
    assert len(table)
    above = parents(name)
    if "commit" not in table and above is not None and above[0] in table:
        key, other = above
        known = pd.read_csv(RESULTS / other)
        assert known.commit.notna().all()
        assert set(table[key]) <= set(known[key])
        return
    assert "commit" in table, "run its script again, on a clean commit"
    assert table.commit.str.fullmatch(r"[0-9a-f]{12}\+?").all()
    assert table.cpu.notna().all() and {*table} & {"torch", "versions"}


@pytest.mark.parametrize(
    "path", sorted((RESULTS / "bench").rglob("*.json")), ids=lambda p: str(p.relative_to(RESULTS))
)
def test_benchmarks_name_their_commit(path: Path) -> None:
    facts = json.loads(path.read_text())
    assert re.fullmatch(r"[0-9a-f]{12}\+?", facts["commit"]), "run its script on a commit"
    assert facts["cpu"] and facts["torch"]


def test_what_is_excused_is_there() -> None:
    assert {*COMPUTED, *VERSIONS} <= {*TABLES}
