"""Small language models: perplexity curves, masked models on C4, and our small ones.

Source: section 4.4 of arXiv:2302.06675.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import curve_panels, figure_style, fresh_panels
from experiments.analysis.sources import RESULTS, paper
from experiments.analysis.tuned import title

TITLE = "Language models: perplexity (lower is better)"
CAPTION = (
    "Paper: arXiv:2302.06675. Left and middle: log perplexity (the base is not stated), digitised "
    "from the published figure, uncertainty 0.001 to 0.007 (band, thinner than the line); pale: "
    "under a legend or an arrow. Arrow, × sooner: Lion, in the middle of its schedule, first "
    "reaches AdamW's last value (which an arrow hides: about ± 0.1 ×). Right: final perplexity of "
    "masked models, from the text (rounding 0.005). One run each. Every panel has a scale of its "
    "own."
)
SIZES = ("small", "medium", "large")
OURS = ("lm_proxy", "mlm_proxy", "t5_proxy")
COUNTED = {1: "single characters", 2: "pairs", 3: "triples"}
"""Entropies of counted characters that a model of text should beat, by their length."""


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Columns origin, dataset, model_size, optimizer, metric, step, value, uncertainty, quality.

    `metric` is log_perplexity along the steps, or validation_perplexity at the end (no step); of
    ours (origin proxy, with experiment and n) it is validation, by the headline.
    """
    causal = paper("lm_curves", results).rename(columns={"log_perplexity": "value"})
    causal["metric"] = "log_perplexity"
    masked = paper("mlm_c4", results).assign(uncertainty=0.005, quality="ok")
    both = pd.concat([causal, masked], ignore_index=True)
    columns = ["dataset", "model_size", "optimizer", "metric", "step", "value", "uncertainty"]
    both = both[[*columns, "quality"]].assign(origin="paper")
    ours = [fresh_panels.tidy(fresh_panels.read(results, e), "validation") for e in OURS]
    return pd.concat([both, *(rows for rows in ours if len(rows))], ignore_index=True)


def draw(results: Path = RESULTS) -> Figure:
    """Two panels of curves, one of final values; below ours, where run."""
    values = table(results)
    values = values[values.origin == "paper"]
    every = {name: fresh_panels.read(results, name) for name in OURS}
    found = {name: one for name, one in every.items() if one is not None}
    caption = f"{CAPTION} {fresh_panels.caption(list(found.values()), 'below')}"
    if found and len(found) < len(OURS):
        caption += f" Not run yet: {', '.join(name for name in OURS if name not in found)}."
    size, heights = ((14.5, 9.6), [1, 0.8]) if found else ((14.5, 5.0), [1])
    figure, axes = figure_style.canvas(TITLE, caption, size, [1.1, 1.1, 0.9], heights)
    if found:
        _ours(axes[1], found, results)
    for axis, dataset in zip(axes[0], ("Wiki-40B", "PG-19"), strict=False):
        _curves(axis, values[(values.dataset == dataset) & values.step.notna()])
        curve_panels.finish(axis, dataset, "log perplexity")
    _masked(axes[0, 2], values[values.step.isna()])
    return figure


def _ours(axes: Any, found: dict[str, fresh_panels.Fresh], results: Path) -> None:
    """One panel for each of `OURS` that has been run, from the left."""
    entropies = pd.read_csv(results / "studies" / "lm_proxy" / "kjv_entropies.csv")
    entropies = entropies[entropies.split == "val"].set_index("n").nats
    counted = [(word, float(entropies[n])) for n, word in COUNTED.items()]
    labels = {
        "lm_proxy": ("nats per character", counted),
        "mlm_proxy": ("nats per hidden character", counted[:2]),
        "t5_proxy": ("nats per token of the answer", []),
    }
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    for axis, (name, one) in zip(axes, found.items(), strict=False):
        fresh_panels.panel(axis, one, f"validation, {labels[name][0]}", labels[name][1])
        heading = title(one.runs).replace(" (", "\n(").replace(" parameters", " weights")
        figure_style.panel_title(axis, heading)  # the longest would be cut by the edge


def _curves(axis: Any, points: pd.DataFrame) -> None:
    ends = []
    for size, of_size in points.groupby("model_size"):
        both = {name: of_size[of_size.optimizer == name] for name in ("AdamW", "Lion")}
        for name, mine in both.items():
            curve_panels.curve(axis, mine, name, width=1.7)
        ratio = curve_panels.mark_reach(axis, both["Lion"], both["AdamW"])
        for name, mine in both.items():
            sooner = f": {ratio:.1f} × sooner" if name == "Lion" and ratio else ""
            end = curve_panels.last(mine)
            ends.append((end, f"{name} {size}{sooner}", figure_style.colour_of(name)))
    axis.margins(y=0.04)
    axis.autoscale_view()
    figure_style.end_labels(axis, ends, gap=0.052, size=9)


def _masked(axis: Any, finals: pd.DataFrame) -> None:
    places = {size: number for number, size in enumerate(SIZES)}
    for name, side in (("AdamW", 1), ("Lion", -1)):
        mine = finals[finals.optimizer == name]
        x = mine.model_size.map(places)
        colour = figure_style.colour_of(name)
        axis.plot(x, mine.value, color=colour, linestyle=figure_style.dash_of(name), marker="o")
        for place, value in zip(x, mine.value, strict=True):
            axis.annotate(f"{value:.2f}", (place, value), xytext=(8 * side, 5 * side),
                          textcoords="offset points", va="center",
                          ha="left" if side > 0 else "right", fontsize=9,
                          color=colour)  # fmt: skip
    axis.set_xticks(range(len(SIZES)), SIZES)
    axis.margins(x=0.28, y=0.1)
    axis.set_xlabel("model size")
    axis.set_ylabel("perplexity")
    axis.grid(axis="y")
    ends = [(curve_panels.last(finals[finals.optimizer == n].assign(step=0)), n,
             figure_style.colour_of(n)) for n in ("AdamW", "Lion")]  # fmt: skip
    figure_style.panel_title(axis, "C4, masked models, final")
    figure_style.end_labels(axis, ends)
