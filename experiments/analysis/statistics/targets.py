"""Steps and time to a target, from runs with the same number of steps and the same schedule only.

A run with a longer cosine schedule reaches a value later just because its learning rate falls
later; so curves of unlike schedules are refused.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.analysis.statistics.uncertainty import Interval, mean_interval
from experiments.store import Folder, UserError, read_config, read_json

MATCHED = ("experiment", "batch_size", "steps", "schedule")
"""Columns in which runs must agree before their steps are compared."""


def with_schedules(runs: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Adds `steps` (planned, in all) and `schedule` (as text) from the run folders below root.

    Raises:
        UserError: where a run's folder is not there.
    """
    steps, schedules = {}, {}
    for run_id in runs.run_id.unique():
        folder = Folder(root / run_id)
        schedules[run_id] = json.dumps(read_config(folder.path).get("schedule"), sort_keys=True)
        steps[run_id] = read_json(folder.status).get("total_steps")
    return runs.assign(steps=runs.run_id.map(steps), schedule=runs.run_id.map(schedules))


def check_matched(runs: pd.DataFrame) -> None:
    """Refuses runs that are not schedule-matched.

    Raises:
        UserError: names the column that differs, or that is missing.
    """
    for column in MATCHED:
        if column not in runs:
            raise UserError(
                f"steps to a target need the column {column}, to see that the runs are "
                "schedule-matched; targets.with_schedules adds steps and schedule from run folders"
            )
        values = runs[column].drop_duplicates().tolist()
        if len(values) != 1 or values[0] != values[0] or values[0] is None:
            raise UserError(
                f"the runs differ in {column} ({', '.join(map(str, values[:4]))}): steps to a "
                "target compare only runs with the same steps and schedule; filter them"
            )


def reach(
    curves: pd.DataFrame,
    runs: pd.DataFrame,
    target: float,
    *,
    split: str = "val",
    metric: str = "top1",
    measure: str = "step",
) -> pd.DataFrame:
    """When each run first measures the target or better; as fine as its evaluations are apart.

    Args:
        curves: run_id, step, split, metric, value; for time also seconds. `read_runs` is one.
        runs: run_id, optimizer, seed and the columns of `MATCHED`.
        target: In the metric's unit; a loss or perplexity must fall to it, others rise.
        split: Of the curves.
        metric: Of the curves.
        measure: step, or seconds of training.

    Returns:
        One row per run: run_id, optimizer, seed, steps, reached (infinite: never).

    Raises:
        UserError: where the runs are not schedule-matched, or have no such curve.
    """
    runs = runs.drop_duplicates("run_id")
    check_matched(runs)
    wanted = _curve(curves, runs, split, metric)
    good = wanted.value <= target if _falls(metric) else wanted.value >= target
    first = wanted[good].groupby("run_id")[measure].min()
    table = runs[["run_id", "optimizer", "seed", "steps"]].reset_index(drop=True)
    return table.assign(reached=table.run_id.map(first).fillna(np.inf))


def speed_up(
    curves: pd.DataFrame,
    runs: pd.DataFrame,
    ours: str,
    theirs: str,
    *,
    split: str = "val",
    metric: str = "top1",
) -> Interval:
    """How many times fewer steps ours takes to the mean final value of theirs.

    Per seed the share of all steps that ours needs; the speed-up is 1 / mean share. A run that
    never gets there counts as needing all its steps, so 1 means "no faster" or slower.

    Args:
        curves: As for `reach`.
        runs: One setting per optimizer (the chosen one), so one run per optimizer and seed.
        ours: Optimizer.
        theirs: Optimizer whose final value is the target.
        split: Of the curves.
        metric: Of the curves.

    Raises:
        UserError: as `reach`, or where an optimizer has several runs of one seed.
    """
    runs = runs[runs.optimizer.isin([ours, theirs])].drop_duplicates("run_id")
    if runs.duplicated(["optimizer", "seed"]).any():
        raise UserError("several runs of one optimizer and seed: filter to the chosen settings")
    check_matched(runs)
    wanted = _curve(curves, runs[runs.optimizer == theirs], split, metric)
    target = float(wanted.sort_values("step").groupby("run_id").value.last().mean())
    reached = reach(curves, runs[runs.optimizer == ours], target, split=split, metric=metric)
    shares = np.minimum(reached.reached / reached.steps, 1.0)
    share = mean_interval(shares)
    low = 1 / share.high
    high = 1 / share.low if share.low > 0 else float("inf")
    return Interval(1 / share.estimate, low, high, share.n, f"1 / ({share.method} of the shares)")


def _curve(curves: pd.DataFrame, runs: pd.DataFrame, split: str, metric: str) -> pd.DataFrame:
    wanted = curves[(curves.split == split) & (curves.metric == metric)]
    if "weights" in wanted:
        wanted = wanted[wanted.weights == "raw"]
    wanted = wanted[wanted.run_id.isin(runs.run_id)]
    if lacking := sorted(set(runs.run_id) - set(wanted.run_id)):
        raise UserError(f"no {metric} on {split} of {lacking[0]} and {len(lacking) - 1} more runs")
    return wanted


def _falls(metric: str) -> bool:
    return "loss" in metric or "perplexity" in metric or metric == "fid"
