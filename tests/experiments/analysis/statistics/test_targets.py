"""Steps to a target, from matched runs only."""

from __future__ import annotations

import math
from pathlib import Path

import known_truth
import numpy as np
import pandas as pd
import pytest
import tiny

from experiments import runner
from experiments.analysis.statistics.targets import reach, speed_up, with_schedules
from experiments.store import UserError
from experiments.table import read_runs


def made_up(every: int = 51, **more) -> tuple[pd.DataFrame, pd.DataFrame]:
    """lion climbs to 100 with the steps, adamw to 80; on every seed alike but for a shift."""
    runs = pd.DataFrame(known_truth.arms({"lion": 0.0, "adamw": 0.0}, seeds=range(3)))
    runs = runs.assign(schedule='{"name": "cosine"}', **more)
    ends = {"lion": 102.0, "adamw": 81.6}

    def value(row, step: int) -> float:
        return (ends[row.optimizer] - 2 * row.seed) * step / 510

    return pd.DataFrame(known_truth.curves(runs, value, every)), runs


def test_the_first_evaluation_at_the_target_counts() -> None:
    curves, runs = made_up()
    table = reach(curves, runs, 79.0).set_index(["optimizer", "seed"]).reached
    # lion, seed 0: 102 s / 510 >= 79 from step 395 on; evaluations are 51 steps apart.
    assert table["lion", 0] == 408
    assert table["lion", 2] == 459  # 98 s / 510: from step 411.1
    assert table["adamw", 0] == 510
    assert table["adamw", 2] == math.inf  # ends at 77.6


def test_a_harder_target_is_never_reached_sooner() -> None:
    curves, runs = made_up()
    tables = [reach(curves, runs, target).reached for target in (10, 50, 79, 90, 101)]
    for easier, harder in zip(tables, tables[1:], strict=False):
        assert (harder >= easier).all()


def test_time_and_losses() -> None:
    curves, runs = made_up()
    seconds = reach(curves, runs, 79.0, measure="seconds").reached
    assert (seconds * 100).tolist() == pytest.approx(reach(curves, runs, 79.0).reached.tolist())
    falling = curves.assign(metric="loss", value=-curves.value)
    assert reach(falling, runs, -79.0, metric="loss").reached.tolist() == (
        reach(curves, runs, 79.0).reached.tolist()
    )


def test_speed_up_by_hand() -> None:
    curves, runs = made_up()
    found = speed_up(curves, runs, "lion", "adamw")
    # Targets, the other seeds' means of 81.6, 79.6, 77.6: 78.6, 79.6, 80.6. Lion ends at 102, 100,
    # 98, so it is there at 408, 408 and 459 of 510 steps; adamw at 510, 510 and never (510).
    shares = [408 / 510, 408 / 510, 459 / 510]
    assert found.estimate == pytest.approx(math.prod(shares) ** (-1 / 3))
    assert found.low < found.estimate < found.high and found.n == 3
    # Every 5 steps, adamw at 495, 510 and never; for the mean of all seeds, 79.6, it would be 500.
    fine = speed_up(*made_up(every=5), "lion", "adamw")
    assert fine.estimate == pytest.approx((495 / 395 * 510 / 410 * 510 / 420) ** (1 / 3))
    back = speed_up(curves, runs, "adamw", "lion")  # lion: 510, 510, 510; adamw never there
    assert back.estimate == pytest.approx(1.0)


def test_an_optimizer_is_as_fast_as_its_double() -> None:
    """It passes its own mean final value before its end: that alone is no speed-up."""
    generator = np.random.default_rng(1)
    seeds = range(12)
    runs = pd.DataFrame(known_truth.arms({"lion": 0.0, "adamw": 0.0}, seeds=seeds))
    runs = runs.assign(schedule="cosine")
    wobble = {run: generator.normal(0, 0.5, 511) for run in runs.run_id}

    def value(row, step: int) -> float:
        return 90 * (1 - np.exp(-step / 100)) + wobble[row.run_id][step]

    curves = pd.DataFrame(known_truth.curves(runs, value, every=10))
    found = speed_up(curves, runs, "lion", "adamw")
    assert found.low < 1 < found.high
    own = reach(curves, runs[runs.optimizer == "adamw"], 90 * (1 - np.exp(-5.1)))
    assert (510 / np.minimum(own.reached, 510)).mean() > 1.1, "the trap is there"


@pytest.mark.parametrize("column", ["experiment", "batch_size", "steps", "schedule"])
def test_unmatched_runs_are_refused(column: str) -> None:
    curves, runs = made_up()
    other = runs.optimizer == "lion"
    runs[column] = runs[column].astype(object).where(~other, "another")
    with pytest.raises(UserError, match=f"the runs differ in {column}"):
        reach(curves, runs, 79.0)
    with pytest.raises(UserError, match=rf"the runs differ in {column} \(None\)"):
        reach(curves, runs.assign(**{column: None}), 79.0)  # which nobody knows
    with pytest.raises(UserError, match=f"need the column {column}"):
        reach(curves, runs.drop(columns=column), 79.0)


def test_what_is_missing_is_said() -> None:
    curves, runs = made_up()
    with pytest.raises(UserError, match="no top1 on test of .* and 5 more runs"):
        reach(curves, runs, 79.0, split="test")
    twice = pd.concat([runs, runs.assign(run_id=runs.run_id + "x")])
    with pytest.raises(UserError, match="filter to the chosen settings"):
        speed_up(curves, twice, "lion", "adamw")


def test_from_the_ledger(tmp_path: Path) -> None:
    one = runner.run(tiny.config(tmp_path, seed=1, train__epochs=2.0))
    runs = with_schedules(read_runs(tmp_path), tmp_path)
    assert reach(runs, runs, 0.0).reached.tolist() == [6]  # the first evaluation, after an epoch
    assert reach(runs, runs, 0.0, measure="seconds").reached[0] > 0
    runner.run(tiny.config(tmp_path, seed=2, train__epochs=2.0, schedule__warmup_fraction=0.2))
    runs = with_schedules(read_runs(tmp_path), tmp_path)
    with pytest.raises(UserError, match="differ in schedule"):
        reach(runs, runs, 0.0)
    (one.folder / "config.yaml").unlink()
    with pytest.raises(UserError, match="no readable configuration"):
        with_schedules(runs, tmp_path)
