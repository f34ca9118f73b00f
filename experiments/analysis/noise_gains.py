"""How far Lion goes beside AdamW at one learning rate, where gradients are mostly noise.

Take a gradient of mean mu and deviation sigma, normal, independent from step to step, mu small
beside the noise that is left in what Lion takes the sign of (sigma / 8.4 for (0.9, 0.99)). A step
of AdamW goes lr mu / sigma on average, one of Lion lr G mu / sigma; the random walk of many steps
is larger by about G, too (of signs of single gradients by 1, not 0.80). So AdamW's best learning
rate over Lion's should be about G. Where the mean rules, both go lr a step; what the best learning
rates are then, this does not say. Put to a test by `sweep=betas_and_steps`.

G is not new: Lion's rotation in equilibrium is sqrt(2 lr weight_decay) / G in Kosson, Messmer and
Jaggi, arXiv:2305.17212, of gradients that are normal noise alone, too.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# pyright: reportIndexIssue=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis import best_ratios
from experiments.analysis.best_ratios import ADAMW, LION
from experiments.analysis.sources import RESULTS, study
from experiments.analysis.statistics.best_settings import fitted_ratios
from experiments.analysis.statistics.comparison import choose
from experiments.analysis.statistics.uncertainty import Interval, mean_interval
from experiments.rounded import ends, rounded

NAME = "noise_gains"
STUDY = "betas_and_steps"
OWN = 0.9, 0.99
"""Lion's betas; AdamW's ratio to them was known before the study was made."""
WINDOW, NARROW = 1000, 100
"""Steps over which walks are compared: ten times the longest memory, 1 / (1 - 0.99), and as long
as that, for runs that are too short."""
PAIRED = ["experiment", "steps", "beta1", "beta2"]


def gain(beta1: float, beta2: float) -> float:
    """G: the slope of the normal distribution at 0 over the deviation that the sign is taken of.

    That is of c = beta1 m + (1 - beta1) g, where m averages earlier gradients with beta2.

    >>> round(gain(0.9, 0.99), 1)
    6.7
    """
    variance = (1 - beta1) ** 2 + beta1**2 * (1 - beta2) / (1 + beta2)
    return math.sqrt(2 / math.pi / variance)


def walked_by_noise(beta1: float, beta2: float, window: int) -> float:
    """How far Lion comes beside AdamW (beta1 0.9) in a window of steps, of normal noise alone.

    Root mean squares; signs of normal numbers of correlation r have one of 2 / pi arcsin(r).
    """
    lags = np.arange(1, window)
    averaged = beta1 * (1 - beta2)
    shared = averaged * (1 - beta1) * beta2 ** (lags - 1.0)
    shared += averaged**2 * beta2**lags / (1 - beta2**2)
    signs = 2 / math.pi * np.arcsin(shared / ((1 - beta1) ** 2 + averaged**2 / (1 - beta2**2)))
    return math.sqrt(window + 2 * (window - lags) @ signs) / adamw_by_noise(window)


def adamw_by_noise(window: int, beta1: float = 0.9) -> float:
    """How far AdamW comes in a window of steps, of noise alone, the learning rate being 1."""
    lags = np.arange(1, window)
    walked = window + 2 * (window - lags) @ beta1**lags
    return math.sqrt(walked * (1 - beta1) / (1 + beta1))


def is_own(rows: pd.DataFrame) -> pd.Series:
    """Of which rows the betas are Lion's own."""
    return (rows.beta1 == OWN[0]) & (rows.beta2 == OWN[1])


def pair_name(beta1: float, beta2: float) -> str:
    """(0.9, 0.99); of the sign of one gradient beta2 is of no account."""
    return f"({beta1:g}, {f'{beta2:g}' if beta1 else 'any'})"


