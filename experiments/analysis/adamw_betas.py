"""Does AdamW's best learning rate move with its betas, as Lion's does with Lion's?

AdamW's step is an average of gradients, over what hardly moves: whatever its betas, many steps walk
as far. Lion takes the sign of an average (`noise_gains`). Put to a test by `sweep=betas_of_adamw`.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis import best_ratios, noise_gains
from experiments.analysis.best_ratios import ADAMW
from experiments.analysis.sources import RESULTS
from experiments.analysis.statistics.best_settings import BestRatio, fitted_ratios
from experiments.analysis.statistics.comparison import choose

STUDY = "betas_of_adamw"
FROM, TO = (0.0, 0.999), (0.99, 0.999)
"""The pairs between which the page says how far AdamW's best learning rate moves."""
LION_FROM, LION_TO = (0.0, 0.99), (0.99, 0.99)
"""Those of Lion's between which its best one moves, put beside."""
MOVED = ["name", "adamw", "adamw_low", "adamw_high", "lion"]


def table(results: Path = RESULTS) -> pd.DataFrame:
    """AdamW's best learning rate with other betas over that with its own.

    Returns:
        experiment, name, data, beta1, beta2; estimate, low, high, reason: of the ratio, as
        `fitted_ratios` has them; own, other: the two best learning rates; decay_end: smallest or
        largest, where the weight decay of the best cell with these betas is.
    """
    rows = []
    for family, runs, old in noise_gains.with_earlier(STUDY, results):
        own = old[old.optimizer == ADAMW]
        for _, mine in runs.groupby(["beta1", "beta2"]):
            pair = {name: float(mine[name].iloc[0]) for name in ("beta1", "beta2")}
            rows.append({**family, **pair, **_ratio(mine, own)})
    return pd.DataFrame(rows)


def _ratio(mine: pd.DataFrame, own: pd.DataFrame) -> dict[str, Any]:
    found = _between(mine, own)
    numbers = {name: getattr(found, name) for name in best_ratios.NUMBERS}
    end = noise_gains.decay_end(choose(mine, ADAMW).weight_decay, mine)
    return {**numbers, "other": found.over, "own": found.under, "decay_end": end}


def _between(over: pd.DataFrame, under: pd.DataFrame) -> BestRatio:
    """Of two grids of one optimizer: told apart by a name."""
    both = [over.assign(optimizer="over"), under.assign(optimizer="under")]
    return fitted_ratios(pd.concat(both, ignore_index=True), "over", "under")["lr"]


def moved(results: Path = RESULTS) -> pd.DataFrame:
    """By what factor the best learning rate moves from beta1 0 to 0.99, AdamW's and Lion's.

    Returns:
        A row for each family that tells both, with the columns `MOVED`.
    """
    lions = noise_gains.table(results)
    rows = []
    for family, runs, _ in noise_gains.with_earlier(STUDY, results):
        if lions.empty:
            continue
        of_adamw = _between(_with(runs, TO), _with(runs, FROM))
        mine = lions[(lions.experiment == family["experiment"]) & (lions.steps == runs.steps.max())]
        to, start = (_with(mine, pair).lr_lion.mean() for pair in (LION_TO, LION_FROM))
        rows.append((family["name"], of_adamw.estimate, of_adamw.low, of_adamw.high, to / start))
    return pd.DataFrame(rows, columns=MOVED).dropna()


def _with(rows: pd.DataFrame, pair: tuple[float, float]) -> pd.DataFrame:
    return rows[(rows.beta1 == pair[0]) & (rows.beta2 == pair[1])]


def in_logs(rows: pd.DataFrame) -> pd.Series:
    """How far AdamW's best learning rate moved beside Lion's, in logs: 1 is as far, 0 is still."""
    return np.log(rows.adamw) / np.log(rows.lion)
