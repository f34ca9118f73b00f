"""Blocks of RESULTS.md on language, diffusion and rounding; see `text_tables`."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis import text_twice
from experiments.analysis.confirmed import both_intervals, corrected, judged, mean_of
from experiments.analysis.drawing.names import name_of
from experiments.analysis.markdown import NO_STUDY, mean, table
from experiments.analysis.sources import study
from experiments.analysis.statistics.comparison import Chosen, choose
from experiments.analysis.statistics.difference import of_pairs
from experiments.analysis.studies import read_study, study_path
from experiments.analysis.text_confirmed import HEADS, cells, gain, of_all, verdict, wide
from experiments.analysis.text_regimes import batch_size_signals, of_regimes, stronger
from experiments.headline import Direction, of_table

LANGUAGE = ("lm_proxy", "mlm_proxy", "t5_proxy")
DIFFUSION = ("diffusion_proxy",)
SAMPLES: dict[str, tuple[str, Direction, int]] = {
    "fd1k_ddim20": ("Fréchet distance", "lower", 3),
    "kd1k_ddim20": ("kernel distance (unbiased)", "lower", 3),
    "agreement1k_ddim20": ("recognised as the class asked for, points", "higher", 2),
}
"""What is told of 1,000 samples: its name, which way is better, digits."""
NEAR_POINTS = 2.0
"""How far below the best mean validation value a cell still counts as near it."""


def picks(results: Path, experiments: tuple[str, ...]) -> str:
    """What was picked on some seeds, and how it does on fresh ones; then the differences."""
    rows, said = [], []
    for experiment in experiments:
        tuning, fresh = (study(name, results, experiment) for name in ("tuning", "fresh"))
        if tuning is None or fresh is None:
            rows.append((f"`{experiment}`", NO_STUDY, *[""] * 6))
            continue
        digits = int(of_table(fresh).digits)
        for name in ("adamw", "lion"):
            rows.append(_row(experiment, choose(tuning, name), fresh, digits))
        said.append(_difference(experiment, tuning, fresh, digits))
    heads = ("", "", "lr", "weight decay", "betas", "validation, tuning seeds", "test, fresh seeds")
    return "\n\n".join([table((*heads, "n"), rows), *said])


def _row(experiment: str, picked: Chosen, fresh: pd.DataFrame, digits: int) -> tuple[str, ...]:
    edge = " (edge)" if picked.on_edge else ""
    betas = "" if picked.beta1 is None else f"{picked.beta1:g}, {picked.beta2:g}"
    validation = f"{picked.val_mean:.{digits}f}"
    test = mean(*mean_of(fresh, picked.optimizer), digits)
    n = (fresh.optimizer == picked.optimizer).sum()
    return (
        *(f"`{experiment}`", f"{name_of(picked.optimizer)}{edge}", f"{picked.lr:g}"),
        *(f"{picked.weight_decay:g}", betas, validation, test, f"{n}"),
    )


def _difference(experiment: str, tuning: pd.DataFrame, fresh: pd.DataFrame, digits: int) -> str:
    """Lion minus AdamW on fresh seeds, in one line."""
    headline, found = of_table(fresh), _judged(tuning, fresh)
    seeds = "seed" if tuning.seed.nunique() == 1 else "seeds"
    trials = choose(tuning, "lion").num_settings
    return (
        f"`{experiment}`, Lion − AdamW: {gain(found, digits)} {headline.points} of "
        f"{headline.report} {headline.metric} at the settings found, {wide(found, digits)} of the "
        f"optimizers ({headline.better} is better; {verdict(found)}; {trials} settings each on "
        f"{tuning.seed.nunique()} {seeds}, n = {found.n} fresh ones)."
    )


def _judged(tuning: pd.DataFrame, fresh: pd.DataFrame) -> pd.Series:
    """Lion minus AdamW: a row with `confirmed.COLUMNS`."""
    return pd.Series(judged(tuning, fresh, "lion", "adamw"))


def diffusion(results: Path) -> str:
    """The picks by their loss; then how the samples of the fresh runs end, which picked nothing."""
    said = [picks(results, DIFFUSION)]
    path = study_path(results, "fresh", DIFFUSION[0])
    if path is not None and path.with_name("curves.csv").exists():
        curves = pd.read_csv(path.with_name("curves.csv"))
        curves = curves.merge(read_study(path)[["run_id", "optimizer", "seed"]], on="run_id")
        ends = curves[(curves.step == curves.step.max()) & (curves.split == "samples")]
        said += _of_samples(ends[ends.metric.isin(list(SAMPLES))])
    return "\n\n".join(said)


def _of_samples(ends: pd.DataFrame) -> list[str]:
    """Lion minus AdamW in what samples are measured by, corrected over all of it."""
    measured = [metric for metric in SAMPLES if (ends.metric == metric).any()]
    if not measured:
        return []
    found = [_end(ends[ends.metric == metric], SAMPLES[metric][1]) for metric in measured]
    names, _, digits = zip(*(SAMPLES[metric] for metric in measured), strict=True)
    rows = corrected(pd.DataFrame(found)).assign(measure=names, digits=digits)
    told = [
        f"{row.measure} {gain(row, row.digits)}, of the optimizers {wide(row, row.digits)}, "
        f"p {row.p_holm:.2g}, {verdict(row)}"
        for row in rows.itertuples()
    ]
    first = (
        f"Of samples after the last step, Lion − AdamW at the settings found: {'; '.join(told)} "
        f"(n = {rows.n.min()}; p is Holm's over these {len(told)})."
    )
    return [first, *filter(None, [of_all(rows, lambda row: row.measure.partition(",")[0])])]


def _end(rows: pd.DataFrame, better: Direction) -> dict[str, Any]:
    """Lion minus AdamW of one metric, over paired seeds: what `corrected` takes."""
    wide = rows.pivot(index="seed", columns="optimizer", values="value")
    pairs = pd.DataFrame({"ours": wide.lion, "theirs": wide.adamw}).dropna()
    return {**both_intervals(of_pairs(pairs, better=better), pairs), "edges": ""}


def horizon(results: Path) -> str:
    """Runs of several lengths, each tuned: the picks on fresh seeds, and the differences."""
    tuning, fresh = (study(name, results, LANGUAGE[0]) for name in ("horizon", "horizon_fresh"))
    if tuning is None or fresh is None:
        return NO_STUDY
    digits, rows = int(of_table(fresh).digits), []
    parts = {int(steps): part for steps, part in tuning.groupby("steps")}
    ran = {steps: fresh[fresh.steps == steps] for steps in parts}
    found = corrected(pd.DataFrame([_judged(parts[steps], ran[steps]) for steps in parts]))
    for steps, row in zip(parts, found.itertuples(), strict=True):
        said = [_setting(choose(parts[steps], name)) for name in ("adamw", "lion")]
        said += [mean(*mean_of(ran[steps], name), digits) for name in ("adamw", "lion")]
        rows.append((f"{steps:,}", *said, *cells(row, digits), f"{row.n}"))
    heads = ("steps", "AdamW's pick", "Lion's pick", "AdamW, test", "Lion, test")
    return table((*heads, f"Lion − AdamW {HEADS[0]}", *HEADS[1:], "n"), rows)


def adafactor(results: Path) -> str:
    """Adafactor, the paper's baseline of large language models, and AdamW beside Lion."""
    tuning, fresh = (study(name, results, LANGUAGE[0]) for name in ("adafactor", "adafactor_fresh"))
    if tuning is None or fresh is None:
        return NO_STUDY
    headline, rows, others = of_table(fresh), [], ("adafactor", "adamw")
    digits = int(headline.digits)
    found = corrected(pd.DataFrame([judged(tuning, fresh, "lion", name) for name in others]))
    gains = {row.theirs: (*cells(row, digits), f"{row.n}") for row in found.itertuples()}
    for name in (*others, "lion"):
        picked = choose(tuning, name)
        setting = f"{picked.lr:g}; {picked.weight_decay:g}" + " (edge)" * picked.on_edge
        test = mean(*mean_of(fresh, name), digits)
        row = (name_of(name), setting, f"{picked.val_mean:.{digits}f}", test)
        rows.append((*row, *gains.get(name, [""] * (len(HEADS) + 1))))
    heads = ("`lm_proxy`", "lr; weight decay", "validation", "test, fresh seeds")
    against = f"Lion − it, {headline.points} {HEADS[0]}"
    return table((*heads, against, *HEADS[1:], "n"), rows)


