"""Lion, AdamW and the optimizers since 2023 on two proxies, beside the paper's ten, and their cost.

Ours: results/studies/*/since_2023, since_2023_fresh; results/bench/optimizers.csv. Paper: Table 7.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from experiments.analysis import since_2023
from experiments.analysis.drawing import dot_panels, figure_style, search_panels
from experiments.analysis.figures.optimizers import ABLATIONS
from experiments.analysis.sources import RESULTS, paper
from experiments.analysis.text_confirmed import verdict
from experiments.analysis.text_since_2023 import SAID
from experiments.pages import script

TITLE = "Lion, AdamW and the optimizers since 2023, equally tuned, beside the paper's ten"
PAPER = (
    "Paper: arXiv:2302.06675, Table 7 (ten optimizers), transcribed (rounding 0.005): ImageNet "
    "with RandAugment and Mixup, learning rate and weight decay tuned per optimizer, number of "
    "runs not stated."
)
OURS = (
    "Ours: a proxy in each panel below, no result of the paper's models, and short runs, of as "
    "many steps for each; to the right is ahead of AdamW, each panel in its own unit. Validation "
    "picks one of {settings} "
    "settings (learning rate, weight decay) for each optimizer on n = {tuning} other {seeds}; mean "
    "over n = {fresh} fresh seeds in pairs. Thick: 95 % at the settings found; thin: of the "
    "optimizers, with the luck of tuning in it. Filled: shown, after Holm's correction over "
    "optimizers and panels; open: not shown, which is not “equal”, or not tuned: a pick of the two "
    "on an edge."
)
COST = (
    "Cost: scripts/bench_optimizers.py on {places}; of AdamW torch's "
    "default, tensor by tensor, and its fused path, of Lion the fused one; the median of the "
    "ratios to AdamW's step in one process, with quartiles, on the weights of {model}; state from "
    "the state dict."
)
THEIRS = since_2023.THEIRS[0]
NO_COST = f"Cost of a step: not measured yet ({script('bench_optimizers')})."
COMMAND = (
    f"{script('run')} -m experiment=vit_signals_proxy sweep=optimizers_since_2023 train.epochs=2"
)
COST_MODEL = "vit_s16_imagenet"
ROW_INCHES = 0.27
FUSED = "adamw, fused"
"""Torch's, beside which Lion's fused step is to be seen."""
PATHS = {THEIRS: "AdamW, tensor by tensor", "lion": "Lion, fused"}
"""What rows of the cost are called where the path matters."""


def table(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's values, our differences, and costs.

    Returns:
        origin paper: optimizer, model, metric, value (%); proxy: `since_2023.comparisons`;
        measured: `since_2023.costs`.
    """
    theirs = paper("optimizer_comparison", results)
    theirs["optimizer"] = theirs.optimizer.replace(ABLATIONS)
    theirs = theirs[theirs.metric == "imagenet_top1"][["optimizer", "model", "metric", "value"]]
    parts = [
        theirs.assign(origin="paper"),
        since_2023.comparisons(results).assign(origin="proxy"),
        since_2023.costs(results).assign(origin="measured"),
    ]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def draw(results: Path = RESULTS) -> Figure:
    """The paper's two models; our pages, minus AdamW; time and state of a step."""
    values = table(results)
    cells = values[values.origin == "proxy"]
    if cells.empty:
        return search_panels.not_run(TITLE, PAPER, "nothing has been compared", COMMAND)
    cells = cells[cells.theirs == THEIRS]
    costs = values[(values.origin == "measured") & (values.model == COST_MODEL)]
    ours = _order(cells)
    timed = [THEIRS, *sorted(set(costs.optimizer) - {THEIRS, *ours}), *ours]
    rows = [10, len(ours), len(timed)] if len(costs) else [10, len(ours)]
    inches = [ROW_INCHES * number + 0.8 for number in rows]
    caption = f"{PAPER} {dot_panels.with_counts(OURS, cells)} {_cost(costs)}"
    width = 12.0
    size = (width, sum(inches) + 0.4 + figure_style.caption_inches(caption, width))
    figure, axes = figure_style.canvas(TITLE, caption, size, [1, 1], inches)
    _paper_row(axes[0], values[values.origin == "paper"])
    for number, (axis, page) in enumerate(zip(axes[1], since_2023.PAGES, strict=True)):
        _panel(axis, cells[cells.experiment == page], ours, page, number == 0)
    if len(costs):
        _cost_row(axes[2], costs, timed)
    return figure


def _order(cells: pd.DataFrame) -> list[str]:
    """Optimizers, the one that is furthest ahead on the first page on top."""
    first = cells[cells.experiment == cells.experiment.iloc[0]]
    ahead = first.assign(ahead=first.sign * first.difference)
    found = list(ahead.sort_values("ahead", ascending=False, na_position="last").ours)
    return [*found, *(name for name in cells.ours.unique() if name not in found)]


