"""Steps and time to a target, from runs with the same number of steps and the same schedule only.

A run with a longer cosine schedule reaches a value later just because its learning rate falls
later; so curves of unlike schedules are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.analysis.statistics.uncertainty import Interval, mean_interval
from experiments.headline import Headline, of_rows, of_table, with_metric
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
    target: float | Mapping[str, float],
    *,
    split: str | None = None,
    metric: str | None = None,
    measure: str = "step",
) -> pd.DataFrame:
    """When each run first measures the target or better; as fine as its evaluations are apart.

    Args:
        curves: run_id, step, split, metric, value; for time also seconds. `read_runs` is one.
        runs: run_id, optimizer, seed and the columns of `MATCHED`.
        target: In the metric's unit; or one for each run id.
        split: Of the curves; that on which the runs are tuned, unless said.
        metric: Of the curves; the runs' headline, unless said. Only of that, and of top1 and loss,
            is it known which way is better; of others a column `better` of the curves tells.
        measure: step, or seconds of training.

    Returns:
        One row per run: run_id, optimizer, seed, steps, reached (infinite: never).

    Raises:
        UserError: where the runs are not schedule-matched, or have no such curve.
    """
    runs = runs.drop_duplicates("run_id")
    check_matched(runs)
    headline = _headline(curves, runs, split, metric)
    wanted = _curve(curves, runs, headline)
    aim = wanted.run_id.map(target) if isinstance(target, Mapping) else target
    good = headline.sign * wanted.value >= headline.sign * aim
    first = wanted[good].groupby("run_id")[measure].min()
    table = runs[["run_id", "optimizer", "seed", "steps"]].reset_index(drop=True)
    return table.assign(reached=table.run_id.map(first).fillna(np.inf))


def speed_up(
    curves: pd.DataFrame,
    runs: pd.DataFrame,
    ours: str,
    theirs: str,
    *,
    split: str | None = None,
    metric: str | None = None,
) -> Interval:
    """How many times sooner ours gets to where theirs ends, beside theirs itself.

    A run mostly passes its optimizer's mean final value before its own end, since curves flatten
    and wobble: an optimizer beats *itself* in steps to its own final value. So both are held
    against the same target: for each seed the mean final value of theirs over the other seeds.
    The speed-up is the geometric mean over seeds of (share of all steps that theirs needs) /
    (share that ours needs). Of two equal optimizers it is 1. A run that never gets there counts as
    needing all its steps; where a run of theirs diverged, or ended with what is no number, that is
    no target.

    Args:
        curves: As for `reach`.
        runs: One setting per optimizer (the chosen one), so one run per optimizer and seed.
        ours: Optimizer.
        theirs: Optimizer whose final values are the target.
        split: As for `reach`.
        metric: As for `reach`.

    Raises:
        UserError: as `reach`, or where an optimizer has several runs of one seed, or fewer than 2
            seeds are shared.
    """
    runs = runs[runs.optimizer.isin([ours, theirs])].drop_duplicates("run_id")
    if runs.duplicated(["optimizer", "seed"]).any():
        raise UserError("several runs of one optimizer and seed: filter to the chosen settings")
    check_matched(runs)
    seeds = set.intersection(*(set(runs.seed[runs.optimizer == o]) for o in (ours, theirs)))
    if len(seeds) < 2:
        raise UserError(f"{ours} and {theirs} share {len(seeds)} seeds: it takes 2 or more")
    runs = runs.loc[runs.seed.isin(seeds), :]
    headline = _headline(curves, runs, split, metric)
    finals = _finals(curves, runs[runs.optimizer == theirs], headline)
    if finals.count() < 2:
        raise UserError(
            f"{finals.count()} runs of {theirs} have come to an end: it takes 2 or more"
        )
    aims = {seed: float(finals.drop(seed).mean()) for seed in finals.index}
    by_run = dict(zip(runs.run_id, runs.seed.map(aims), strict=True))
    reached = reach(curves, runs, by_run, split=headline.tune, metric=headline.metric)
    shares = np.minimum(reached.reached / reached.steps, 1.0)
    wide = reached.assign(share=shares).pivot(index="seed", columns="optimizer", values="share")
    logs = mean_interval(np.log(wide[theirs] / wide[ours]))
    bounds = (float(np.exp(value)) for value in (logs.estimate, logs.low, logs.high))
    method = f"{logs.method} of the log ratios of shares, by seed"
    never = reached[~np.isfinite(reached.reached)].groupby("optimizer").size()
    if len(never):
        said = ", ".join(f"{number} of {name}" for name, number in never.items())
        method += f"; never there, and counted as all their steps: {said} (n = {logs.n} each)"
    return Interval(*bounds, logs.n, method)


def _finals(curves: pd.DataFrame, runs: pd.DataFrame, headline: Headline) -> pd.Series:
    """By seed the last value; NaN of a run that diverged, or ended with what is no number."""
    wanted = _curve(curves, runs, headline).sort_values("step", kind="stable")
    ends = wanted.drop_duplicates("run_id", keep="last").set_index("run_id").value
    of_seeds = runs.set_index("seed")
    finals = of_seeds.run_id.map(ends)
    is_end = np.isfinite(finals)
    if "state" in of_seeds:
        is_end &= (of_seeds.state == "finished").astype(bool)
    return finals.where(is_end)


def _headline(
    curves: pd.DataFrame, runs: pd.DataFrame, split: str | None, metric: str | None
) -> Headline:
    """What is looked at: the runs' own headline, on the split that they are tuned on."""
    own = of_rows(runs.headline) if "headline" in runs else of_table(runs)
    own = own if split is None else replace(own, tune=split)
    if metric is None:
        return own
    said = curves[curves.metric == metric] if "better" in curves else curves[:0]
    facts = {metric: {"better": said.better.iloc[0] if len(said) else None}}
    return with_metric(own, metric, facts)


def _curve(curves: pd.DataFrame, runs: pd.DataFrame, headline: Headline) -> pd.DataFrame:
    split, metric = headline.tune, headline.metric
    wanted = curves[(curves.split == split) & (curves.metric == metric)]
    if "weights" in wanted:
        wanted = wanted[wanted.weights == headline.weights]
    wanted = wanted[wanted.run_id.isin(runs.run_id)]
    if lacking := sorted(set(runs.run_id) - set(wanted.run_id)):
        raise UserError(f"no {metric} on {split} of {lacking[0]} and {len(lacking) - 1} more runs")
    return wanted