def _setting(picked: Chosen) -> str:
    betas = "" if picked.beta1 is None else f"; {picked.beta1:g}, {picked.beta2:g}"
    edge = " (edge)" if picked.on_edge else ""
    return f"{picked.lr:g}; {picked.weight_decay:g}{betas}{edge}"


def rounding(results: Path) -> str:
    """The heatmap twice, with the kernels of two instruction sets: what rounding alone moves."""
    one, two = study("heatmap", results), study("heatmap_avx2", results)
    if one is None or two is None:
        return NO_STUDY
    setting = ["optimizer", "lr", "weight_decay"]
    both = one.merge(two[["run_id", "test"]], on="run_id", suffixes=("", "_two"))
    both = both.assign(gap=both.test_two - both.test).dropna(subset="gap")
    cells = one.groupby(setting).agg(val=("val", "mean"), spread=("test", "std"))
    near = cells.val > cells.groupby("optimizer").val.transform("max") - NEAR_POINTS
    is_near = both.set_index(setting).index.map(near).to_numpy()
    said = []
    for where, runs, of in (
        (f"In the cells within {NEAR_POINTS:g} points of the best", both[is_near], cells[near]),
        ("In the others, where training is unstable,", both[~is_near], cells[~near]),
    ):
        if runs.empty:
            continue
        same, seeds = int((runs.gap == 0).sum()), np.sqrt((of.spread**2).mean())
        said.append(
            f"{where} {same} of {len(runs)} runs end at the same test accuracy; the differences "
            f"have a standard deviation of {runs.gap.std():.2f} points (largest "
            f"{runs.gap.abs().max():.2f}), where seeds of one setting have {seeds:.2f}."
        )
    first = (
        f"{len(both)} runs of the heatmap were trained twice, with the kernels of AVX-512 and with "
        f"those of AVX2. {' '.join(said)}"
    )
    return "\n\n".join(filter(None, [first, text_twice.sentence(results)]))


BLOCKS: dict[str, Callable[[Path], str]] = {
    "language": lambda results: picks(results, LANGUAGE),
    "horizon": horizon,
    "adafactor": adafactor,
    "diffusion": diffusion,
    "rounding": rounding,
    "regimes": of_regimes,
    "stronger": stronger,
    "batch_size_signals": batch_size_signals,
}
"""Name of a block -> what makes it."""
