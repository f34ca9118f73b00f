"""The committed regime map, recomputed with pandas and scipy alone, and the words on it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.analysis import regimes

ROOT = Path(__file__).parents[3]
STUDIES = ROOT / "results" / "studies"
LUCK = 0.9  # sd of one run, see README


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    return regimes.table()


def by_hand(experiment: str, kind: str, noise: float, size: int) -> dict[str, Any]:
    """Picks by validation, and Student's test of their fresh seeds."""
    tuning, fresh = (
        pd.read_csv(STUDIES / experiment / f"{kind}{end}" / "runs.csv") for end in ("", "_fresh")
    )
    assert not set(tuning.seed) & set(fresh.seed)
    tests = {}
    for name in ("adamw", "lion"):
        mine = [
            runs[
                (runs.optimizer == name)
                & (runs.batch_size == size)
                & (runs.get("label_noise", pd.Series(0.0, runs.index)).fillna(0.0) == noise)
            ]
            for runs in (tuning, fresh)
        ]
        best = mine[0][mine[0].state == "finished"].sort_values("val").iloc[-1]
        assert set(mine[1].state) == {"finished"}
        for axis in ("lr", "weight_decay"):
            tried = mine[0][mine[0].val >= best.val - 0.001][axis].round(9)  # ties: any of them
            assert set(mine[1][axis].round(9)) <= set(tried)
        tests[name] = mine[1].set_index("seed").test
    difference = (tests["lion"] - tests["adamw"]).dropna()
    number, spread = len(difference), difference.std()
    noise_of_run = math.sqrt((tests["lion"].var() + tests["adamw"].var()) / 2)
    reach = float(stats.t.ppf(0.975, number - 1))
    error = spread / math.sqrt(number)
    wide = math.hypot(error, LUCK * noise_of_run)
    mean = float(difference.mean())
    return {
        "difference": mean, "low": mean - reach * error, "high": mean + reach * error,
        "wide_low": mean - reach * wide, "wide_high": mean + reach * wide, "n": number,
        "p": float(stats.ttest_1samp(difference, 0.0).pvalue),
        "p_wide": 2 * float(stats.t.sf(abs(mean) / wide, number - 1)),
    }  # fmt: skip


def holm(values: list[float]) -> np.ndarray:
    adjusted, largest = np.empty(len(values)), 0.0
    for place, index in enumerate(np.argsort(values)):
        largest = max(largest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = largest
    return adjusted


def test_every_cell_is_what_a_plain_calculation_gives(cells: pd.DataFrame) -> None:
    rows = []
    for cell in cells.itertuples():
        kind = "tiny" if "200 examples" in str(cell.regime) else "regimes"
        noise = 0.4 if "redrawn" in str(cell.regime) else 0.0
        rows.append(by_hand(str(cell.experiment), kind, noise, int(str(cell.batch_size))))
    hand = pd.DataFrame(rows, index=cells.index)
    for name in ("difference", "low", "high", "wide_low", "wide_high", "n"):
        assert np.allclose(cells[name].astype(float), hand[name], atol=2e-3), name
    is_tuned = cells.edges == ""
    p, p_wide = (holm(list(hand[name][is_tuned])) for name in ("p", "p_wide"))
    tuned, gain = cells[is_tuned], hand.difference[is_tuned].to_numpy()
    assert np.allclose(tuned.p_holm.astype(float), p, rtol=0.02)
    excludes = (hand.wide_low > 0) | (hand.wide_high < 0)
    holds, found = excludes[is_tuned].to_numpy() & (p < 0.05), regimes.counts(cells)
    for name, sign in (("behind", -1), ("ahead", 1)):
        assert found[name] == int(((p < 0.05) & (gain * sign > 0)).sum())
        assert found[f"{name}_of_optimizers"] == int((holds & (gain * sign > 0)).sum())
        both = holds & (p_wide < 0.05) & (gain * sign > 0)
        assert found[f"{name}_of_all"] == int(both.sum())


def test_the_words_say_what_the_table_counts(cells: pd.DataFrame) -> None:
    n = regimes.counts(cells)
    said = " ".join((ROOT / "RESULTS.md").read_text().split())
    assert (
        f"Of the {len(cells)} cells, Lion is behind in {n['behind']} after Holm's correction, in "
        f"{n['behind_of_optimizers']} of these with the luck of tuning counted in; it is ahead in "
        f"{n['ahead']}, in {n['ahead_of_optimizers']} of these so. In {n['not_shown']} nothing is "
        f"shown, and {n['not_tuned']} is not tuned."
    ) in said
    assert (
        f"over these, too, Lion is behind in {n['behind_of_all']} (sparse words, batch 64) and "
        f"ahead in {n['ahead_of_all']} (MLP, 200 examples, batch 64)"
    ) in said
    sizes = cells[cells.verdict == "worse"].batch_size.value_counts()
    assert [sizes[size] for size in (1, 4, 16, 64)] == [3, 2, 5, 4]
    assert "Batch 1, 4, 16 and 64 have 3, 2, 5 and 4 of the 14" in said
    in_readme = " ".join((ROOT / "README.md").read_text().split())
    assert (
        f"{len(cells)} cells | behind in {n['behind']}, ahead in {n['ahead']} | "
        f"behind in {n['behind_of_optimizers']}, ahead in {n['ahead_of_optimizers']} (corrected "
        f"for {len(cells)} cells: {n['behind_of_all']} and {n['ahead_of_all']}) |"
    ) in in_readme