def table(results: Path = RESULTS) -> pd.DataFrame:
    """AdamW's best learning rate over Lion's, for each pair of Lion's betas.

    Returns:
        experiment, name, data, steps, beta1, beta2; gain: of the formula; lr_estimate, lr_low,
        lr_high, lr_reason, lr_lion: as in `best_ratios.table`; lr_picked: of the best cells
        themselves, where neither learning rate is an end of its grid; decay_end: smallest or
        largest, where the weight decay of Lion's best cell is.
    """
    rows = []
    for family, runs, old in with_earlier(STUDY, results):
        both = pd.concat([old, runs], ignore_index=True)
        rows += [{**family, **row} for row in _rows(both)]
    return pd.DataFrame(rows)


def with_earlier(
    name: str, results: Path
) -> Iterator[tuple[dict[str, str], pd.DataFrame, pd.DataFrame]]:
    """A study of other betas, family by family.

    Yields:
        Its experiment, name and data; its runs; those of the same batch size and lengths of the
        study before, with the optimizers' own betas.
    """
    for (experiment, before), said in {**best_ratios.PARTED, **best_ratios.STEPS}.items():
        runs, old = study(name, results, experiment), study(before, results, experiment)
        if runs is not None and old is not None:
            data = runs.data.iloc[0].split(",")[0]
            alike = (old.batch_size == best_ratios.BATCH) & old.steps.isin(set(runs.steps))
            yield {"experiment": experiment, "name": said, "data": data}, runs, old[alike]


