"""The best value of each metric over a run, at whichever step it was: what "peak" means.

A peak is better than what any one checkpoint has: it picks on the scores that it reports. So it is
named `peak` wherever it goes, and compared with peaks only.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd


def peaks(rows: pd.DataFrame, split: str = "val", weights: str = "raw") -> pd.DataFrame:
    """The peak of every metric of every run.

    Args:
        rows: Of the ledger (`experiments.table.read_runs`); metrics that do not say which way is
            better are left out.
        split: Of the ledger.
        weights: raw | ema.

    Returns:
        run_id, metric, step (the first of the best), peak, last (at the last evaluation), unit.
    """
    kept = rows[(rows.split == split) & (rows.weights == weights) & rows.better.notna()]
    kept = kept[kept.value.notna()].sort_values(["run_id", "metric", "step"], kind="stable")
    found = []
    for (run, metric), mine in kept.groupby(["run_id", "metric"], sort=True):
        values = mine.value if mine.better.iloc[0] == "higher" else -mine.value
        best = mine.loc[values.idxmax()]
        found.append(
            {
                "run_id": run,
                "metric": metric,
                "step": int(best.step),
                "peak": float(best.value),
                "last": float(mine.value.iloc[-1]),
                "unit": best.unit,
            }
        )
    columns = ["run_id", "metric", "step", "peak", "last", "unit"]
    return pd.DataFrame(found, columns=columns)


def mean_of_peaks(table: pd.DataFrame, metrics: Collection[str]) -> dict[str, float]:
    """By run: the mean of the peaks of some metrics, as the paper averages GLUE.

    Args:
        table: Of `peaks`.
        metrics: Their names; a run that lacks one is left out.
    """
    kept = table[table.metric.isin(metrics)]
    counts = kept.groupby("run_id").metric.nunique()
    whole = counts[counts == len(metrics)].index
    return kept[kept.run_id.isin(whole)].groupby("run_id").peak.mean().to_dict()
