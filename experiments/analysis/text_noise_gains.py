"""Blocks of RESULTS.md on Lion's betas and its learning rate; see `text_tables`."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis import noise_gains
from experiments.analysis.markdown import NO_STUDY, table
from experiments.analysis.text_best_ratios import ratio, two_digits


def ratios(results: Path) -> str:
    """AdamW's best learning rate over Lion's for each pair of betas, and what was predicted."""
    found = noise_gains.table(results)
    if found.empty:
        return NO_STUDY
    pairs = found.drop_duplicates("gain").sort_values("gain")
    heads = [f"{_pair(item)}, G = {two_digits(item.gain)}" for item in pairs.itertuples()]
    lengths, rows = sorted(set(found.steps)), []
    for steps in lengths:
        for name, part in found[found.steps == steps].groupby("name", sort=False):
            cells = {item.gain: ratio(item, "lr") for item in part.itertuples()}
            rows.append((name, f"{steps:,}", *(cells.get(gain, "–") for gain in pairs.gain)))
    return f"{table(('family', 'steps', *heads), rows)}\n\n{_said(found, pairs, lengths)}"


def _pair(item: Any) -> str:
    return f"({item.beta1:g}, {'any' if item.beta1 == 0 else f'{item.beta2:g}'})"


def _said(found: pd.DataFrame, pairs: pd.DataFrame, lengths: list[int]) -> str:
    """The three predictions of the page, in their order, and how far the ratios lie from G."""
    new = found[(found.beta1 != noise_gains.OWN[0]) | (found.beta2 != noise_gains.OWN[1])]
    short, long = lengths[0], lengths[-1]
    told = found[found.steps == long].dropna(subset="lr_estimate")
    whole = [part.sort_values("gain") for _, part in told.groupby("name")]
    whole = [part for part in whole if len(part) == len(pairs)]
    ordered = sum(part.lr_estimate.is_monotonic_increasing for part in whole)
    means, of_each = zip(*(noise_gains.slopes(found, x) for x in (short, long)), strict=True)
    without = noise_gains.of_slope(noise_gains.slopes(new, long)[0])
    off = (told.lr_estimate / told.gain).groupby(told.gain).agg(noise_gains.geometric)
    beside = "; ".join(
        f"{two_digits(off[item.gain])} at {_pair(item)}"
        for item in pairs.itertuples()
        if item.gain in off
    )
    return (
        f"At {long:,} steps Lion's best learning rates fall in the order of the four G in "
        f"{ordered} of the {len(whole)} families where all four are known. Slope of the log of the "
        f"ratio on the log of G, mean over {len(of_each[1])} families (Student's over these): "
        f"{noise_gains.of_slope(means[1])} at {long:,} steps ({without} without the pair that was "
        f"known), {noise_gains.of_slope(means[0])} at {short:,}. The ratio over G at {long:,} "
        f"steps, geometric mean of the families: {beside}."
    )


def walks(results: Path) -> str:
    """How far Lion came beside AdamW on the same gradients, early and late."""
    walked = noise_gains.walks(results)
    if walked.empty:
        return NO_STUDY
    best = noise_gains.best_ratios.all_lengths(noise_gains.best_ratios.table(results))
    own = (walked.beta1 == noise_gains.OWN[0]) & (walked.beta2 == noise_gains.OWN[1])
    lengths, rows = sorted(set(walked.steps)), []
    for item in best.drop_duplicates("experiment").itertuples():
        mine = walked[own & (walked.experiment == item.experiment)].set_index(["steps", "window"])
        tops = best[best.experiment == item.experiment].set_index("steps")
        cells = [_thirds(mine, steps, noise_gains.NARROW) for steps in lengths]
        cells.append(_thirds(mine, lengths[-1], noise_gains.WINDOW))
        cells += [_two_or_none(tops.lr_estimate.get(steps)) for steps in lengths]
        rows.append((item.name, *cells))
    narrow, wide = noise_gains.NARROW, noise_gains.WINDOW
    heads = (
        "family",
        *(f"walked in {narrow:,} steps, runs of {steps:,}: first, last third" for steps in lengths),
        f"walked in {wide:,} steps, runs of {lengths[-1]:,}: first, last third",
        *(f"AdamW's best lr / Lion's, {steps:,} steps" for steps in lengths),
    )
    return table(heads, rows) + f"\n\n{_later(walked[own], lengths)}"


def _thirds(mine: pd.DataFrame, steps: int, window: int) -> str:
    if (steps, window) not in mine.index:
        return "–"
    return "; ".join(two_digits(mine.loc[(steps, window), x]) for x in ("first", "last"))


def _two_or_none(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else two_digits(value)


def _later(walked: pd.DataFrame, lengths: list[int]) -> str:
    """Geometric means over the families."""
    means = walked.groupby(["steps", "window"])[["first", "last"]].agg(noise_gains.geometric)
    said = [
        f"{_thirds(means, steps, window).replace('; ', ' to ')} in windows of {window:,} of the "
        f"runs of {steps:,} steps"
        for steps in lengths
        for window in (noise_gains.NARROW, noise_gains.WINDOW)
        if (steps, window) in means.index
    ]
    return f"Geometric means of the families, first to last third: {'; '.join(said)}."


BLOCKS = {"noise_gains": ratios, "noise_gains_walks": walks}
