"""Blocks of RESULTS.md on Lion's betas and its learning rate; see `text_tables`."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis import best_ratios, noise_gains
from experiments.analysis.markdown import NO_STUDY, table
from experiments.analysis.text_best_ratios import ratio, two_digits
from experiments.rounded import rounded

NORMAL = noise_gains.gain(0.0, 0.0)
"""Density of normal numbers at 0, times their deviation, both sides."""
THIRDS = {"first": 1, "last": 3}


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
    without, averages = (
        noise_gains.of_slope(noise_gains.slopes(rows, long)[0])
        for rows in (new, found[found.beta1 > 0])
    )
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
        f"known, {averages} without the sign of one gradient), {noise_gains.of_slope(means[0])} "
        f"at {short:,}. The ratio over G at {long:,} steps, geometric mean of the families: "
        f"{beside}."
    )


def walks(results: Path) -> str:
    """How far Lion came beside AdamW on the same gradients, early and late, and on noise."""
    walked, parts = noise_gains.walks(results), noise_gains.parts(results)
    if walked.empty or parts.empty:
        return NO_STUDY
    walked, parts = _own(walked), _own(parts)
    best = best_ratios.all_lengths(best_ratios.table(results))
    lengths = sorted(set(walked.steps))
    short, long = (lengths[0], noise_gains.NARROW), (lengths[-1], noise_gains.WINDOW)
    rows = []
    for item in best.drop_duplicates("experiment").itertuples():
        mine, its_parts = (x[x.experiment == item.experiment] for x in (walked, parts))
        tops = best[best.experiment == item.experiment].set_index("steps").lr_estimate
        rows.append((item.name, *_cells(mine, its_parts, (short, long)), *_tops(tops, lengths)))
    rows.append(("geometric mean", *_cells(walked, parts, (short, long)), "", ""))
    noise = [noise_gains.walked_by_noise(*noise_gains.OWN, window) for _, window in (short, long)]
    density = rounded(NORMAL, 2)
    rows.append(("normal noise", *map(two_digits, noise), density, density, "", ""))
    heads = (
        "family",
        *(f"walked in {window:,} steps, runs of {steps:,}" for steps, window in (short, long)),
        *(f"density at 0, runs of {steps:,}" for steps in lengths),
        *(f"AdamW's best lr / Lion's, {steps:,} steps" for steps in lengths),
    )
    return f"{table(heads, rows)}\n\n{_as_noise(results, parts, long)}"


def _own(rows: pd.DataFrame) -> pd.DataFrame:
    beta1, beta2 = noise_gains.OWN
    return rows[(rows.beta1 == beta1) & (rows.beta2 == beta2)]


def _cells(walked: pd.DataFrame, parts: pd.DataFrame, of: Sequence[tuple[int, int]]) -> list[str]:
    """Of the first and the last third of the runs: walked, then the densities."""
    cells = []
    for steps, window in of:
        rows = walked[(walked.steps == steps) & (walked.window == window)]
        cells.append("; ".join(two_digits(noise_gains.geometric(rows[x])) for x in THIRDS))
    for steps, _ in of:
        rows = parts[parts.steps == steps]
        thirds = (rows[rows.third == third].density for third in THIRDS.values())
        cells.append("; ".join(two_digits(noise_gains.geometric(x)) for x in thirds))
    return cells


def _tops(tops: pd.Series, lengths: Sequence[int]) -> list[str]:
    found = [tops.get(steps, math.nan) for steps in lengths]
    return ["–" if math.isnan(value) else two_digits(value) for value in found]


def _as_noise(results: Path, parts: pd.DataFrame, long: tuple[int, int]) -> str:
    """How much smaller the average's noise is, beside independent noise; and the other betas."""
    walked, window = noise_gains.walks(results), noise_gains.NARROW
    beside = noise_gains.adamw_over_noise(results)
    mean_alone = window / noise_gains.adamw_by_noise(window)
    late = parts[(parts.steps == long[0]) & (parts.third == THIRDS["last"])].smaller
    independent = noise_gains.gain(*noise_gains.OWN) / NORMAL
    rows = walked[(walked.steps == long[0]) & (walked.window == long[1])]
    means = rows.groupby(["beta1", "beta2"]).walked.agg(noise_gains.geometric).reset_index()
    others = "; ".join(
        f"{two_digits(item.walked)} at {_pair(item)}"
        for item in means.itertuples()
        if (item.beta1, item.beta2) != noise_gains.OWN
    )
    return (
        f"First and last third of the runs; of Lion (0.9, 0.99). What its sign is taken of is "
        f"{two_digits(late.min())} to {two_digits(late.max())} times smaller than the gradient "
        f"(last third of {long[0]:,} steps; independent noise: {two_digits(independent)}). AdamW "
        f"came {two_digits(beside.min())} to {two_digits(beside.max())} times as far as noise "
        f"alone would take it in {window:,} steps, in every third of every run "
        f"({two_digits(mean_alone)} if the mean alone moved it). Other betas, walked in "
        f"{long[1]:,} steps of the whole runs of {long[0]:,}, geometric mean of the families: "
        f"{others}."
    )


BLOCKS = {"noise_gains": ratios, "noise_gains_walks": walks}
