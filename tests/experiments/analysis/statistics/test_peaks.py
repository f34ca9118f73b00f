"""Peaks are the best over a run, whichever way is better; the paper's mean is that of 12 scores."""

from __future__ import annotations

import pandas as pd
import pytest

from experiments.analysis.statistics.peaks import mean_of_peaks, peaks
from scripts import glue_peaks


def rows(values: dict[tuple[str, str], list[float]]) -> pd.DataFrame:
    made = []
    for (run, metric), curve in values.items():
        better = "lower" if metric == "loss" else None if metric == "valid" else "higher"
        for step, value in enumerate(curve, 1):
            made.append((run, "val", metric, "raw", 10 * step, value, better, "%"))
    columns = ["run_id", "split", "metric", "weights", "step", "value", "better", "unit"]
    return pd.DataFrame(made, columns=columns)


def test_a_peak_is_the_best_and_not_the_last() -> None:
    table = peaks(
        rows({("a", "acc"): [1.0, 5.0, 3.0], ("a", "loss"): [2.0, 0.5, 0.7], ("a", "valid"): [1.0]})
    ).set_index("metric")
    assert list(table.index) == ["acc", "loss"]  # nobody says which way "valid" is better
    assert (table.peak["acc"], table.step["acc"], table["last"]["acc"]) == (5.0, 20, 3.0)
    assert (table.peak["loss"], table.step["loss"]) == (0.5, 20)


def test_the_mean_is_that_of_the_peaks_of_whole_runs() -> None:
    table = peaks(
        rows({("a", "x"): [1.0, 5.0], ("a", "y"): [7.0, 3.0], ("b", "x"): [9.0], ("b", "z"): [9.0]})
    )
    assert mean_of_peaks(table, ["x", "y"]) == {"a": 6.0}


def test_the_papers_average_is_the_mean_of_its_twelve_scores() -> None:
    for model in glue_peaks.MODELS.values():
        for values in glue_peaks.paper(model).values():
            mean = sum(values[score] for score in glue_peaks.SCORES) / 12
            assert values["average"] == pytest.approx(mean, abs=0.006)
