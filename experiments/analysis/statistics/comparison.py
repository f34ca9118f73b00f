"""A fair comparison of optimizers: validation picks each one's setting, test reports it.

Every optimizer has the same number of settings and the same seeds. Seeds are paired: the same
seed means the same initial weights and the same order of the data for every optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
SETTING = ("lr", "weight_decay", "beta1", "beta2")
"""Columns that make a setting; betas only where a table has them."""
TIE = 3
"""Decimals (of %) to which validation means are compared: below lies the rounding of a table."""


@dataclass(frozen=True)
class Chosen:
    """The setting that validation picked for one optimizer, and its test result."""

    optimizer: str
    lr: float
    weight_decay: float
    val_mean: float  # %
    test_mean: float  # %
    test_error: float  # standard error of the mean over seeds, %
    n: int  # seeds
    seconds: float  # of training, mean per run
    on_edge: bool  # the best setting lies on the edge of its grid: then it is not tuned
    num_settings: int
    num_diverged: int
    beta1: float | None = None  # where the table has it
    beta2: float | None = None


def final_results(runs: pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """One row per run: validation and test value at its last step, and its training time.

    Args:
        runs: The table of `experiments.table.read_runs`.
        metric: To compare by; larger is better.

    Returns:
        Columns run_id, optimizer, lr, weight_decay, seed, state, val, test, seconds. A diverged
        run has no values.
    """
    keys = ["run_id", "optimizer", "lr", "weight_decay", "seed", "state"]
    ended = runs[runs.state.isin(["finished", "diverged"])]
    measured = ended[(ended.metric == metric) & (ended.weights == "raw")]
    last = measured[measured.step == measured.groupby("run_id").step.transform("max")]
    last = last[last.state == "finished"]
    values = last.pivot_table(index="run_id", columns="split", values="value")
    values = values.reindex(columns=["val", "test"])
    seconds = ended.groupby("run_id").seconds.max()
    table = ended[keys].drop_duplicates("run_id").set_index("run_id")
    return table.join(values).join(seconds).reset_index()


def choose(results: pd.DataFrame, optimizer: str) -> Chosen:
    """Picks the setting with the best mean validation value; a diverged seed rules one out.

    Means that are equal to `TIE` go to the smaller learning rate, then the smaller weight decay.

    Raises:
        ValueError: if no setting has finished with every seed, or a seed of a setting is there
            twice (another batch size): filter the table first.
    """
    mine = results[results.optimizer == optimizer]
    keys = [key for key in SETTING if key in mine]
    if mine.duplicated([*keys, "seed"]).any():
        raise ValueError(
            f"{optimizer}: several runs of one setting ({', '.join(keys)}) and seed; "
            "filter the table to one batch size and model"
        )
    grouped = mine.groupby(keys, dropna=False)
    whole = grouped.val.count() == mine.seed.nunique()
    means = grouped.val.mean()[whole].round(TIE)
    if means.empty:
        raise ValueError(f"{optimizer}: no setting has finished with every seed")
    picked = dict(zip(keys, means.idxmax(), strict=True))
    best = _with_setting(mine, picked)
    edges = [_is_on_edge(mine[key], picked[key]) for key in ("lr", "weight_decay")]
    return Chosen(
        optimizer=optimizer,
        **{key: float(value) for key, value in picked.items()},
        val_mean=float(best.val.mean()),
        test_mean=float(best.test.mean()),
        test_error=float(best.test.sem()) if len(best) > 1 else float("nan"),
        n=len(best),
        seconds=float(best.seconds.mean()),
        on_edge=any(edges),
        num_settings=grouped.ngroups,
        num_diverged=int((mine.state == "diverged").sum()),
    )


def chosen_runs(results: pd.DataFrame, chosen: Chosen) -> pd.DataFrame:
    """The runs of a chosen setting, a row per seed."""
    mine = results[results.optimizer == chosen.optimizer]
    return _with_setting(mine, {key: getattr(chosen, key) for key in SETTING if key in mine})


def _with_setting(table: pd.DataFrame, setting: Mapping[str, float]) -> pd.DataFrame:
    """Rows of a setting; an optimizer without weight decay or betas has NaN there."""
    for key, value in setting.items():
        table = table.loc[table[key].isna() if value != value else table[key] == value, :]
    return table


def _is_on_edge(tried: pd.Series, best: float) -> bool:
    """Whether the best of several values is the smallest or the largest."""
    values = sorted(tried.dropna().unique())
    return len(values) > 1 and best in (values[0], values[-1])


@dataclass(frozen=True)
class Difference:
    """Test result of one optimizer minus another's, over paired seeds."""

    mean: float  # percentage points
    low: float  # 95% interval (Student's t over the paired differences)
    high: float
    n: int

    @property
    def verdict(self) -> str:
        """better, worse, or inconclusive."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "inconclusive"


def paired_values(results: pd.DataFrame, ours: Chosen, theirs: Chosen) -> pd.DataFrame:
    """Test values of two chosen settings, a row per seed that both have; columns ours, theirs."""
    both = {"ours": ours, "theirs": theirs}
    columns = {n: chosen_runs(results, chosen).set_index("seed").test for n, chosen in both.items()}
    return pd.DataFrame(columns).dropna()


def paired_difference(results: pd.DataFrame, ours: Chosen, theirs: Chosen) -> Difference:
    """Difference of the chosen settings over the seeds that both have."""
    pairs = paired_values(results, ours, theirs)
    return difference_of(pairs.ours - pairs.theirs)


def difference_of(differences: pd.Series) -> Difference:
    """Mean of paired differences with Student's interval; unbounded for fewer than two."""
    mean, n = float(differences.mean()), len(differences)
    if n < 2:
        return Difference(mean, float("-inf"), float("inf"), n)
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * differences.sem())
    return Difference(mean, mean - reach, mean + reach, n)
