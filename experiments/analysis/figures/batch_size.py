"""Accuracy against batch size at a fixed number of epochs. Source: a figure of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis import regimes, tuned
from experiments.analysis.drawing import batch_panels, dot_panels, figure_style
from experiments.analysis.sources import RESULTS, paper, study

TITLE = "Batch size, with the number of epochs fixed"
CAPTION = (
    "Paper: arXiv:2302.06675, ViT-B/16 with RandAugment and Mixup, 300 epochs at every size, "
    "learning rate and weight decay tuned per size (values not published); digitised from the "
    "published figure, ± 0.02 to 0.03, narrower than the markers; one run each, as far as stated."
)
STUDY = "batch_size"
SIGNALS = "proxy, fresh seeds"
"""Origin of the rows of `regimes.BATCHES`."""
GAINS = (
    "Below right: 95 % (Student's t), not corrected for the number of sizes. vit_proxy: each seed "
    "as the others pick, so not the difference of the means above; else at the settings found "
    "(thin: of the optimizers)."
)


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's values and, where run, ours.

    Returns:
        Columns origin (paper, proxy, or `SIGNALS`), optimizer, batch_size, value (%), uncertainty
        (paper: of the reading; proxies: standard error over n seeds), n, lr, weight_decay, on_edge.
    """
    rows = paper("batch_size_ablation", results)
    rows = rows.sort_values("uncertainty", kind="stable")
    rows = rows.drop_duplicates(["optimizer", "batch_size"])  # the surest reading of each
    columns = ["optimizer", "batch_size", "value", "uncertainty"]
    ours = _ours(study(STUDY, results))
    table = pd.concat(
        [rows[columns].assign(origin="paper"), ours, _signals(results)], ignore_index=True
    )
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


def _signals(results: Path) -> pd.DataFrame:
    """The picks on many signals, trained with fresh seeds."""
    (experiment,), (kind,) = regimes.BATCHES
    rows = []
    fresh = study(f"{kind}_fresh", results, experiment)
    for cell in regimes.table(results, *regimes.BATCHES).itertuples():
        for name in (regimes.THEIRS, regimes.OURS):
            row = {"origin": SIGNALS, "optimizer": figure_style.name_of(name), "n": 0}
            row |= {"batch_size": cell.batch_size, "num_settings": cell.num_settings}
            row |= {key: getattr(cell, f"{name}_{key}") for key in ("lr", "weight_decay")}
            row |= {"on_edge": name in cell.edges.split(", "), "tuned": "lr, weight decay"}
            if fresh is not None:
                test = fresh[(fresh.optimizer == name) & (fresh.batch_size == cell.batch_size)].test
                row |= {"value": test.mean(), "uncertainty": test.sem(), "n": test.count()}
            rows.append(row)
    return pd.DataFrame(rows)


def draw(results: Path = RESULTS) -> Figure:
    """The paper's panel, and ours beside it where it has been run."""
    values, runs = table(results), study(STUDY, results)
    signals = values[values.origin == SIGNALS]
    below = not signals.empty
    said = tuned.NOT_RUN if runs is None else tuned.caption(values[values.origin == "proxy"])
    if below:
        said += f" Below: {_said(signals)} {GAINS}"
    width = [1] if runs is None else [1, 1]
    size = (7.2 if runs is None else 13, 9.4 if below else 4.7)
    figure, axes = figure_style.canvas(
        TITLE, f"{CAPTION} {said}", size, width, [1, 1] if below else [1]
    )
    left = axes[0, 0]
    batch_panels.panel(left, values[values.origin == "paper"], decimals=1)
    figure_style.panel_title(left, "Paper: ViT-B/16 on ImageNet")
    left.set_ylabel("ImageNet top-1 accuracy (%)")
    if runs is not None:
        _ours_on(axes[0, 1], values[values.origin == "proxy"], runs, None if below else 1)
    if below:
        (experiment,), (kind,) = regimes.BATCHES
        _ours_on(axes[1, 0], signals, study(kind, results, experiment), 1)
        if runs is not None:
            _gains(axes[1, 1], results, runs)
    return figure


def _said(signals: pd.DataFrame) -> str:
    seeds, tried = int(signals.n.max()), sorted(signals.num_settings.astype(int).unique())
    settings = f"{tried[0]}" if len(tried) == 1 else f"{tried[0]} to {tried[-1]}"
    said = f"a proxy, one of {settings} settings picked on one seed, n = {seeds} fresh seeds."
    edges = signals[signals.on_edge.astype(bool)]
    if not edges.empty:
        each = [f"{e.optimizer} at {e.batch_size}" for e in edges.itertuples()]
        said += f" On the edge of its grid, so not tuned (hollow): {', '.join(each)}."
    return said


def _ours_on(axis: Any, values: pd.DataFrame, runs: pd.DataFrame, decimals: int | None) -> None:
    dot_panels.as_proxy(axis)
    batch_panels.panel(axis, values, decimals, beside=True)
    figure_style.panel_title(axis, tuned.title(runs))
    axis.set_ylabel("proxy's test accuracy (%)")


def _gains(axis: Any, results: Path, runs: pd.DataFrame) -> None:
    """Lion minus AdamW at each size, of both proxies."""
    dot_panels.as_proxy(axis)
    first = tuned.differences(runs, "batch_size").assign(experiment=runs.experiment.iloc[0])
    second = regimes.table(results, *regimes.BATCHES)
    second = second[second.n > 0]
    parts = ((first, "as the other seeds pick", "o", 0.94), (second, "fresh seeds", "s", 1.06))
    for gains, how, marker, shift in parts:
        if gains.empty:
            continue
        name, places = f"{gains.experiment.iloc[0]}, {how}", gains.batch_size * shift
        arms = [gains.difference - gains.low, gains.high - gains.difference]
        colour = figure_style.colour_of("Lion")
        filled = colour if marker == "o" else "white"
        look = {"color": colour, "marker": marker, "markerfacecolor": filled, "label": name}
        axis.errorbar(places, gains.difference, arms, linestyle="none", linewidth=2.2, **look)
        if "wide_low" in gains:
            axis.vlines(places, gains.wide_low, gains.wide_high, color=colour, linewidth=0.8)
    axis.axhline(0, color=figure_style.FAINT, linewidth=1)
    axis.set_xscale("log", base=2)
    sizes = sorted({*first.batch_size, *second.batch_size})
    axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axis.minorticks_off()
    axis.grid(axis="y")
    axis.legend(frameon=False, fontsize=9, loc="upper right", bbox_to_anchor=(1, 0.94))
    axis.set_xlabel("batch size (examples per optimizer step)")
    axis.set_ylabel("Lion - AdamW (points)")
    figure_style.panel_title(axis, "Ours, proxies: Lion - AdamW")
