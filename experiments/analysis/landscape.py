"""The paper's landscape table from the ledger: train loss, and loss under noise on the weights."""

from __future__ import annotations

import pandas as pd

KEYS = ["experiment", "run_id", "optimizer", "lr", "weight_decay", "seed"]


def noise_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Loss under noise of each run that `job=landscape` has measured.

    Args:
        runs: The table of `experiments.table.read_runs`.

    Returns:
        Columns `KEYS`; noise: none, sigma (standard deviation of each weight's noise) or relative
        (to each filter's norm); scale (0 for none); loss and its standard error se over draws, in
        nats; draws (0 for none).
    """
    rows = _newest(runs)
    parts = rows.metric.str.extract(r"^loss(?:_(sigma|relative)_([0-9.e+-]+?))?(_se)?$")
    is_loss = rows.metric.str.startswith("loss")
    rows = rows.assign(
        noise=parts[0].fillna("none"), scale=parts[1].astype(float).fillna(0.0), is_se=parts[2]
    )[is_loss]
    values = rows[rows.is_se.isna()].rename(columns={"value": "loss", "n": "draws"})
    errors = rows[rows.is_se.notna()].rename(columns={"value": "se"})
    on = [*KEYS, "noise", "scale"]
    table = values[[*on, "loss", "draws"]].merge(errors[[*on, "se"]], on=on, how="left")
    table.loc[table.noise == "none", "draws"] = 0
    table["draws"] = table.draws.astype(int)
    order = ["optimizer", "seed", "noise", "scale"]
    return table[[*on, "loss", "se", "draws"]].sort_values(order, ignore_index=True)


def eigenvalue_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Top Hessian eigenvalue of each run: `KEYS`, hessian_top, residual, n examples."""
    rows = _newest(runs)
    top = rows[rows.metric == "hessian_top"].rename(columns={"value": "hessian_top"})
    rest = rows[rows.metric == "hessian_top_residual"].rename(columns={"value": "residual"})
    table = top[[*KEYS, "hessian_top", "n"]].merge(rest[[*KEYS, "residual"]], on=KEYS)
    return table[[*KEYS, "hessian_top", "residual", "n"]]


def _newest(runs: pd.DataFrame) -> pd.DataFrame:
    """Landscape rows at the last step where each run has some."""
    rows = runs[runs.split == "landscape"]
    return rows[rows.step == rows.groupby("run_id").step.transform("max")]
