"""Draws a comparison of optimizers: accuracy against learning rate, and training loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis.statistics.comparison import Chosen
from experiments.headline import of_table
from experiments.store import replacing

COLOURS = {"lion": "#0072B2", "adamw": "#D55E00", "sgd": "#009E73"}  # safe for colour-blind eyes
OTHER_COLOUR = "#555555"
NAMES = {"lion": "Lion", "adamw": "AdamW", "sgd": "SGD"}


def draw(
    runs: pd.DataFrame, results: pd.DataFrame, chosen: Sequence[Chosen], title: str, path: Path
) -> None:
    """Writes the figure as PNG.

    Args:
        runs: Every measurement, from `experiments.table.read_runs`.
        results: One row per run, from `comparison.final_results`.
        chosen: The settings that validation picked.
        title: Says what data and model, and that it is a proxy if it is.
        path: Where to; the folder is made.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.3), constrained_layout=True)
    headline = of_table(results)
    for setting in chosen:
        _value_against_lr(left, results, setting)
        _training_loss(right, runs, results, setting)
    n = chosen[0].n
    left.set_xscale("log")
    lrs = sorted(results.lr.unique())
    left.set_xticks(lrs, labels=[f"{lr:g}" for lr in lrs])
    left.minorticks_off()
    left.margins(y=0.12)
    left.set_xlabel("peak learning rate")
    name = "accuracy" if headline.metric == "top1" else headline.metric
    left.set_ylabel(f"{name} ({headline.unit})" if headline.unit else name)
    heading = f"Every setting: mean and range over {n} seeds; ring: picked on {headline.tune}"
    left.set_title(heading, loc="left", fontsize=10)
    lines = f"solid: {headline.report}, dashed: {headline.tune}"
    left.plot([], [], "--", color=OTHER_COLOUR, linewidth=1, label=lines)
    # Below the axis: within it, a legend would cover points or their ranges.
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "columnspacing": 1.2}
    left.legend(ncols=1 + len(chosen), fontsize=9, frameon=False, **below)
    right.legend(frameon=False, fontsize=9, loc="upper right")
    right.set_yscale("log")
    right.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f"{y:g}"))
    right.yaxis.set_minor_locator(ticker.LogLocator(subs=(2.0, 5.0)))
    right.yaxis.set_minor_formatter(ticker.FuncFormatter(lambda y, _: f"{y:g}"))
    right.margins(x=0.02)
    right.set_xlabel("optimizer step")
    right.set_ylabel("training loss (nats)")
    right.set_title(f"Picked settings: mean and range over {n} seeds", loc="left", fontsize=10)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        figure.savefig(draft, dpi=150, format=path.suffix[1:])
    plt.close(figure)


def _value_against_lr(axis: Any, results: pd.DataFrame, chosen: Chosen) -> None:
    """Means over seeds on the tuned split (dashed) and the reported one (solid, with its range)."""
    colour, name = _style(chosen.optimizer)
    mine = results[results.optimizer == chosen.optimizer]
    grouped = mine.groupby("lr")
    lrs = grouped.test.mean().index.to_numpy()
    test, val = grouped.test.mean(), grouped.val.mean()
    reach = [test - grouped.test.min(), grouped.test.max() - test]
    axis.plot(lrs, val, "--", color=colour, linewidth=1)
    said = f"{name}: {of_table(mine).text(chosen.test_mean)} at {chosen.lr:g}"
    axis.errorbar(lrs, test, yerr=reach, color=colour, marker="o", capsize=3, label=said)
    axis.plot(
        [chosen.lr], [chosen.test_mean], "o", markersize=13, markerfacecolor="none", color=colour
    )


def _training_loss(axis: Any, runs: pd.DataFrame, results: pd.DataFrame, chosen: Chosen) -> None:
    colour, name = _style(chosen.optimizer)
    best = results[(results.optimizer == chosen.optimizer) & (results.lr == chosen.lr)]
    is_loss = (runs.split == "train") & (runs.metric == "loss") & runs.run_id.isin(best.run_id)
    by_step = runs[is_loss].groupby("step").value
    steps = by_step.mean().index.to_numpy()
    axis.fill_between(steps, by_step.min(), by_step.max(), color=colour, alpha=0.2, linewidth=0)
    axis.plot(steps, by_step.mean(), color=colour, label=name)


def _style(optimizer: str) -> tuple[str, str]:
    return COLOURS.get(optimizer, OTHER_COLOUR), NAMES.get(optimizer, optimizer)
