"""By what factor Lion's best learning rate is smaller than AdamW's, for four pairs of its betas.

Ours: `analysis.noise_gains`. Paper: its betas' ratio, as advised in section 5.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from experiments.analysis import best_ratios, noise_gains
from experiments.analysis.best_ratios import BATCH, PAPER
from experiments.analysis.drawing import dot_panels, figure_style, search_panels
from experiments.analysis.sources import RESULTS
from experiments.pages import script

TITLE = "Do Lion's betas say by how much its best learning rate is smaller than AdamW's?"
ADVICE = (
    "Paper: arXiv:2302.06675, section 5, transcribed: 3 to 10 times smaller, of (0.9, 0.99) and "
    "(0.95, 0.98) (shaded)."
)
OURS = (
    "Ours: a proxy in each panel, {families} families, a pale line each, batch {batch}; dark, "
    "their geometric mean. Dashed: the ratio is what the formula says for gradients of normal "
    "noise alone, G = sqrt(2 / pi) / sqrt((1 - beta1)^2 + beta1^2 (1 - beta2) / (1 + beta2)), or, "
    "third, how far Lion came beside AdamW on the same gradients in windows of {window:,} steps; "
    "crosses there: the sign of the last gradient alone. Tops are fitted, by validation. Slope of "
    "the log of the ratio on that of G, mean over the families: {slopes}; on that of what was "
    "walked: {walked}. Right: Lion's own betas over the length of a run, {lengths} families, dark "
    "those that were run longest."
)
COMMAND = f"{script('run')} -m experiment=mlp_proxy sweep=betas_and_steps"
TICKS = (0.3, 1, 3, 10, 30)
ENDS = 0.2, 60.0
PALE, DARK = "#9ecae1", "#0868ac"
DASHED: dict[str, Any] = {"color": "#888888", "linewidth": 1, "linestyle": (0, (5, 4)), "zorder": 1}


def table(results: Path = RESULTS) -> pd.DataFrame:
    """What `noise_gains.both` gives; then, of kind length, Lion's own betas at every length."""
    found = noise_gains.both(results)
    if found.empty:
        return found
    every = best_ratios.table(results)
    along = pd.concat([best_ratios.all_lengths(every), every[every.kind == "long"]])
    columns = [name for name in along if name in found]
    return pd.concat([found.assign(kind="betas"), along[columns].assign(kind="length")])


def draw(results: Path = RESULTS) -> Figure:
    """The ratios over G, short runs and long ones; then over what was walked."""
    found = table(results)
    if found.empty:
        return search_panels.not_run(TITLE, ADVICE, "no other betas have been tuned", COMMAND)
    found, along = (found[found.kind == kind] for kind in ("betas", "length"))
    lengths = sorted(set(found.steps))
    caption = f"{ADVICE} {_said(found, along, lengths)}"
    width, inches = 12.6, 3.1
    size = (width, inches + 0.4 + figure_style.caption_inches(caption, width))
    panels = len(lengths) + 2
    figure, (axes,) = figure_style.canvas(TITLE, caption, size, [1] * panels, [inches])
    for number, (axis, steps) in enumerate(zip(axes, lengths, strict=False)):
        _over_gain(axis, found[found.steps == steps])
        _finish(axis, f"{steps:,} steps", "G of Lion's betas", is_first=number == 0)
    _over_walked(axes[-2], found[found.steps == lengths[-1]])
    _finish(axes[-2], f"{lengths[-1]:,} steps", "walked by Lion / by AdamW", is_first=False)
    _over_steps(axes[-1], along)
    return figure


def _said(found: pd.DataFrame, along: pd.DataFrame, lengths: list[int]) -> str:
    slopes = [said for steps in lengths if (said := _slope(found, steps, "gain"))]
    return OURS.format(
        families=found.experiment.nunique(),
        batch=BATCH,
        window=noise_gains.WINDOW,
        slopes=", ".join(slopes) or "not known",
        walked=_slope(found, lengths[-1], "walked") or "not known",
        lengths=along.experiment.nunique(),
    )


