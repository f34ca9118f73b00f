"""Blocks of RESULTS.md on where best settings lie; see `text_tables`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis import best_ratios, noise_gains, step_sizes
from experiments.analysis.markdown import NO_STUDY, table
from experiments.analysis.statistics.uncertainty import mean_interval
from experiments.rounded import ends, rounded

HEADS = (
    "proxy",
    "batch",
    "AdamW's lr / Lion's",
    "Lion's weight decay / AdamW's",
    "Lion's lr × weight decay / AdamW's",
    "settings × seeds",
)

LESS_THAN = 1.20, 1.10
"""What the page `sweep=long_runs` said before its runs: in each family, and on average."""


def tuned(results: Path) -> str:
    """Every proxy at its own batch size, and the causal model at several lengths."""
    found = best_ratios.table(results)
    if found.empty:
        return NO_STUDY
    rows = [_row(item) for item in found[found.kind.isin(["tuned", "length"])].itertuples()]
    return f"{table(HEADS, rows)}\n\n{_counted(found)}"


def _row(item: Any) -> tuple[str, ...]:
    name = f"{item.name} (`{item.experiment}`){_noise(item.label_noise)}"
    name += f", {item.steps:,} steps" if item.kind == "length" else ""
    ratios = [ratio(item, short) for short in ("lr", "decay", "product")]
    return (name, f"{item.batch_size}", *ratios, f"{item.settings} × {item.seeds}")


def _noise(share: float) -> str:
    return f", {100 * share:.0f} % of labels redrawn" if share else ""


def ratio(item: Any, short: str) -> str:
    reason = getattr(item, f"{short}_reason")
    if reason:
        return f"– ({reason})"
    middle, low, high = (
        two_digits(getattr(item, f"{short}_{x}")) for x in ("estimate", "low", "high")
    )
    return f"{middle} [{low}, {high}]"


def two_digits(value: float) -> str:
    """Two digits, and those before the point."""
    return rounded(value, 0 if value >= 10 else 1 if value >= 1 else 2)


def _counted(found: pd.DataFrame) -> str:
    told, decay = found[found.lr_reason == ""], found[found.decay_reason == ""]
    low, high = best_ratios.PAPER
    within = ((told.lr_estimate >= low) & (told.lr_estimate <= high)).sum()
    return (
        f"Of {len(found)} comparisons that were tuned by themselves (those of the next tables, "
        f"too) {len(told)} have a ratio of learning rates: {(told.lr_estimate > 1).sum()} "
        f"estimates lie above 1, {(told.lr_low > 1).sum()} intervals do, and {within} estimates "
        f"lie within {low:g} to {high:g}. {len(decay)} have a ratio of weight decays: "
        f"{(decay.decay_estimate > 1).sum()} estimates above 1, {(decay.decay_low > 1).sum()} "
        "intervals."
    )


def batches(results: Path) -> str:
    """The ratio of learning rates at each batch size, and how it falls."""
    found = best_ratios.table(results)
    if found.empty or not (found.kind == "batch").any():
        return NO_STUDY
    fits, picks = (
        best_ratios.trends(found, "batch", column).get("batch_size")
        for column in ("lr_estimate", "lr_picked")
    )
    rows = []
    keys = ["experiment", "study", "label_noise"]
    for _, part in found[found.kind == "batch"].groupby(keys, sort=False):
        experiment = str(part.experiment.iloc[0])
        name = f"{part.name.iloc[0]}{_noise(part.label_noise.iloc[0])}"
        cells = [f"{item.batch_size}: {_at(item)}" for item in part.itertuples()]
        rows.append((name, "; ".join(cells), _own(fits, experiment)))
    heads = ("family", "batch: AdamW's best lr / Lion's", "factor of a doubling, family")
    text = table(heads, rows)
    if fits and picks:
        text += (
            f"\n\nWith each doubling of the batch the ratio changes by a factor of {fits} "
            f"(mean over {len(fits.of_families)} families, Student's over these; of the best cells "
            f"themselves in place of fitted tops {picks})."
        )
    return text


def _own(found: best_ratios.Trend | None, experiment: str) -> str:
    known = {} if found is None else found.of_families
    return f"{known[experiment]:.2f}" if experiment in known else "–"


def steps(results: Path) -> str:
    """The ratio of learning rates at each pair of a batch size and a number of steps."""
    found = best_ratios.table(results)
    found = found[found.kind == "parted"] if len(found) else found
    if found.empty:
        return NO_STUDY
    lengths = sorted(set(found.steps))
    rows = []
    for _, part in found.groupby(["name", "batch_size"], sort=False):
        name, size = part.name.iloc[0], part.batch_size.iloc[0]
        by_length = {item.steps: ratio(item, "lr") for item in part.itertuples()}
        rows.append((f"{name}", f"{size}", *(by_length.get(length, "–") for length in lengths)))
    text = table(("family", "batch", *(f"{length:,} steps" for length in lengths)), rows)
    fits, picks = (
        best_ratios.trends(found, "parted", column) for column in ("lr_estimate", "lr_picked")
    )
    if fits and picks:
        text += (
            "\n\nWith each doubling of the batch, at as many steps, the ratio changes by a factor "
            f"of {fits['batch_size']} (of the best cells themselves "
            f"{picks['batch_size']}); with each doubling of the steps, at one batch size, "
            f"by {fits['steps']} ({picks['steps']}): means over "
            f"{len(fits['steps'].of_families)} families, Student's over these. {_of_each(found)}"
        )
    return text


def _of_each(found: pd.DataFrame) -> str:
    """How the best learning rates go themselves, along all that a kind of studies varies."""
    kind = str(found.kind.iloc[0])
    along = {"steps": "the steps", "batch_size": "the batch, at as many steps"}
    adamw, lion = (best_ratios.trends(found, kind, f"lr_{x}") for x in ("adamw", "lion"))
    said = [
        f"with each doubling of {words} AdamW's best learning rate changes by {adamw[name]}, "
        f"Lion's by {lion[name]}"
        for name, words in along.items()
        if name in adamw and name in lion
    ]
    return f"Each by itself: {'; '.join(said)}." if said else ""


def more_steps(results: Path) -> str:
    """Whether other families have the slope over the steps that was found in the first ones."""
    every = best_ratios.table(results)
    found = every[every.kind == "steps"] if len(every) else every
    if found.empty:
        return NO_STUDY
    fits = best_ratios.trends(found, "steps").get("steps")
    lengths = sorted(set(found.steps))
    rows, grown = [], []
    for experiment, part in found.groupby("experiment", sort=False):
        by_length = {item.steps: item for item in part.itertuples()}
        cells = [ratio(by_length[x], "lr") if x in by_length else "–" for x in lengths]
        rows.append((part.name.iloc[0], *cells, _own(fits, str(experiment))))
        first, last = (by_length.get(length) for length in (lengths[0], lengths[-1]))
        grown.append(bool(first and last and first.lr_estimate < last.lr_estimate))
    steps_of = [f"{length:,} steps" for length in lengths]
    text = table(("family", *steps_of, "factor of a doubling, family"), rows)
    if fits:
        text += (
            f"\n\nThe ratio is larger at {lengths[-1]:,} steps than at {lengths[0]:,} in "
            f"{sum(grown)} of {len(grown)} families. With each doubling of the steps it changes by "
            f"a factor of {fits}: mean over "
            f"{len(fits.of_families)} families, Student's over these. {_of_each(found)}"
        )
    of_both = best_ratios.all_lengths(every)
    if fits and (all_of := best_ratios.trends(of_both, "steps").get("steps")):
        text += (
            f"\n\nAll {len(all_of.of_families)} families, these and the first ones, at batch "
            f"{best_ratios.BATCH}: {all_of}. {_of_each(of_both)}"
        )
    return text


def long_runs(results: Path) -> str:
    """How the ratio goes on from the longest of the other studies."""
    every = best_ratios.table(results)
    found = every[every.kind == "long"] if len(every) else every
    if found.empty:
        return NO_STUDY
    before = best_ratios.all_lengths(every)
    first = before.steps.max()
    before = before[(before.steps == first) & before.experiment.isin(set(found.experiment))]
    both = pd.concat([before, found])
    lengths, rows, slopes = sorted(set(both.steps)), [], {}
    for experiment, part in both.groupby("experiment", sort=False):
        by_length = {item.steps: item for item in part.itertuples()}
        cells = [ratio(by_length[x], "lr") if x in by_length else "–" for x in lengths]
        ends_of = [by_length[x] for x in (lengths[0], lengths[-1]) if x in by_length]
        said = "–"
        if len(ends_of) == 2 and not any(math.isnan(x.lr_estimate) for x in ends_of):
            slopes[experiment] = slope, low, high = _doubling(*ends_of)
            said = f"{rounded(slope, 2)} {ends(low, high, 2)}"
        rows.append((part.name.iloc[0], *cells, said))
    steps_of = [f"{length:,} steps" for length in lengths]
    text = table(("family", *steps_of, "factor of a doubling"), rows)
    return f"{text}\n\n{_predicted(slopes, lengths)} {_besides(every, both, set(slopes))}"


def _doubling(first: Any, last: Any) -> tuple[float, float, float]:
    """Of the ratio, and about its interval: both ratios' own, by squares on each side."""
    doublings = math.log2(last.steps / first.steps)
    middle = math.log(last.lr_estimate / first.lr_estimate)
    down = math.hypot(*(math.log(a / b) for a, b in _sides(first, last)))
    up = math.hypot(*(math.log(a / b) for a, b in _sides(last, first)))
    return tuple(math.exp(x / doublings) for x in (middle, middle - down, middle + up))


