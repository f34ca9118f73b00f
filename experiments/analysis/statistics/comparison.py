"""A fair comparison of optimizers: validation picks each one's setting, test reports it.

Every optimizer has the same number of settings and the same seeds. Seeds are paired: the same
seed means the same initial weights and the same order of the data for every optimizer.

What the table calls val and test, and which way is better, is the runs' own headline. A setting is
compared with another optimizer's by leaving one seed out: the other seeds pick, this one reports.
So no run reports the setting that it has helped to pick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice, product
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis.statistics.difference import CONFIDENCE as CONFIDENCE
from experiments.analysis.statistics.difference import Difference, of_pairs
from experiments.headline import Headline, of_table
from experiments.outcomes import outcomes
from experiments.selection import Pick, pick, with_setting

SETTING = ("lr", "weight_decay", "beta1", "beta2")
"""Columns that make a setting; betas only where a table has them."""
AXES = ("lr", "weight_decay")
"""Columns whose edge is flagged."""
_TO_PICK = (*SETTING, "seed", "state", "val")
"""Columns that `_pick` asks for."""
MAX_CHOICES = 512
"""Among equals, that `compare_equals` goes through."""
_MIN_VALUES = 10
"""Fewest different values of a table that tell how far apart an accuracy's steps are."""


@dataclass(frozen=True)
class Chosen:
    """The setting that validation picked for one optimizer, and its test result."""

    optimizer: str
    lr: float
    weight_decay: float
    val_mean: float  # in the headline's unit
    test_mean: float
    test_error: float  # standard error of the mean over seeds
    n: int  # seeds on which the settings were compared
    seconds: float  # of training, mean per run
    on_edge: bool  # the best setting lies on the edge of its grid: then it is not tuned
    num_settings: int
    num_diverged: int
    beta1: float | None = None  # where the table has it
    beta2: float | None = None
    test_loss: float = math.nan  # mean, where it was measured
    remarks: tuple[str, ...] = ()  # ties, incomplete settings: to be said beside it


final_results = outcomes
"""One row per run that is over; see `experiments.outcomes`."""


def choose(results: pd.DataFrame, optimizer: str) -> Chosen:
    """Picks the setting with the best mean validation value (`experiments.selection`).

    Raises:
        ValueError: if no setting has finished with every shared seed, or a seed of a setting is
            there twice (another batch size): filter the table first.
    """
    found = _pick(results, optimizer)
    values = {key: float(value) for key, value in found.setting.items()}
    return as_chosen(optimizer, found, values)


def as_chosen(optimizer: str, found: Pick, values: dict[str, float]) -> Chosen:
    """What was picked, with its means; `values` are those of the keys of `SETTING`."""
    runs = found.runs
    return Chosen(
        optimizer=optimizer,
        **values,
        val_mean=found.mean,
        test_mean=float(runs.test.mean()),
        test_error=float(runs.test.sem()) if len(runs) > 1 else math.nan,
        n=len(runs),
        seconds=float(runs.seconds.mean()),
        on_edge=bool(found.edges),
        num_settings=found.num_settings,
        num_diverged=found.num_diverged,
        test_loss=float(runs.test_loss.mean()) if "test_loss" in runs else math.nan,
        remarks=found.remarks,
    )


def _pick(results: pd.DataFrame, optimizer: str, headline: Headline | None = None) -> Pick:
    mine = results[results.optimizer == optimizer] if headline is None else results
    try:
        return pick(mine, [k for k in SETTING if k in mine], headline or of_table(mine), AXES)
    except ValueError as error:
        hint = "; filter the table to one batch size and model" if "several" in str(error) else ""
        raise ValueError(f"{optimizer}: {error}{hint}") from None


def chosen_runs(results: pd.DataFrame, chosen: Chosen) -> pd.DataFrame:
    """The runs of a chosen setting, a row per seed."""
    mine = results[results.optimizer == chosen.optimizer]
    return with_setting(mine, {key: getattr(chosen, key) for key in SETTING if key in mine})