def _slope(found: pd.DataFrame, steps: int, along: str) -> str:
    mean, of_each = noise_gains.slopes(found, steps, along)
    return f"{noise_gains.of_slope(mean)} at {steps:,} steps" if len(of_each) > 1 else ""


def _over_gain(axis: Any, rows: pd.DataFrame) -> None:
    for _, mine in rows.groupby("name"):
        told = mine.dropna(subset="lr_estimate").sort_values("gain")
        axis.plot(told.gain, told.lr_estimate, "o-", color=PALE, markersize=4.5, linewidth=1.2)
    means = np.exp(np.log(rows.set_index("gain").lr_estimate.dropna()).groupby("gain").mean())
    axis.plot(means.index, means, "o-", color=DARK, markersize=6.5, linewidth=2)
    pairs = rows.drop_duplicates("gain").sort_values("gain")
    for item in pairs.itertuples():
        name = noise_gains.pair_name(item.beta1, item.beta2)
        is_high = item.beta1 == 0  # where no line passes
        axis.annotate(name, (item.gain, ENDS[is_high]), xytext=(0, -5 if is_high else 5),
                      textcoords="offset points", rotation=90, fontsize=8, ha="center",
                      va="top" if is_high else "bottom", color=figure_style.FAINT)  # fmt: skip


def _over_walked(axis: Any, rows: pd.DataFrame) -> None:
    told = rows.dropna(subset=["walked", "lr_estimate"])
    signs = told.beta1 == 0
    axis.plot(told.walked[signs], told.lr_estimate[signs], "x", color=DARK, markersize=6)
    axis.plot(told.walked[~signs], told.lr_estimate[~signs], "o", color=DARK, markersize=5.5)


def _over_steps(axis: Any, rows: pd.DataFrame) -> None:
    most = rows.groupby("experiment").steps.max()
    longest = rows.experiment.map(most) == most.max()
    for is_dark, part in rows.groupby(longest):
        for _, mine in part.dropna(subset="lr_estimate").groupby("experiment"):
            mine = mine.sort_values("steps")
            axis.plot(mine.steps, mine.lr_estimate, "o-", color=DARK if is_dark else PALE,
                      markersize=4.5, linewidth=1.5 if is_dark else 1.2)  # fmt: skip
    axis.axhline(noise_gains.gain(*noise_gains.OWN), **DASHED)
    _ours(axis, "Lion (0.9, 0.99)")
    axis.set(xscale="log", xlabel="steps")
    lengths = sorted(set(rows.steps))
    axis.set_xticks(lengths, [f"{x / 1000:g}k" if x >= 1000 else f"{x}" for x in lengths])
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.tick_params(labelleft=False)


def _finish(axis: Any, name: str, label: str, *, is_first: bool) -> None:
    _ours(axis, name)
    axis.plot(ENDS, ENDS, **DASHED)
    axis.set(xscale="log", xlim=ENDS, xlabel=label)
    _ticks(axis.xaxis)
    axis.tick_params(labelleft=is_first)
    if is_first:
        axis.set_ylabel("AdamW's best lr / Lion's")


def _ours(axis: Any, name: str) -> None:
    dot_panels.as_proxy(axis)
    axis.axhspan(*PAPER, color="#dddddd", alpha=0.6, linewidth=0, zorder=0)
    axis.set(yscale="log", ylim=ENDS)
    _ticks(axis.yaxis)
    figure_style.panel_title(axis, f"Ours, proxy: {name}")


def _ticks(along: Any) -> None:
    along.set_major_locator(ticker.FixedLocator(TICKS))
    along.set_major_formatter(ticker.FormatStrFormatter("%g"))
    along.set_minor_locator(ticker.NullLocator())
