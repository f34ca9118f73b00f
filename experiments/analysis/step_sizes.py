"""How far the steps of AdamW and Lion go beside their learning rates, near their best settings.

Where gradients are noise alone AdamW's step is, in the root mean square, sqrt((1 - beta1) / (1 +
beta1)) of its learning rate (0.23 for 0.9) if beta2 averages over much longer; Lion's is all of it.
Measured where both were tuned at several lengths (`best_ratios.PARTED`, `best_ratios.STEPS`).
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# pyright: reportAssignmentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from experiments.analysis import best_ratios
from experiments.analysis.best_ratios import ADAMW, BATCH, LION
from experiments.analysis.sources import RESULTS, study
from experiments.analysis.statistics.best_settings import fitted_ratios
from experiments.analysis.statistics.comparison import choose

GROUP = "decay"
"""Of the parameters: the weights that decay, so neither biases and gains nor embeddings."""
NAME = "step_sizes"
KEYS = ["experiment", "run_id", "optimizer", "batch_size", "lr", "weight_decay", "seed"]


def wanted(results: Path = RESULTS) -> pd.DataFrame:
    """The runs to measure: of each condition and optimizer, one near the top of the fit.

    Its learning rate is the nearest of the grid to the best one, where that is told, and of its
    weight decays the one that validation picks; of its first seed.

    Returns:
        Rows of the studies' tables; `command` trains one.
    """
    picks = []
    for experiment, name in [*best_ratios.PARTED, *best_ratios.STEPS]:
        runs = study(name, results, experiment)
        if runs is None:
            continue
        for _, part in runs[runs.batch_size == BATCH].groupby("steps"):
            best = fitted_ratios(part, ADAMW, LION)["lr"]
            picks += [_near(part, ADAMW, best.over), _near(part, LION, best.under)]
    return pd.concat(picks, ignore_index=True) if picks else pd.DataFrame()


def _near(part: pd.DataFrame, optimizer: str, lr: float) -> pd.DataFrame:
    mine = part[part.optimizer == optimizer]
    if not math.isnan(lr):
        nearest = min(set(mine.lr), key=lambda value: abs(math.log(value / lr)))
        mine = mine[mine.lr == nearest]
    picked = choose(mine, optimizer)
    is_it = (mine.lr == picked.lr) & (mine.weight_decay == picked.weight_decay)
    return mine[is_it].sort_values("seed").iloc[:1]


def measured(rows: pd.DataFrame, steps: dict[str, int]) -> pd.DataFrame:
    """How far runs went at each step, of those that looked (`tracking.telemetry_every_steps`).

    Args:
        rows: The table of `experiments.table.read_runs`.
        steps: Of each run, by its id.

    Returns:
        A row per run and group of parameters: `KEYS`; steps; group; looks; step_over_lr: the root
        mean square of a step over the weights (decay included), summed over the looks, over the
        sum of the learning rates.
    """
    rows = rows[(rows.split == "telemetry") & (rows.state == "finished")]
    parts = rows.metric.str.partition("/")
    rows = rows.assign(what=parts[0], group=parts[2])
    rates = rows[rows.what == "lr"].groupby(["run_id", "step"]).value.mean().groupby("run_id").sum()
    found = (
        rows[rows.what == "update_rms"]
        .groupby([*KEYS, "group"])
        .agg(total=("value", "sum"), looks=("step", "nunique"))
        .reset_index()
    )
    found["steps"] = found.run_id.map(steps)
    found["step_over_lr"] = found.total / found.run_id.map(rates)
    return found[[*KEYS, "steps", "group", "looks", "step_over_lr"]]


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Beside each ratio of learning rates, that of the steps themselves.

    Returns:
        experiment, name, steps; adamw and lion: step over learning rate, of `GROUP`; lr_ratio:
        AdamW's best learning rate over Lion's (NaN where it is not told); step_ratio: Lion's step
        over AdamW's, each at its best learning rate.
    """
    files = sorted(results.glob(f"studies/*/{NAME}/sizes.csv"))
    if not files:
        return pd.DataFrame()
    sizes = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    sizes = sizes[(sizes.group == GROUP) & (sizes.batch_size == BATCH)]
    on = ["experiment", "steps"]
    both = sizes.pivot_table(index=on, columns="optimizer", values="step_over_lr").reset_index()
    ratios = best_ratios.all_lengths(best_ratios.table(results))
    ratios = ratios.rename(columns={"lr_estimate": "lr_ratio"})
    found = ratios[["name", *on, "lr_ratio"]].merge(both, on=on)
    found["step_ratio"] = found[LION] / found[ADAMW] / found.lr_ratio
    return found