def _cost(costs: pd.DataFrame) -> str:
    if costs.empty:
        return NO_COST
    return COST.format(places=since_2023.places(costs), model=COST_MODEL)


def _paper_row(axes: Any, values: pd.DataFrame) -> None:
    order = list(values.groupby("optimizer").value.mean().sort_values(ascending=False).index)
    for axis, model in zip(axes, ("ViT-B/16", "ViT-S/16"), strict=True):
        mine = values[values.model == model]
        rows = mine.assign(row=mine.optimizer, colour=mine.optimizer.map(figure_style.colour_of))
        dot_panels.dots(axis, rows, order)
        figure_style.panel_title(axis, f"Paper: {model}, ImageNet")
        axis.set_xlabel("top-1 accuracy (%)")
    axes[1].tick_params(labelleft=False)


def _panel(axis: Any, cells: pd.DataFrame, order: list[str], page: str, is_first: bool) -> None:
    dot_panels.as_proxy(axis)
    dot_panels.rules(axis, [figure_style.name_of(name) for name in order])
    axis.set_ylim(len(order) - 0.5, -1.1)  # the word proxy has a line of its own
    axis.tick_params(labelleft=is_first)
    title = f"Ours, proxy: {since_2023.PAGES[page]}"
    figure_style.panel_title(axis, title)
    if cells.empty:
        axis.text(0.5, 0.5, "not run yet", transform=axis.transAxes, ha="center",
                  color=figure_style.FAINT)  # fmt: skip
        axis.set_xticks([])
        return
    axis.axvline(0, color="#888888", linewidth=0.9, zorder=1)
    for cell in cells.itertuples():
        _row(axis, cell, order.index(cell.ours))
    axis.margins(x=0.04)
    axis.autoscale_view(scaley=False)
    low, high = axis.get_xlim()
    axis.set_xlim(low, high + 0.5 * (high - low))  # for the words
    axis.xaxis.set_major_locator(ticker.MaxNLocator(5))
    first = cells.iloc[0]
    axis.set_xlabel(f"ahead of AdamW ({first.unit} of the test set)")


def _row(axis: Any, cell: Any, height: int) -> None:
    colour = figure_style.colour_of(cell.ours)
    said = "not tuned" if cell.verdict == "not tuned" else verdict(cell, SAID)
    if cell.difference == cell.difference:
        dot_panels.two_intervals(axis, height, cell, colour)
        said = f"{figure_style.signed(cell.sign * cell.difference, int(cell.digits))} {said}"
    _say(axis, height, said, colour)


def _say(axis: Any, height: int, said: str, colour: str) -> None:
    """Words at the right end of a row."""
    axis.text(0.985, height, said, transform=axis.get_yaxis_transform(), ha="right",
              va="center", fontsize=8.5, color=colour,
              bbox={"facecolor": axis.get_facecolor(), "edgecolor": "none",
                    "pad": 0.6})  # fmt: skip


def _cost_row(axes: Any, costs: pd.DataFrame, order: list[str]) -> None:
    names = [PATHS.get(name, figure_style.name_of(name)) for name in order]
    dot_panels.rules(axes[0], names)
    dot_panels.rules(axes[1], names)
    for item in costs[costs.optimizer.isin(order)].itertuples():
        height = order.index(item.optimizer)
        colour = figure_style.colour_of(THEIRS if item.optimizer == FUSED else str(item.optimizer))
        look: Any = {"color": colour, "marker": "o", "markersize": 7}
        reach = [[item.ratio - item.ratio_low], [item.ratio_high - item.ratio]]
        axes[0].errorbar([item.ratio], [height], xerr=reach, linewidth=1.6, **look)
        axes[1].plot([item.state_bytes_per_param], [height], linestyle="none", **look)
        values = (f"{item.ratio:.2g}", f"{item.state_bytes_per_param:.2f}")
        for axis, said in zip(axes, values, strict=True):
            _say(axis, height, said, colour)
    axes[0].set_xscale("log")
    low, high = axes[0].get_xlim()
    axes[0].set_xlim(low, high * (high / low) ** 0.18)
    axes[0].xaxis.set_major_locator(ticker.FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]))
    axes[0].xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes[0].xaxis.set_minor_locator(ticker.NullLocator())
    axes[0].axvline(1, color="#888888", linewidth=0.9, zorder=1)
    axes[1].set_xlim(0, 1.2 * costs.state_bytes_per_param.max())
    axes[1].tick_params(labelleft=False)
    axes[0].set_xlabel("time of a step / AdamW's (logarithmic)")
    axes[1].set_xlabel("optimizer state (bytes a parameter)")
    figure_style.panel_title(axes[0], "Ours, measured: time of a step, weights of ViT-S/16")
    figure_style.panel_title(axes[1], "Ours, measured: optimizer state, weights of ViT-S/16")
