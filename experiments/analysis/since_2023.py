"""Lion and AdamW beside the optimizers of the years since, all tuned with as many trials.

Each page has a tuning study, `since_2023`, and one of the picks on fresh seeds, which is what is
compared (conf/sweep/optimizers_since_2023.yaml). What a step costs is measured apart
(scripts/bench_optimizers.py).
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis.confirmed import corrected, judged, mean_of
from experiments.analysis.sources import RESULTS, study
from experiments.analysis.statistics.comparison import SETTING, choose
from experiments.headline import of_table
from experiments.pages import script
from experiments.store import UserError

PAGES = {"vit_signals_proxy": "ViT, MNIST-1D signals", "lm_proxy": "language model, characters"}
"""Experiments, and what their panels are called."""
OPTIMIZERS = (
    *("lion", "clion", "lionc", "adamw", "cadamw", "laprop", "adopt", "mars", "lamb"),
    *("schedulefree", "muon"),
)
"""Pages of conf/optimizer, in the order of tables and figures."""
THEIRS = ("adamw", "lion")
"""With whom each of the others is compared: two questions, each corrected by itself."""
STUDY = "since_2023"
PICKS = (
    *("experiment", "optimizer", "lr", "weight_decay", "val", "on_edge", "num_settings"),
    *("num_tuning_seeds", "num_diverged", "test", "test_error", "n", "digits", "sign", "unit"),
    *("metric", "report"),
)
COSTS = ("model", "optimizer", "ratio", "ratio_low", "ratio_high", "state_bytes_per_param",
         "threads", "cpu")  # fmt: skip


def studies(results: Path = RESULTS) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Of each page that has been tuned its tuning runs, and those with fresh seeds (or none)."""
    found = {}
    for experiment in PAGES:
        tuning = study(STUDY, results, experiment)
        if tuning is not None:
            fresh = study(f"{STUDY}_fresh", results, experiment)
            found[experiment] = tuning, tuning.iloc[:0] if fresh is None else fresh
    return found


def picks(results: Path = RESULTS) -> pd.DataFrame:
    """What validation picked for each optimizer on each page, and its test value on fresh seeds.

    Returns:
        `PICKS`: values in the page's own unit, the best first on each page; NaN where no setting
        has finished, where nothing fresh has been trained, or where a fresh run diverged.
    """
    rows = [
        _pick(experiment, name, tuning, fresh)
        for experiment, (tuning, fresh) in studies(results).items()
        for name in _there(tuning)
    ]
    found = pd.DataFrame(rows, columns=list(PICKS))
    if found.empty:
        return found
    place = found.experiment.map(list(PAGES).index)
    scored = found.assign(_place=place, _score=-found.sign * found.test)
    ordered = scored.sort_values(["_place", "_score"], kind="stable", na_position="last")
    return ordered.drop(columns=["_place", "_score"]).reset_index(drop=True)


def _there(tuning: pd.DataFrame) -> list[str]:
    return [name for name in OPTIMIZERS if name in set(tuning.optimizer)]


def _pick(experiment: str, name: str, tuning: pd.DataFrame, fresh: pd.DataFrame) -> dict[str, Any]:
    mine = fresh[fresh.optimizer == name]
    headline = of_table(tuning)
    row: dict[str, Any] = {
        **{"experiment": experiment, "optimizer": name, "on_edge": False, "n": len(mine)},
        **{"num_tuning_seeds": tuning.seed.nunique(), "sign": headline.sign},
        **{"digits": headline.digits, "unit": headline.points, "metric": headline.metric},
        "report": headline.report,
    }
    row["test"], row["test_error"] = mean_of(fresh, name)
    try:
        found = choose(tuning, name)
    except ValueError:  # no setting has finished with every seed
        return row
    names = ("lr", "weight_decay", "on_edge", "num_settings", "num_diverged")
    return row | {key: getattr(found, key) for key in names} | {"val": found.val_mean}


def comparisons(results: Path = RESULTS) -> pd.DataFrame:
    """Each optimizer minus AdamW, and minus Lion, on each page.

    Returns:
        experiment, `confirmed.COLUMNS` in the page's own unit, sign (times a difference: positive
        where ours is ahead), unit, digits, num_settings and num_tuning_seeds. p_holm is corrected
        over optimizers and pages, for each of `THEIRS` by itself.
    """
    rows = []
    for experiment, (tuning, fresh) in studies(results).items():
        headline = of_table(tuning)
        said: dict[str, Any] = {
            **{"sign": headline.sign, "unit": headline.points, "digits": headline.digits},
            "num_tuning_seeds": tuning.seed.nunique(),
        }
        rows += [
            {
                **{"experiment": experiment, **judged(tuning, fresh, ours, theirs), **said},
                "num_settings": _num_settings(tuning, ours),
            }
            for theirs in THEIRS
            for ours in _there(tuning)
            if ours != theirs and theirs in _there(tuning)
        ]
    found = pd.DataFrame(rows)
    if found.empty:
        return found
    return pd.concat([corrected(found[found.theirs == theirs]) for theirs in THEIRS])


def _num_settings(tuning: pd.DataFrame, name: str) -> int:
    keys = [key for key in SETTING if key in tuning]
    return tuning[tuning.optimizer == name].groupby(keys, dropna=False).ngroups


def costs(results: Path = RESULTS) -> pd.DataFrame:
    """What a step of each optimizer takes beside AdamW's, and its state; empty if not measured.

    Returns:
        `COSTS`: median and quartiles of the ratio of times, bytes of state per trained parameter.

    Raises:
        UserError: where the table is damaged.
    """
    path = results / "bench" / "optimizers.csv"
    if not path.exists():
        return pd.DataFrame(columns=list(COSTS))
    try:
        return pd.read_csv(path)[list(COSTS)]
    except (KeyError, ValueError) as error:
        message = f"{path} is no such table ({error}): run {script('bench_optimizers')} again"
        raise UserError(message) from None


def places(costs: pd.DataFrame) -> str:
    """The processors on which costs were measured, and with how many threads."""
    found = costs[["cpu", "threads"]].drop_duplicates()
    return ", and on ".join(
        f"{x.cpu}; torch's threads: {int(x.threads)}" for x in found.itertuples()
    )
