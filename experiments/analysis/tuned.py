"""A study's arms after tuning: for each, validation picks the setting and test reports it."""

from __future__ import annotations

import pandas as pd

from experiments.analysis.drawing.figure_style import name_of
from experiments.analysis.sources import PROXIES
from experiments.analysis.statistics.comparison import SETTING, choose, compare
from experiments.analysis.statistics.difference import ALPHA
from experiments.analysis.statistics.uncertainty import holm

COLUMNS = ["lr", "weight_decay", "val_mean", "test_mean", "test_error", "n", "on_edge"]
TUNED = {"lr": "learning rate", "weight_decay": "weight decay", "beta2": "betas"}
"""What a study may tune, and how a caption calls it."""
NOT_RUN = "Ours: not run yet."


def tuned(study: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The chosen setting of each arm, such as each optimizer at each batch size.

    Args:
        study: A row per run (`sources.study`).
        by: Columns whose values make an arm; `optimizer` must be one of them.

    Returns:
        A row per arm: `by`, then lr, weight_decay, val_mean and test_mean (%), test_error
        (standard error over seeds), n (seeds), on_edge (then it is not tuned), num_settings,
        tuned (what differs between them), num_diverged. Empty numbers where no setting has
        finished with every seed.
    """
    rows = []
    for names, part in study.groupby(by, sort=False, dropna=False):
        row = dict(zip(by, names, strict=True))
        row["num_settings"] = part.groupby(
            [key for key in SETTING if key in part], dropna=False
        ).ngroups
        row["tuned"] = ", ".join(t for column, t in TUNED.items() if _varies(part, column))
        row["num_diverged"] = int((part.state == "diverged").sum())
        try:
            chosen = vars(choose(part, row["optimizer"]))
        except ValueError:
            chosen = {"n": 0, "on_edge": False}
        rows.append(row | {column: chosen.get(column, float("nan")) for column in COLUMNS})
    return pd.DataFrame(rows)


def _varies(part: pd.DataFrame, column: str) -> bool:
    return column in part and part[column].nunique() > 1


def title(study: pd.DataFrame) -> str:
    """Heading of a panel of ours: that it is a proxy, of which model and data."""
    first = study.iloc[0]
    experiment = str(first.get("experiment", "a small model"))
    if "num_params" in study and "data" in study:
        facts = f"{int(first.num_params):,} parameters, {first['data']}"
    else:
        facts = PROXIES.get(experiment, "model and data not recorded")
    return f"Ours, proxy: {experiment} ({facts})"


def caption(arms: pd.DataFrame) -> str:
    """Sentence on how the numbers of `tuned` came about."""
    counts = sorted(arms.n[arms.n > 0].unique()) or [0]
    seeds = f"{counts[0]:g}" if len(counts) == 1 else f"{counts[0]:g} to {counts[-1]:g}"
    tried = sorted(arms.num_settings.unique())
    settings = f"{tried[0]:g}" if len(tried) == 1 else f"{tried[0]:g} to {tried[-1]:g}"
    picks = (
        "One setting each, tested"
        if list(tried) == [1]
        else f"Validation picks one of {settings} settings ({max(arms.tuned, key=len)}), the test "
        "set reports it"
    )
    said = (
        f"Ours: a proxy, no result of the paper's model; its own axis. {picks}: mean and standard "
        f"error over n = {seeds} seeds."
    )
    names = arms.arm if "arm" in arms else arms.optimizer.map(name_of)
    edges = list(dict.fromkeys(names[arms.on_edge.astype(bool)]))
    if edges:
        said += f" On the edge of its grid, so not tuned (hollow): {', '.join(edges)}."
    lost = list(dict.fromkeys(names[arms.n == 0]))
    if lost:
        said += f" No setting finished with every seed: {', '.join(lost)}."
    return said


def differences(study: pd.DataFrame | None, by: str) -> pd.DataFrame:
    """Lion minus AdamW at each value of a column, each tuned there (`comparison.compare`).

    Args:
        study: A row per run (`sources.study`); None where it has not been run.
        by: Such as batch_size.

    Returns:
        A row per value: `by`, difference (of the test value), low, high (95 % interval), n, p_holm
        (Holm's, over the values) and verdict on Lion by it. Empty where there is no study, or an
        optimizer has no whole setting.
    """
    rows = []
    for value, part in [] if study is None else study.groupby(by):
        try:
            gain = compare(part, "lion", "adamw")
        except ValueError:
            continue
        rows.append((value, gain.mean, gain.low, gain.high, gain.n, gain.p_t, gain.verdict))
    columns = [by, "difference", "low", "high", "n", "p_holm", "verdict"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_holm"] = holm(table.p_holm)
    lost = (table.p_holm >= ALPHA) & table.verdict.isin(["better", "worse"])
    table.loc[lost, "verdict"] = "inconclusive"
    return table