def _sides(over: Any, under: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    return (over.lr_high, over.lr_estimate), (under.lr_estimate, under.lr_low)


def _predicted(slopes: dict[Any, tuple[float, float, float]], lengths: list[int]) -> str:
    """The two predictions of the page, in its order."""
    each, average = LESS_THAN
    middles = [middle for middle, _, _ in slopes.values()]
    logs = mean_interval([math.log(middle) for middle in middles])
    mean, low, high = (math.exp(x) for x in (logs.estimate, logs.low, logs.high))
    digits = next(d for d in range(2, 9) if d == 8 or round(mean, d) != average)
    is_less = "less" if mean < average else "not less"
    return (
        f"With each doubling from {lengths[0]:,} to {lengths[-1]:,} steps the ratio changes by "
        f"less than {each:.2f} in {sum(x < each for x in middles)} of {len(slopes)} families (by "
        f"its whole interval in {sum(high < each for _, _, high in slopes.values())}), and by a "
        f"factor of {rounded(mean, digits)} {ends(low, high, digits)}, geometric mean of these "
        f"(Student's over them): {is_less} than {average:.2f}."
    )


def _besides(every: pd.DataFrame, both: pd.DataFrame, families: set[Any]) -> str:
    """What the predictions have to be seen beside: the growth before, and the formula."""
    grown = best_ratios.trends(best_ratios.all_lengths(every), "steps").get("steps")
    known = {} if grown is None else grown.of_families
    before = [f"{rounded(known[x], 2)}" for x in dict.fromkeys(both.experiment) if x in known]
    last = both[both.experiment.isin(families) & (both.steps == both.steps.max())]
    gain = noise_gains.gain(*noise_gains.OWN)
    return (
        f"Up to {both.steps.min():,} steps it was {', '.join(before) or 'not known'} in the same "
        f"families. At {both.steps.max():,} the whole interval of the ratio lies above G, "
        f"{two_digits(gain)}, in {(last.lr_low > gain).sum()} of {len(last)}."
    )


def step_sizes_said(results: Path) -> str:
    """Lion's step over AdamW's, each at its best learning rate, along the length of a run."""
    found = step_sizes.table(results)
    if found.empty:
        return NO_STUDY
    lengths = sorted(set(found.steps))
    rows = []
    for name, part in found.groupby("name", sort=False):
        by_length = {item.steps: item for item in part.itertuples()}
        of_adamw = [f"{by_length[x].adamw:.2f}" if x in by_length else "–" for x in lengths]
        of_both = [
            two_digits(by_length[x].step_ratio)
            if x in by_length and not math.isnan(by_length[x].step_ratio)
            else "–"
            for x in lengths
        ]
        rows.append((name, "; ".join(of_adamw), *of_both))
    heads = (
        "family",
        f"AdamW's step / its learning rate, {', '.join(f'{x:,}' for x in lengths)} steps",
        *(f"Lion's best step / AdamW's, {length:,} steps" for length in lengths),
    )
    told = found.dropna(subset="step_ratio")
    means = told.groupby("steps").step_ratio.agg(lambda x: math.exp(x.map(math.log).mean()))
    along = "; ".join(f"{means[x]:.2f} at {x:,}" for x in lengths if x in means)
    return (
        f"{table(heads, rows)}\n\nAdamW's step is {found.adamw.min():.2f} to "
        f"{found.adamw.max():.2f} of its learning rate, Lion's {found.lion.min():.2f} to "
        f"{found.lion.max():.2f}. Lion's best step over AdamW's, geometric mean of the families: "
        f"{along}."
    )


def _at(item: Any) -> str:
    return f"– ({item.lr_reason})" if item.lr_reason else two_digits(item.lr_estimate)


BLOCKS = {
    "best_settings": tuned,
    "best_settings_batch": batches,
    "best_settings_steps": steps,
    "best_settings_more_steps": more_steps,
    "best_settings_long_runs": long_runs,
    "best_settings_step_sizes": step_sizes_said,
}
