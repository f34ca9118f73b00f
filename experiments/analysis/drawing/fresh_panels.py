"""Validation curves of picks on fresh seeds: a mean and its standard error for each optimizer."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis.drawing import dot_panels, figure_style
from experiments.analysis.studies import read_study, study_path
from experiments.headline import of_table

STUDY = "fresh"


@dataclass(frozen=True)
class Fresh:
    """One experiment's picks: its runs, and the means of one metric along the steps."""

    runs: pd.DataFrame
    points: pd.DataFrame  # optimizer, step, value, uncertainty (standard error), n

    @property
    def num_seeds(self) -> int:
        return int(self.runs.seed.nunique())


def read(
    results: Path, experiment: str, metric: str | None = None, split: str | None = None
) -> Fresh | None:
    """The fresh runs of an experiment; None where they are not there.

    Args:
        results: Folder of all results.
        experiment: Of the study.
        metric: Of the curves; by default the headline.
        split: On which it is measured; by default the one that is tuned on.

    Raises:
        UserError: where a table is damaged.
    """
    path = study_path(results, STUDY, experiment)
    if path is None or not path.with_name("curves.csv").exists():
        return None
    runs, curves = read_study(path), pd.read_csv(path.with_name("curves.csv"))
    headline = of_table(runs)
    name = metric or headline.metric
    mine = curves[(curves.metric == name) & (curves.split == (split or headline.tune))]
    mine = mine.merge(runs[["run_id", "optimizer"]], on="run_id")
    grouped = mine.groupby(["optimizer", "step"]).value
    points = grouped.agg(value="mean", uncertainty="sem", n="size").reset_index()
    return Fresh(runs, points)


def tidy(found: Fresh | None, metric: str) -> pd.DataFrame:
    """The points as rows of a figure's table; empty where there are none."""
    if found is None:
        return pd.DataFrame()
    return found.points.assign(
        origin="proxy",
        metric=metric,
        experiment=found.runs.experiment.iloc[0],
        optimizer=found.points.optimizer.map(figure_style.name_of),
    )


def panel(
    axis: Any,
    found: Fresh,
    y_label: str,
    lines: Sequence[tuple[str, float]] = (),
    digits: int = 3,
) -> None:
    """Draws the curves, marked as a proxy's, with names and last values at their ends.

    Args:
        axis: To draw on.
        found: What to draw.
        y_label: Metric and unit.
        lines: Name and height of horizontal lines that help to read it.
        digits: Of the last values.
    """
    dot_panels.as_proxy(axis)
    ends = []
    for optimizer, mine in found.points.groupby("optimizer"):
        name = figure_style.name_of(str(optimizer))
        look: Any = {
            "color": figure_style.colour_of(name),
            "linestyle": figure_style.dash_of(name),
        }
        axis.plot(mine.step, mine.value, linewidth=1.8, **look)
        below, above = mine.value - mine.uncertainty, mine.value + mine.uncertainty
        axis.fill_between(mine.step, below, above, color=look["color"], alpha=0.25, linewidth=0)
        end = mine.sort_values("step").iloc[-1]
        ends.append((float(end.value), f"{name}\n{end.value:.{digits}f}", look["color"]))
    for name, height in lines:
        axis.axhline(height, color=figure_style.FAINT, linewidth=0.8, linestyle=":")
        axis.annotate(name, (0.01, height), xycoords=("axes fraction", "data"), xytext=(0, 2),
                      textcoords="offset points", fontsize=8,
                      color=figure_style.FAINT)  # fmt: skip
    axis.set_xlabel("optimizer step")
    axis.set_ylabel(y_label)
    axis.grid(axis="y")
    axis.margins(y=0.06)
    axis.autoscale_view()
    figure_style.end_labels(axis, ends, gap=0.13, size=9)


def caption(found: Sequence[Fresh | None], where: str) -> str:
    """Sentence on how the curves came about; that they are not there, where none is."""
    there = [one for one in found if one is not None]
    if not there:
        return "Ours: not run yet."
    seeds = sorted({one.num_seeds for one in there})
    n = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return (
        f"Ours: a proxy in each panel {where}, no result of the paper's models; own axes. Setting "
        f"picked by validation on other seeds; mean and standard error over n = {n} fresh seeds."
    )