def _rows(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for steps, part in runs.groupby("steps"):
        adamw, lions = part[part.optimizer == ADAMW], part[part.optimizer == LION]
        for _, mine in lions.groupby(["beta1", "beta2"]):
            beta1, beta2 = float(mine.beta1.iloc[0]), float(mine.beta2.iloc[0])
            found = fitted_ratios(pd.concat([adamw, mine], ignore_index=True), ADAMW, LION)["lr"]
            numbers = {f"lr_{name}": getattr(found, name) for name in best_ratios.NUMBERS}
            pair = {"steps": steps, "beta1": beta1, "beta2": beta2, "gain": gain(beta1, beta2)}
            yield {**pair, **numbers, "lr_lion": found.under, **_best_cells(adamw, mine)}


def _best_cells(adamw: pd.DataFrame, mine: pd.DataFrame) -> dict[str, Any]:
    theirs, ours = choose(adamw, ADAMW), choose(mine, LION)
    grids = (theirs.lr, adamw.lr), (ours.lr, mine.lr)
    at_end = any(lr in (rates.min(), rates.max()) for lr, rates in grids)
    picked = math.nan if at_end else theirs.lr / ours.lr
    return {"lr_picked": picked, "decay_end": decay_end(ours.weight_decay, mine)}


def decay_end(weight_decay: float, runs: pd.DataFrame) -> str:
    """Which end of the weight decays of its grid a best cell has; "": none."""
    ends_of = {runs.weight_decay.min(): "smallest", runs.weight_decay.max(): "largest"}
    return ends_of.get(weight_decay, "")


def slopes(
    ratios: pd.DataFrame, steps: int, along: str = "gain", of: str = "lr_estimate"
) -> tuple[Interval, list[float]]:
    """How the log of the ratio goes with the log of the gain, mean over the families; and of each.

    AdamW's best learning rate, one for all pairs of betas, moves no slope on the gain.

    Args:
        ratios: `table` or `both`.
        steps: Of the runs.
        along: Its column: gain, or walked.
        of: Column of the ratio: lr_estimate, or lr_picked.
    """
    of_each = list(_slopes(ratios[ratios.steps == steps], along, of).values())
    return mean_interval(of_each), of_each


def _slopes(rows: pd.DataFrame, along: str = "gain", of: str = "lr_estimate") -> dict[str, float]:
    found = {}
    for name, mine in rows.dropna(subset=[along, of]).groupby("name"):
        if mine[along].nunique() > 2:
            x, y = np.log(mine[along]), np.log(mine[of])
            found[str(name)] = float(np.polyfit(x, y, 1)[0])
    return found


def growth(ratios: pd.DataFrame, short: int, long: int) -> Interval:
    """By how much the slope is larger in long runs, on the pairs of betas known at both lengths."""
    known = ratios[ratios.steps.isin([short, long])].dropna(subset="lr_estimate")
    known = known[known.groupby(["name", "gain"]).steps.transform("nunique") == 2]
    before, after = (_slopes(known[known.steps == steps]) for steps in (short, long))
    return mean_interval([after[name] - before[name] for name in after])


def by_data(ratios: pd.DataFrame, steps: int) -> Interval:
    """The mean slope over data sets in place of families, some of which share one."""
    rows = ratios[ratios.steps == steps]
    data = rows.drop_duplicates("name").set_index("name").data
    return mean_interval(list(pd.Series(_slopes(rows)).groupby(data).mean()))


def walks(results: Path = RESULTS) -> pd.DataFrame:
    """How far Lion came beside AdamW on the same gradients, as scripts/noise_gains.py measured.

    Over whole runs, root mean squares; then the geometric mean over the runs whose gradients they
    were (one of AdamW, one of Lion).

    Returns:
        experiment, steps, beta1, beta2, window (steps), walked (Lion's over AdamW's), first and
        last (the same in the first and the last third of the runs).
    """
    rows = _measured(results, "windows.csv")
    if rows.empty:
        return rows
    on = [*PAIRED, "window"]
    parts = {"walked": rows, "first": rows[rows.third == 1], "last": rows[rows.third == 3]}
    found = [_walked(part, on).rename(name) for name, part in parts.items()]
    return pd.concat(found, axis=1).reset_index()


def adamw_over_noise(results: Path = RESULTS, window: int = NARROW) -> pd.Series:
    """How far AdamW came beside noise alone, by number of steps, run and third of it."""
    rows = _measured(results, "windows.csv")
    rows = rows[rows.window == window]
    return rows.groupby(["steps", "run_id", "third"]).adamw_walked.first() / adamw_by_noise(window)


def parts(results: Path = RESULTS) -> pd.DataFrame:
    """What takes the places of the formula's two factors in the same runs, likewise their mean.

    Returns:
        experiment, steps, beta1, beta2, third (1 to 3), density (of what the sign is taken of, at
        0, times its root mean square, both sides; normal: 0.80), smaller (the gradient's over it).
    """
    rows = _measured(results, "parts.csv")
    if rows.empty:
        return rows
    columns = ["density", "smaller"]
    return rows.groupby([*PAIRED, "third"])[columns].agg(geometric).reset_index()


def _measured(results: Path, name: str) -> pd.DataFrame:
    files = sorted(results.glob(f"studies/*/{NAME}/{name}"))
    rows = pd.concat([pd.read_csv(x) for x in files]) if files else pd.DataFrame()
    return rows.rename(columns={"lion_beta1": "beta1", "lion_beta2": "beta2"})


def _walked(rows: pd.DataFrame, on: list[str]) -> pd.Series:
    squares = {name: rows.windows * rows[f"{name}_walked"] ** 2 for name in (ADAMW, LION)}
    sums = rows.assign(**squares).groupby([*on, "run_id"])[[ADAMW, LION]].sum()
    return sums[LION].div(sums[ADAMW]).pow(0.5).groupby(on).agg(geometric)


def geometric(values: pd.Series) -> float:
    """Geometric mean."""
    return float(np.exp(np.log(values).mean()))


def both(results: Path = RESULTS) -> pd.DataFrame:
    """`table` with what was walked over `WINDOW`, where runs are long enough for it."""
    ratios, walked = table(results), walks(results)
    if ratios.empty or walked.empty:
        return ratios.assign(walked=math.nan)
    wide = walked[walked.window == WINDOW].drop(columns=["window", "first", "last"])
    return ratios.merge(wide, how="left", on=PAIRED)


def of_slope(mean: Interval) -> str:
    """0.98 [0.91, 1.05]."""
    return f"{rounded(mean.estimate, 2)} {ends(mean.low, mean.high, 2)}"
