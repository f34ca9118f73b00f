"""A study's curves: of the weights that are judged along the steps, of others at the end."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments import headline as headlines
from experiments.files import replacing
from experiments.outcomes import OTHER_WEIGHTS, check_alike

if TYPE_CHECKING:
    import pandas as pd

NUM_POINTS = 30
"""Of a training curve in a study's table: enough to draw it, few enough to commit hundreds."""


def write(rows: pd.DataFrame, folder: Path) -> None:
    """Writes curves.csv, and `OTHER_WEIGHTS` where other weights were measured beside those judged.

    Args:
        rows: The table of `experiments.table.read_runs`.
        folder: Of the study.

    Raises:
        UserError: for numbers of one name that were not measured alike.
    """
    check_alike(rows)
    _write(judged(rows), folder / "curves.csv")
    others = other_weights(rows)
    if len(others):
        _write(others, folder / OTHER_WEIGHTS)
    else:  # of an earlier call
        (folder / OTHER_WEIGHTS).unlink(missing_ok=True)


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    """Every metric, with the weights that are judged, in the order of the ledger.

    Every evaluation, and of the training curves about `NUM_POINTS` each, the last one included.

    Returns:
        run_id, step, split, metric, value.
    """
    of_weights = (rows.weights == _headline_weights(rows)) | (rows.split == "train")
    kept = rows[of_weights & (rows.split != "run") & (rows.metric != "lr")]
    to_end = kept.groupby(["run_id", "split", "metric"]).cumcount(ascending=False)
    length = kept.groupby(["run_id", "split", "metric"]).step.transform("size")
    stride = (length // NUM_POINTS).clip(lower=1)
    kept = kept[(kept.split != "train") | (to_end % stride == 0)]
    return kept[["run_id", "step", "split", "metric", "value"]].reset_index(drop=True)


def other_weights(rows: pd.DataFrame) -> pd.DataFrame:
    """The values after the last step of weights that are not judged: averaged ones, or the raw.

    Returns:
        run_id, step, split, metric, weights, value, of the runs that have finished.
    """
    is_last = rows.step == rows.groupby("run_id").step.transform("max")
    measured = rows[is_last & ~rows.split.isin(["train", "run"]) & (rows.state == "finished")]
    kept = measured[measured.weights != _headline_weights(measured)]
    return kept[["run_id", "step", "split", "metric", "weights", "value"]].reset_index(drop=True)


def _headline_weights(rows: pd.DataFrame) -> pd.Series:
    return rows.headline.map(lambda text: headlines.read(text).weights)


def _write(points: pd.DataFrame, path: Path) -> None:
    shown = points.assign(value=points.value.map("{:.6g}".format))
    with replacing(path) as draft:
        shown.to_csv(draft, index=False)
