"""Noisy curves: what counts as reached, and what may be compared."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from experiments.analysis.statistics import held
from experiments.headline import Headline
from experiments.store import UserError

HEADLINE = Headline("eps_loss", "lower", "mse", tune="val", report="test", weights="ema").to_json()


def study(
    values: dict[tuple[str, int], list[float]], **more: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves and runs of (optimizer, seed): values at steps 10, 20, ..."""
    curves, runs = [], []
    for (optimizer, seed), curve in values.items():
        run_id = f"{optimizer}{seed}"
        runs.append(
            {
                "run_id": run_id,
                "optimizer": optimizer,
                "seed": seed,
                "experiment": "x",
                "batch_size": 8,
                "steps": 10 * len(curve),
                "schedule": "constant",
                "headline": HEADLINE,
            }
        )
        for k, value in enumerate(curve, 1):
            row = {"run_id": run_id, "step": 10 * k, "split": "val", "metric": "eps_loss"}
            curves.append({**row, "weights": "ema", "value": value, "better": "lower", **more})
    return pd.DataFrame(curves), pd.DataFrame(runs)


def test_a_value_counts_once_it_holds() -> None:
    curves, _ = study({("a", 0): [9, 1, 8, 3, 2, 4], ("b", 0): [5, 4, 3]})
    assert held.held(curves).value.tolist() == [9, 8, 8, 3, 4, 4, 5, 4, 3]
    assert held.held(curves, 1).value.tolist() == curves.value.tolist()
    rising = held.held(curves.assign(better="higher"))
    assert rising.value.tolist() == [1, 1, 3, 2, 2, 4, 4, 3, 3]


def test_what_is_no_number_is_worse_than_any_and_holds_nothing() -> None:
    curve = [9, 1, math.nan, 2, math.inf, 3]
    curves, _ = study({("a", 0): curve})
    assert held.held(curves).value.tolist() == [9, math.inf, math.inf, math.inf, math.inf, 3]
    rising = held.held(curves.assign(better="higher")).value.tolist()
    assert rising == [1, -math.inf, -math.inf, 2, 3, 3]
    assert held.held(curves, 3).value.tolist() == [*[math.inf] * 5, 3]


@pytest.mark.parametrize("end", [math.nan, math.inf])
def test_a_run_that_came_to_no_end_sets_no_target(end: float) -> None:
    """b diverged on seed 2, and its averaged weights were no numbers at last on seed 3."""
    falling = [1 - k / 10 for k in range(1, 11)]
    quick = [1 - min(2 * k, 10) / 10 for k in range(1, 11)]
    values = {(name, seed): curve for name, curve in (("a", quick), ("b", falling))
              for seed in range(4)}  # fmt: skip
    whole = held.compute_saving(*study(values), "a", "b", hold=1)
    assert whole.estimate == pytest.approx(2.0)
    values["b", 2] = [0.9, 5.0]
    values["b", 3] = [*falling[:-1], end]
    curves, runs = study(values)
    runs["steps"] = 100
    runs["state"] = ["diverged" if run == "b2" else "finished" for run in runs.run_id]
    found = held.compute_saving(curves, runs, "a", "b", hold=1)
    assert found.estimate == pytest.approx(2.0) and "never there" in found.method
    for lost in ({"b1", "b2"}, {"b0", "b1", "b2"}):  # beside b3
        states = ["diverged" if run in lost else "finished" for run in runs.run_id]
        with pytest.raises(UserError, match=f"{3 - len(lost)} runs of b have come to an end"):
            held.compute_saving(curves, runs.assign(state=states), "a", "b", hold=1)


def test_of_two_equal_noisy_optimizers_neither_saves() -> None:
    """Known truth: the same falling curve with noise, forty seeds each."""
    generator = np.random.RandomState(0)
    truth = 1 / np.arange(1, 21)
    values = {
        (name, seed): list(truth + 0.01 * generator.randn(20))
        for name in "ab"
        for seed in range(40)
    }
    found = held.compute_saving(*study(values), "a", "b")
    assert found.low < 1 < found.high and found.high / found.low < 1.5


def test_twice_as_quick_saves_half() -> None:
    slow = [1 - k / 40 for k in range(1, 41)]
    quick = [1 - min(2 * k, 40) / 40 for k in range(1, 41)]
    values = {(name, seed): curve for name, curve in (("a", quick), ("b", slow)) for seed in (0, 1)}
    curves, runs = study(values)
    found = held.compute_saving(curves, runs, "a", "b")
    assert found.estimate == pytest.approx(2.0, rel=1e-6)
    values["b", 7] = [1.0] * 40  # of a seed that a lacks
    curves, runs = study(values)
    others = [curves.assign(value=5.0, **other) for other in ({"weights": "raw"}, {"split": "x"})]
    shuffled = pd.concat([curves, *others]).sample(frac=1, random_state=0)
    assert held.compute_saving(shuffled, runs, "a", "b") == found
    both = pd.concat([curves.assign(split="books"), curves.assign(value=5.0)])  # another says none
    assert held.compute_saving(both, runs, "a", "b", split="books") == found


def test_distances_that_were_not_measured_alike_are_refused() -> None:
    one, runs = study(
        {("a", s): [3.0, 2.0] for s in (0, 1)}, instrument=json.dumps({"n": 1, "sha256": "x"})
    )
    other, more = study(
        {("b", s): [3.0, 2.0] for s in (0, 1)}, instrument=json.dumps({"n": 1, "sha256": "y"})
    )
    both = pd.concat([one, other]), pd.concat([runs, more])
    with pytest.raises(UserError, match="not measured alike: the runs differ in sha256; evaluate"):
        held.compute_saving(*both, "a", "b", metric="eps_loss")
    alike = pd.concat([one, other.assign(instrument=one.instrument)]), both[1]
    assert held.compute_saving(*alike, "a", "b", metric="eps_loss").estimate == pytest.approx(1.0)
    elsewhere = both[0].assign(split="test"), one.assign(run_id="c0", instrument="z")
    found = held.compute_saving(
        pd.concat([alike[0], *elsewhere]), alike[1], "a", "b", split="val", metric="eps_loss"
    )
    assert found.n == 2
