"""Runs that two studies trained under one id."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.analysis import text_twice


def put(results: Path, study: str, tests: list[float], seconds: list[float]) -> None:
    folder = results / "studies" / "lm_proxy" / study
    folder.mkdir(parents=True)
    rows = [
        {"run_id": f"run{place}", "experiment": "lm_proxy", "cpu": "a", "seconds": took,
         "test": test, "unit": "nats", "digits": 3, "lr": 0.1}
        for place, (test, took) in enumerate(zip(tests, seconds, strict=True))
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "runs.csv", index=False)


def test_runs_that_were_trained_twice_are_held_against_each_other(tmp_path: Path) -> None:
    put(tmp_path, "tuning", [1.0, 2.0, 3.0], [5.0, 5.0, 5.0])
    assert text_twice.sentence(tmp_path) == ""
    put(tmp_path, "discovered", [1.0, 2.25, 9.0], [6.0, 7.0, 5.0])  # the last is a copied row
    gaps = text_twice.trained_twice(tmp_path)
    assert sorted(gaps.gap) == [0.0, 0.25], "a copied row tells nothing"
    said = text_twice.sentence(tmp_path)
    assert said.endswith("`lm_proxy` 1 of 2 (median distance 0.125, largest 0.250 nats).")


def test_a_run_on_another_kind_of_cpu_is_another_matter(tmp_path: Path) -> None:
    put(tmp_path, "tuning", [1.0], [5.0])
    put(tmp_path, "other", [2.0], [6.0])
    path = tmp_path / "studies/lm_proxy/other/runs.csv"
    other = pd.read_csv(path)
    other.assign(cpu="b").to_csv(path, index=False)
    assert text_twice.sentence(tmp_path) == ""
    other.drop(columns="digits").to_csv(path, index=False)
    assert text_twice.sentence(tmp_path) == "", "a table of the time before"
