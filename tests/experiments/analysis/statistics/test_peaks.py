"""Peaks are the best over a run, whichever way is better; the paper's mean is that of 12 scores."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import tiny

from experiments import runner, store
from experiments.analysis.statistics.peaks import mean_of_peaks, peaks
from scripts import glue_peaks
from scripts import peaks as peaks_script


def rows(values: dict[tuple[str, str], list[float]]) -> pd.DataFrame:
    made = []
    for (run, metric), curve in values.items():
        better = "lower" if metric == "loss" else None if metric == "valid" else "higher"
        for step, value in enumerate(curve, 1):
            made.append((run, "val", metric, "raw", 10 * step, value, better, "%"))
    columns = ["run_id", "split", "metric", "weights", "step", "value", "better", "unit"]
    return pd.DataFrame(made, columns=columns)


def test_a_peak_is_the_best_and_not_the_last() -> None:
    nan = float("nan")
    made = rows(
        {("a", "acc"): [1.0, 5.0, 5.0, nan, 3.0, nan], ("a", "loss"): [2.0, 0.5, 0.7],
         ("a", "valid"): [1.0]}
    )  # fmt: skip
    table = peaks(made.sample(frac=1, random_state=1)).set_index("metric")
    assert list(table.index) == ["acc", "loss"]  # nobody says which way "valid" is better
    assert (table.peak["acc"], table.step["acc"], table["last"]["acc"]) == (5.0, 20, 3.0)
    assert (table.peak["loss"], table.step["loss"]) == (0.5, 20)
    (only,) = peaks(rows({("a", "loss"): [2.0]})).to_dict("records")
    assert (only["peak"], only["last"], only["step"]) == (2.0, 2.0, 10), "of a single evaluation"


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


def test_last_and_best_of_a_run_are_told_for_each_split_and_kind_of_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tiny.config(tmp_path, train__epochs=None, train__steps=6, eval__every_epochs=None)
    made.eval.every_steps = 2
    outcome = runner.run(made)
    asked = [outcome.run_id, "--runs", str(tmp_path), "--metric", "top1"]
    assert peaks_script.main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = store.read_rows(outcome.folder / "metrics.jsonl")
    assert len(lines) == 4  # val, test; raw, ema
    for line in lines:
        split, weights = line.split()[1], line.split("(")[1].partition(")")[0]
        mine = [
            (r["value"], -r["step"])
            for r in rows
            if (r["split"], r["weights"], r["metric"]) == (split, weights, "top1")
        ]
        best, step = max(mine)
        assert f"last {mine[-1][0]:.4g} %, best {best:.4g} at step {-step}" in line
    assert peaks_script.main(["nothing", "--runs", str(tmp_path)]) == 2
    assert "error: nothing: no such run" in capsys.readouterr().err