def paired_values(results: pd.DataFrame, ours: Chosen, theirs: Chosen) -> pd.DataFrame:
    """Test values of two chosen settings, a row per seed that both have; columns ours, theirs."""
    both = {"ours": ours, "theirs": theirs}
    columns = {n: chosen_runs(results, chosen).set_index("seed").test for n, chosen in both.items()}
    return pd.DataFrame(columns).dropna()


def paired_difference(results: pd.DataFrame, ours: Chosen, theirs: Chosen) -> Difference:
    """Difference of two given settings over the seeds that both have.

    Where validation of the same runs picked them, `compare` is the fair one.
    """
    edges = tuple(c.optimizer for c in (ours, theirs) if c.on_edge)
    headline = of_table(results)
    pairs = paired_values(results, ours, theirs)
    step = resolution_of(results, headline)
    return of_pairs(pairs, resolution=step, better=headline.better, untuned=edges)


def leave_one_out(results: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    """For each seed the run of the setting that the other seeds picked.

    Returns:
        A row per seed, indexed by it. With one setting, or fewer than 3 seeds, simply its runs.

    Raises:
        ValueError: as `choose`.
    """
    return _left_out(results, optimizer)[0].copy()


_Ties = dict[int, list[pd.DataFrame]]
_NUM_LEFT_OUT = 256
_LEFT_OUT: dict[tuple[str, str], tuple[pd.DataFrame, _Ties]] = {}
"""What `_left_out` found, by optimizer and the content of its rows."""


def _content(rows: pd.DataFrame) -> str:
    """In plain Python: twice as quick as pandas' own hashes where there are ten rows."""
    columns = [(name, rows[name].dtype, rows[name].tolist()) for name in rows]
    return sha256(repr([rows.index.tolist(), *columns]).encode()).hexdigest()


def left_out_equals(results: pd.DataFrame, optimizer: str) -> list[list[pd.DataFrame]]:
    """For each seed the runs that it may report: of each setting that is best for the other seeds.

    Of equals the first in order is taken (`leave_one_out`); the others tell what hangs on that.

    Returns:
        A table of one row for each equal, the one that is taken first. With one setting, or fewer
        than 3 seeds, simply the runs.
    """
    taken, ties = _left_out(results, optimizer)
    return [
        [taken.loc[[seed]].reset_index(), *ties.get(int(seed), [])]  # type: ignore[arg-type]
        for seed in taken.index
    ]


def _left_out(results: pd.DataFrame, optimizer: str) -> tuple[pd.DataFrame, _Ties]:
    """The runs that are taken, a row a seed and indexed by it, and by seed those of equals."""
    mine = results[results.optimizer == optimizer]
    key = optimizer, _content(mine)
    if key not in _LEFT_OUT:  # a ranking asks for the same arm once for each of its rivals
        if len(_LEFT_OUT) >= _NUM_LEFT_OUT:
            _LEFT_OUT.clear()
        _LEFT_OUT[key] = _leave_out(mine, optimizer)
    return _LEFT_OUT[key]


def _leave_out(mine: pd.DataFrame, optimizer: str) -> tuple[pd.DataFrame, _Ties]:
    headline = of_table(mine)
    found = _pick(mine, optimizer, headline)
    if found.num_settings == 1 or len(found.seeds) < 3:
        return found.runs.set_index("seed"), {}
    whole = mine.reset_index(drop=True)
    mine = whole.loc[whole.seed.isin(found.seeds), [k for k in _TO_PICK if k in mine]]
    # Else it would win for the very seed on which it diverged, and that seed would fall out unsaid.
    keys = [key for key in SETTING if key in mine]
    diverged = mine[(mine.state == "diverged") | mine.val.isna()][keys].drop_duplicates()
    for setting in diverged.to_dict("records"):
        mine = mine.drop(with_setting(mine, setting).index)
    rows, ties = [], {}
    for seed in found.seeds:
        picked = _pick(mine[mine.seed != seed], optimizer, headline)
        own = mine[mine.seed == seed]
        rows += with_setting(own, picked.setting).index.tolist()
        ties[seed] = [whole.loc[with_setting(own, tie).index] for tie in picked.ties]
    return whole.loc[rows].set_index("seed"), ties


def held_out_pairs(
    results: pd.DataFrame, ours: str, theirs: str, column: str = "test"
) -> pd.DataFrame:
    """Values of two optimizers, one seed left out of each pick; columns ours and theirs."""
    both = {"ours": ours, "theirs": theirs}
    found = {name: leave_one_out(results, optimizer)[column] for name, optimizer in both.items()}
    return pd.DataFrame(found).dropna()


def compare(results: pd.DataFrame, ours: str, theirs: str, column: str = "test") -> Difference:
    """Ours minus theirs, each tuned, over paired seeds that did not pick what they report.

    Args:
        results: A study, or `final_results`.
        ours: Optimizer.
        theirs: Optimizer.
        column: test, or test_loss for the loss on the same split (`lower` is better).

    Raises:
        ValueError: as `choose`.
    """
    pairs = held_out_pairs(results, ours, theirs, column)
    return of_pairs(pairs, **_facts(results, ours, theirs, column))


def compare_equals(
    results: pd.DataFrame, ours: str, theirs: str, column: str = "test"
) -> list[Difference]:
    """`compare` once for each choice among settings that are equally good on validation.

    Returns:
        The difference of `compare` first; nothing behind it where no pick is tied. Of very many
        choices the first `MAX_CHOICES`.
    """
    arms = [left_out_equals(results, name) for name in (ours, theirs)]
    seeds = sorted(set.intersection(*({int(runs[0].seed.iloc[0]) for runs in arm} for arm in arms)))
    values = [
        [[float(run[column].iloc[0]) for run in runs] for runs in _in_order(arm, seeds)]
        for arm in arms
    ]
    facts = _facts(results, ours, theirs, column)
    choices = islice(product(*values[0], *values[1]), MAX_CHOICES)
    n = len(seeds)
    pairs = (pd.DataFrame({"ours": one[:n], "theirs": one[n:]}) for one in choices)
    return [of_pairs(pair, **facts) for pair in pairs]


def _in_order(arm: list[list[pd.DataFrame]], seeds: list[int]) -> list[list[pd.DataFrame]]:
    by_seed = {int(runs[0].seed.iloc[0]): runs for runs in arm}
    return [by_seed[seed] for seed in seeds]


def _facts(results: pd.DataFrame, ours: str, theirs: str, column: str) -> dict[str, Any]:
    """What `of_pairs` needs to know of a column beside its values."""
    headline = of_table(results)
    if column.endswith("_loss"):
        headline = replace(headline, metric="loss", better="lower", unit="")
    edges = tuple(name for name in (ours, theirs) if choose(results, name).on_edge)
    step = resolution_of(results, headline)
    return {"resolution": step, "better": headline.better, "untuned": edges}


def has_loss(results: pd.DataFrame) -> bool:
    """Whether the table has the test loss beside another headline."""
    return (
        "test_loss" in results
        and bool(results.test_loss.notna().any())
        and (of_table(results).metric != "loss")
    )


def resolution_of(results: pd.DataFrame, headline: Headline | None = None) -> float:
    """One step of the test value: from the examples behind it, else from the values themselves.

    Returns:
        0 where the metric has no steps, or they cannot be known.
    """
    headline = headline or of_table(results)
    if headline.unit != "%":
        return 0.0
    if "n" in results and results.n.notna().any():
        return headline.resolution(float(results.n.min()))
    values = np.unique(results.test.dropna().round(4))
    gaps = np.diff(values)
    return float(gaps[gaps > 1e-3].min()) if len(values) >= _MIN_VALUES else 0.0
