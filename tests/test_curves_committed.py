"""The two tables of a committed study say the same: a run's row, and the end of its curve."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

STUDIES = Path(__file__).resolve().parent.parent / "results" / "studies"
CURVES = sorted(STUDIES.glob("*/*/curves.csv"))


@pytest.mark.parametrize("path", CURVES, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_a_run_ends_where_its_curve_ends(path: Path) -> None:
    """So a number that is changed in one of them alone is noticed, whichever a figure draws."""
    runs = pd.read_csv(path.with_name("runs.csv"))
    runs = runs[runs.state == "finished"]
    curves = pd.read_csv(path).sort_values("step", kind="stable")
    ends = curves.groupby(["run_id", "split", "metric"]).value.last()
    for column, split in (("val", "tune_split"), ("test", "report_split")):
        for name, metric in ((column, runs.metric), (f"{column}_loss", ["loss"] * len(runs))):
            keys = list(zip(runs.run_id, runs[split], metric, strict=True))
            last = pd.Series(ends.reindex(pd.MultiIndex.from_tuples(keys)).to_numpy(), runs.index)
            told = runs[name].dropna()
            assert (last[told.index] == told).all(), name
