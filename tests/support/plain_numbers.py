"""Statistics of committed tables with pandas and scipy alone, to hold texts against."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

ROOT = Path(__file__).resolve().parent.parent.parent
STUDIES = ROOT / "results" / "studies"
SETTING = ["lr", "weight_decay", "beta1", "beta2"]
LUCK = 0.9  # of tuning, in standard deviations of one run
TIE = 5e-4  # of validation, %


COLUMNS = {*SETTING, "optimizer", "seed", "val", "test", "test_loss", "batch_size", "steps", "unit",
           "label_noise", "init_optimizer"}  # fmt: skip


@functools.cache
def runs_of(study: str) -> pd.DataFrame:
    return pd.read_csv(STUDIES / study / "runs.csv", usecols=COLUMNS.__contains__)


def said(name: str) -> str:
    return " ".join((ROOT / name).read_text().split())


def interval(ours: np.ndarray, theirs: np.ndarray, wide: bool = False) -> tuple[float, ...]:
    """Mean difference of pairs and its 95 % interval, wide with the luck of tuning."""
    differences = ours - theirs
    n = len(differences)
    luck = LUCK * math.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / 2) if wide else 0.0
    error = math.hypot(differences.std(ddof=1) / math.sqrt(n), luck)
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    return differences.mean(), differences.mean() - reach, differences.mean() + reach


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def ends(found: tuple[float, ...], digits: int) -> str:
    return f"[{number(found[1], digits)}, {number(found[2], digits)}]"


def fresh_arms(study: str, without: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Test values of Lion and AdamW, paired by seed."""
    runs = runs_of(study)
    table = runs[runs.seed != without].pivot(index="seed", columns="optimizer", values="test")
    return table.lion.to_numpy(), table.adamw.to_numpy()


def held_out(runs: pd.DataFrame, optimizer: str, column: str) -> np.ndarray:
    """Of each seed the run of the setting that is best on validation for the other seeds."""
    mine = runs[runs.optimizer == optimizer].fillna({key: -1.0 for key in SETTING})
    val, own = (mine.pivot(index=SETTING, columns="seed", values=key) for key in ("val", column))
    values = []
    for seed in val:
        means = val.drop(columns=seed).mean(axis=1)
        values.append(own[seed][means > means.max() - TIE].iloc[0])
    return np.array(values)


def p_of(found: tuple[float, ...], n: int) -> float:
    """Of the test whose 95 % interval `interval` gave."""
    error = (found[2] - found[1]) / 2 / float(stats.t.ppf(0.975, n - 1))
    return 2 * float(stats.t.sf(abs(found[0]) / error, n - 1))


def holm(p_values: list[float]) -> np.ndarray:
    order = np.argsort(p_values)
    scaled = np.array(p_values)[order] * (len(order) - np.arange(len(order)))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted
