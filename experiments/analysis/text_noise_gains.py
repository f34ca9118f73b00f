"""Blocks of RESULTS.md on Lion's betas and its learning rate; see `text_tables`."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis import best_ratios, noise_gains
from experiments.analysis.markdown import NO_STUDY, table
from experiments.analysis.statistics.uncertainty import mean_interval
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
    return noise_gains.pair_name(item.beta1, item.beta2)


def _said(found: pd.DataFrame, pairs: pd.DataFrame, lengths: list[int]) -> str:
    """The three predictions of the page, in their order; then what was looked at afterwards."""
    short, long = lengths[0], lengths[-1]
    told = found[found.steps == long]
    ordered, whole = _ordered(told, "lr_estimate", len(pairs))
    of_cells, _ = _ordered(told, "lr_picked", len(pairs))
    means, of_each = zip(*(noise_gains.slopes(found, x) for x in (short, long)), strict=True)
    say = noise_gains.of_slope
    return (
        f"Predicted: at {long:,} steps Lion's best learning rates fall in the order of the four G "
        f"in {ordered} of the {whole} families where all four are known. Slope of the log of the "
        f"ratio on the log of G, mean over {len(of_each[1])} families (Student's over these): "
        f"{say(means[1])} at {long:,} steps, {say(means[0])} at {short:,}.\n\n"
        f"Not predicted but looked at afterwards. The best cells themselves, in grids of steps of "
        f"2.5, have that order without a tie in {of_cells}. On the pairs that are known at both "
        f"lengths the slope is larger at {long:,} steps by "
        f"{say(noise_gains.growth(found, short, long))}. {_leaning(found, long)} "
        f"{_levels(found, pairs, lengths)} {_decay_ends(found)}"
    )


def _ordered(told: pd.DataFrame, column: str, pairs: int) -> tuple[int, int]:
    """In how many families ratios rise with G, each of them, and of how many."""
    parts = [part.sort_values("gain")[column] for _, part in told.groupby("name")]
    whole = [part for part in parts if part.count() == pairs]
    return sum(part.is_monotonic_increasing and part.is_unique for part in whole), len(whole)


def _leaning(found: pd.DataFrame, long: int) -> str:
    """What the slope becomes without a part of what it comes from."""
    of_each = noise_gains.slopes(found, long)[1]
    without = [(sum(of_each) - x) / (len(of_each) - 1) for x in of_each if len(of_each) > 1]
    averages = found[found.beta1 > 0]
    new, tops, cells, cell_averages = (
        noise_gains.of_slope(noise_gains.slopes(rows, long, of=of)[0])
        for rows, of in (
            (found[~noise_gains.is_own(found)], "lr_estimate"),
            (averages, "lr_estimate"),
            (found, "lr_picked"),
            (averages, "lr_picked"),
        )
    )
    data = noise_gains.by_data(found, long)
    return (
        f"At {long:,} steps it is {rounded(min(without, default=math.nan), 2)} to "
        f"{rounded(max(without, default=math.nan), 2)} without any one family, {new} without the "
        f"pair that was known, {tops} without the sign of one gradient; of the best cells {cells} "
        f"and {cell_averages}; over {data.n} data sets in place of families, which share them, "
        f"{noise_gains.of_slope(data)}."
    )


def _levels(found: pd.DataFrame, pairs: pd.DataFrame, lengths: list[int]) -> str:
    """How far the ratios lie from G: AdamW's learning rate is in this, and not in the slope."""
    told = found.dropna(subset="lr_estimate")
    logs = np.log(told.lr_estimate / told.gain)[told.steps == lengths[-1]]
    by_gain = [(item, logs[told.gain == item.gain]) for item in pairs.itertuples()]
    beside = "; ".join(f"{_level(part)} at {_pair(item)}" for item, part in by_gain if len(part))
    holds = ((told.lr_low <= told.gain) & (told.gain <= told.lr_high)).groupby(told.steps)
    held = ", ".join(
        f"{holds.sum()[steps]} of {holds.count()[steps]} at {steps:,} steps"
        for steps in reversed(lengths)
    )
    return (
        f"The ratio over G at {lengths[-1]:,} steps, geometric mean of the families: {beside}; "
        f"of all four {_level(logs.groupby(told.name).mean())}. The interval of a ratio holds G "
        f"in {held}."
    )


def _level(logs: pd.Series) -> str:
    mean = mean_interval(list(logs))
    low, high = (two_digits(math.exp(x)) for x in (mean.low, mean.high))
    return f"{two_digits(math.exp(mean.estimate))} [{low}, {high}]"


def _decay_ends(found: pd.DataFrame) -> str:
    new = found[~noise_gains.is_own(found)]
    counts = [(new.decay_end == end).sum() for end in ("smallest", "largest")]
    return (
        f"Of the {len(new)} best cells of the other betas {counts[0]} have the smallest weight "
        f"decay that was tried, {counts[1]} the largest."
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
    return rows[noise_gains.is_own(rows)]


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
    as_large = math.hypot(1, mean_alone / independent)
    by_length = " and ".join(
        f"{two_digits(value)} at {steps:,} steps"
        for steps, value in beside.groupby("steps").agg(noise_gains.geometric).items()
    )
    rows = walked[(walked.steps == long[0]) & (walked.window == long[1])]
    rows = rows[~noise_gains.is_own(rows)]
    means = rows.groupby(["beta1", "beta2"]).walked.agg(noise_gains.geometric).reset_index()
    others = "; ".join(f"{two_digits(x.walked)} at {_pair(x)}" for x in means.itertuples())
    return (
        f"First and last third of the runs; of Lion (0.9, 0.99). What its sign is taken of is "
        f"{two_digits(late.min())} to {two_digits(late.max())} times smaller than the gradient "
        f"(last third of {long[0]:,} steps; independent noise: {two_digits(independent)}). AdamW "
        f"came {two_digits(beside.min())} to {two_digits(beside.max())} times as far as noise "
        f"alone would take it in {window:,} steps, in every third of every run, "
        f"geometric mean {by_length} ({two_digits(mean_alone)} if the mean alone moved it, "
        f"{two_digits(as_large)} if the mean were as large as the noise left in Lion's average: "
        f"{(beside > as_large).sum()} of {len(beside)} thirds are beyond that). Other betas, "
        f"walked in {long[1]:,} steps of the whole runs of {long[0]:,}, geometric mean of the "
        f"families: {others}. {_ratios_on_walks(results, long[0])}"
    )


def _ratios_on_walks(results: Path, steps: int) -> str:
    """Whether AdamW's best learning rate over Lion's goes as what was walked."""
    found = noise_gains.both(results)
    every, averages = (
        noise_gains.of_slope(noise_gains.slopes(rows, steps, "walked")[0])
        for rows in (found, found[found.beta1 > 0])
    )
    told = found[found.steps == steps].dropna(subset=["walked", "lr_estimate"])
    over = (told.lr_estimate / told.walked).groupby([told.beta1, told.beta2])
    beside = "; ".join(
        f"{two_digits(value)} at {noise_gains.pair_name(beta1, beta2)}"
        for (beta1, beta2), value in over.agg(noise_gains.geometric).items()
    )
    return (
        f"The ratio over what was walked at {steps:,} steps, geometric mean of the families: "
        f"{beside}; the slope of their logs, as above on G, {every} ({averages} without the sign "
        f"of one gradient). {_ranks(results)}"
    )


def _ranks(results: Path) -> str:
    """Over the families, of Lion's own betas: ratio against walks, in whole runs and late."""
    best = best_ratios.all_lengths(best_ratios.table(results))
    own = _own(noise_gains.walks(results)).merge(
        best[["experiment", "steps", "lr_estimate"]].dropna(), on=["experiment", "steps"]
    )
    lengths = sorted(set(own.steps))
    windows = noise_gains.NARROW, noise_gains.WINDOW
    said = []
    for steps, window in zip((lengths[0], lengths[-1]), windows, strict=True):
        rows = own[(own.steps == steps) & (own.window == window)]
        whole, last = (
            rounded(rows[column].rank().corr(rows.lr_estimate.rank()), 2)
            for column in ("walked", "last")
        )
        said.append(f"{whole} at {steps:,} steps ({last} of the last thirds)")
    return (
        "Over the families, of (0.9, 0.99), the rank correlation of the ratio with what was walked "
        f"in whole runs is {', '.join(said)}; looked at afterwards."
    )


BLOCKS = {"noise_gains": ratios, "noise_gains_walks": walks}
