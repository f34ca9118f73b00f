"""Cells of a sweep: the runs of one setting, over its seeds."""

from __future__ import annotations

import pandas as pd

from experiments.analysis.report.studies import SETTINGS, Study
from experiments.analysis.statistics.comparison import TIE


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


def best_cell(cells: pd.DataFrame, higher_is_better: bool = True) -> int | None:
    """The cell with the best mean validation value of one view, among those with every seed.

    A diverged or missing seed rules a cell out.
    """
    most = cells.num_runs.max()
    whole = cells[(cells.n == most) & cells.val_mean.notna()]
    if whole.empty:
        return None
    means = whole.val_mean.round(TIE)
    position = means.idxmax() if higher_is_better else means.idxmin()
    return int(whole.loc[position, "cell"])


def is_on_edge(cells: pd.DataFrame, cell: int) -> bool:
    """Whether a cell lies on the edge of its view's grid, in lr or weight decay."""
    mine = cells[cells.cell == cell].iloc[0]
    for key in ("lr", "weight_decay"):
        values = sorted(cells[key].dropna().unique())
        if len(values) > 1 and mine[key] in (values[0], values[-1]):
            return True
    return False
