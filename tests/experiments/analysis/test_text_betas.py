"""Lion's betas on fresh seeds: each pair against (0.9, 0.99), single betas first, edges said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import study_folder

from experiments.analysis import text_betas, text_tables

GAINS = {(0.9, 0.99): 0.0, (0.9, 0.9): -3.0, (0.95, 0.98): 0.05, (0.99, 0.99): -20.0}


def row(pair: tuple[float, float], i: int, j: int, seed: int, test: float) -> dict[str, Any]:
    return {"experiment": text_betas.PAGE, "optimizer": "lion", "beta1": pair[0], "beta2": pair[1],
            "lr": 10.0 ** (i - 3), "weight_decay": 10.0**j, "batch_size": 64, "seed": seed,
            "state": "finished", "val": test, "test": test, "n": 20_000, "metric": "top1",
            "unit": "%", "better": "higher", "scale": "proxy", "seconds": 1.0}  # fmt: skip


def make(folder: Path) -> None:
    tuning, fresh = [], []
    for pair, gain in GAINS.items():
        best = 0 if pair == (0.99, 0.99) else 1  # on the edge
        tuning += [row(pair, i, j, 0, 80 - abs(i - best) - abs(j - 1))
                   for i in range(3) for j in range(3)]  # fmt: skip
        spread = np.random.RandomState(int(1000 * sum(pair))).normal(0, 0.3, 10)
        fresh += [row(pair, best, 1, 100 + k, 80 + gain + s) for k, s in enumerate(spread)]
    for name, rows in (("betas", tuning), ("betas_fresh", fresh)):
        path = folder / "studies" / text_betas.PAGE / name / "runs.csv"
        path.parent.mkdir(parents=True)
        pd.DataFrame(rows).to_csv(path, index=False)


def test_every_pair_stands_against_lions_own(tmp_path: Path) -> None:
    folder = study_folder.make(tmp_path)
    block = text_tables.BLOCKS["betas_signals"]
    assert "not run yet" in block(folder)
    make(folder)
    ran = folder / "studies" / text_betas.PAGE / "betas_fresh" / "runs.csv"
    ran.rename(ran.with_name("kept.csv"))
    assert "not run yet" in block(folder), "tuned, and not compared yet"
    ran.with_name("kept.csv").rename(ran)
    lines = block(folder).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == [
        *("| 0.9, 0.9", "| 0.99, 0.99", "| 0.95, 0.98", "| 0.9, 0.99 (Lion's)")
    ]
    single, untuned, close, own = lines
    assert "| 0.01; 10 |" in single and "| behind |" in single and "−3." in single
    assert "0.001; 10 (edge)" in untuned and "not tuned (0.99, 0.99 on an edge)" in untuned
    assert "| not shown |" in close and own.count("|  ") >= 4


def test_a_pair_of_which_a_fresh_run_diverged_has_no_mean(tmp_path: Path) -> None:
    folder = study_folder.make(tmp_path)
    make(folder)
    path = folder / "studies" / text_betas.PAGE / "betas_fresh" / "runs.csv"
    runs = pd.read_csv(path)
    lost = (runs.beta2 == 0.9) & (runs.seed == 104)
    runs.loc[lost, ["state", "val", "test"]] = ["diverged", np.nan, np.nan]
    runs[runs.beta1 != 0.95].to_csv(path, index=False)
    single, _, close, own = text_tables.BLOCKS["betas_signals"](folder).splitlines()[2:]
    assert single == "| 0.9, 0.9 | 0.01; 10 | – | – | – | – | diverged | 0 |"
    assert close == "| 0.95, 0.98 | 0.01; 10 | – | – | – | – | not run | 0 |"
    mine = runs[(runs.beta1 == 0.9) & (runs.beta2 == 0.99)].test
    assert f"| 0.01; 10 | {mine.mean():.2f} ± {mine.std() / 10**0.5:.2f} |" in own
