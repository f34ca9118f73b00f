"""Cells of a sweep: the runs of one setting, over its seeds."""

from __future__ import annotations

import pandas as pd

from experiments.analysis.report.studies import SETTINGS, Study
from experiments.analysis.statistics.comparison import AXES
from experiments.selection import pick

BETAS = ("beta1", "beta2")
COMPARES_BETAS = ("betas",)
"""Studies whose question is which betas are best."""


def with_cells(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs with their `view` (heatmap) and `cell` numbers, and one row per cell.

    Cells have the columns of SETTINGS, lr, weight_decay, n, num_runs, num_diverged, num_failed,
    val_mean, val_error, test_mean, test_error (standard errors over seeds), view, cell.
    """
    keys = [*SETTINGS, "lr", "weight_decay"]
    runs = study.runs.sort_values([*keys, "seed"]).reset_index(drop=True)
    runs["view"] = runs.groupby([*SETTINGS], dropna=False, sort=True).ngroup()
    runs["cell"] = runs.groupby(keys, dropna=False, sort=True).ngroup()
    runs["was_diverged"] = runs.state == "diverged"
    runs["was_failed"] = ~runs.state.isin(["finished", "diverged"])
    finished = runs.state == "finished"
    runs["val_finished"], runs["test_finished"] = (
        runs.val.where(finished),
        runs.test.where(finished),
    )
    grouped = runs.groupby("cell")
    cells = grouped[[*keys, "view"]].first()
    cells["n"], cells["num_runs"] = grouped.val_finished.count(), grouped.size()
    cells["num_diverged"], cells["num_failed"] = (
        grouped.was_diverged.sum(),
        grouped.was_failed.sum(),
    )
    for split in ("val", "test"):
        values = grouped[f"{split}_finished"]
        cells[f"{split}_mean"], cells[f"{split}_error"] = values.mean(), values.sem()
    return runs, cells.reset_index()


def picks(study: Study, runs: pd.DataFrame) -> dict[int, bool]:
    """The cells that validation picks, and whether each lies on the edge of its grid.

    One for each choice: betas are tuned with the learning rate and the weight decay, but where
    they are what a study compares.

    Args:
        study: With the headline.
        runs: Of the study, with their `cell` (`with_cells`).
    """
    compared = [key for key in SETTINGS if key not in BETAS or study.name in COMPARES_BETAS]
    tuned = ["lr", "weight_decay", *(key for key in BETAS if key not in compared)]
    ended = runs[runs.state.isin(["finished", "diverged"])]
    found = {}
    for _, mine in ended.groupby(compared, dropna=False):
        try:
            best = pick(mine, tuned, study.headline, AXES)
        except ValueError:
            continue
        found[int(best.runs.cell.iloc[0])] = bool(best.edges)
    return found
