"""Accuracy against batch size at a fixed number of epochs. Source: a figure of the paper."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import tuned
from experiments.analysis.drawing import batch_panels, dot_panels, figure_style
from experiments.analysis.sources import RESULTS, paper, study

TITLE = "Batch size, with the number of epochs fixed"
CAPTION = (
    "Paper: arXiv:2302.06675, ViT-B/16 with RandAugment and Mixup, 300 epochs at every size, "
    "learning rate and weight decay tuned per size (values not published); digitised from the "
    "published figure, ± 0.02 to 0.03, narrower than the markers; one run each, as far as stated."
)
STUDY = "batch_size"


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's values and, where run, ours.

    Returns:
        Columns origin (paper or proxy), optimizer, batch_size, value (%), uncertainty (paper:
        of the reading; proxy: standard error over n seeds), n, lr, weight_decay, on_edge.
    """
    rows = paper("batch_size_ablation", results)
    rows = rows.sort_values("uncertainty", kind="stable")
    rows = rows.drop_duplicates(["optimizer", "batch_size"])  # the surest reading of each
    columns = ["optimizer", "batch_size", "value", "uncertainty"]
    ours = _ours(study(STUDY, results))
    table = pd.concat([rows[columns].assign(origin="paper"), ours], ignore_index=True)
    table["batch_size"] = table.batch_size.astype(int)
    order = ["origin", "optimizer", "batch_size"]
    return table.sort_values(order, ignore_index=True)[[*order, *columns[2:], *MORE]]


MORE = ["n", "lr", "weight_decay", "on_edge", "num_settings", "tuned"]


def _ours(runs: pd.DataFrame | None) -> pd.DataFrame:
    if runs is None:
        return pd.DataFrame(columns=["origin", *MORE])
    arms = tuned.tuned(runs, ["optimizer", "batch_size"])
    arms = arms.rename(columns={"test_mean": "value", "test_error": "uncertainty"})
    return arms.assign(origin="proxy", optimizer=arms.optimizer.map(figure_style.name_of))


def draw(results: Path = RESULTS) -> Figure:
    """The paper's panel, and ours beside it where it has been run."""
    values, runs = table(results), study(STUDY, results)
    said = tuned.NOT_RUN if runs is None else tuned.caption(values[values.origin == "proxy"])
    width = [1] if runs is None else [1, 1]
    figure, axes = figure_style.canvas(
        TITLE, f"{CAPTION} {said}", (7.2 if runs is None else 13, 4.7), width
    )
    left = axes[0, 0]
    batch_panels.panel(left, values[values.origin == "paper"], decimals=1)
    figure_style.panel_title(left, "Paper: ViT-B/16 on ImageNet")
    left.set_ylabel("ImageNet top-1 accuracy (%)")
    if runs is not None:
        right = axes[0, 1]
        dot_panels.as_proxy(right)
        batch_panels.panel(right, values[values.origin == "proxy"], decimals=1, beside=True)
        figure_style.panel_title(right, tuned.title(runs))
        right.set_ylabel("proxy's test accuracy (%)")
    return figure
