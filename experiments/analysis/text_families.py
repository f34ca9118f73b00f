"""Blocks of RESULTS.md on language, diffusion and rounding; see `text_tables`."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.analysis.drawing.names import name_of
from experiments.analysis.markdown import NO_STUDY, SAID, interval, table
from experiments.analysis.sources import study
from experiments.analysis.statistics.comparison import Chosen, choose, compare
from experiments.headline import of_table

LANGUAGE = ("lm_proxy", "mlm_proxy", "t5_proxy")
DIFFUSION = ("diffusion_proxy",)


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
            rows.append(_row(experiment, choose(tuning, name), choose(fresh, name), digits))
        said.append(_difference(experiment, tuning, fresh, digits))
    heads = ("", "", "lr", "weight decay", "betas", "validation, tuning seeds", "test, fresh seeds")
    return "\n\n".join([table((*heads, "n"), rows), *said])


def _row(experiment: str, picked: Chosen, ran: Chosen, digits: int) -> tuple[str, ...]:
    edge = " (edge)" if picked.on_edge else ""
    betas = "" if picked.beta1 is None else f"{picked.beta1:g}, {picked.beta2:g}"
    test = f"{ran.test_mean:.{digits}f} ± {ran.test_error:.{digits}f}"
    return (
        *(f"`{experiment}`", f"{name_of(picked.optimizer)}{edge}", f"{picked.lr:g}"),
        *(f"{picked.weight_decay:g}", betas, f"{picked.val_mean:.{digits}f}", test, f"{ran.n}"),
    )


def _difference(experiment: str, tuning: pd.DataFrame, fresh: pd.DataFrame, digits: int) -> str:
    """Lion minus AdamW on fresh seeds, in one line."""
    headline, found = of_table(fresh), compare(fresh, "lion", "adamw")
    edges = [name for name in ("adamw", "lion") if choose(tuning, name).on_edge]
    verdict = SAID["not tuned" if edges else found.verdict]
    seeds = "seed" if tuning.seed.nunique() == 1 else "seeds"
    trials = choose(tuning, "lion").num_settings
    return (
        f"`{experiment}`, Lion − AdamW: {interval(found, digits)} {headline.points} of "
        f"{headline.report} {headline.metric} ({headline.better} is better; {verdict}; {trials} "
        f"settings each on {tuning.seed.nunique()} {seeds}, n = {found.n} fresh ones)."
    )


def rounding(results: Path) -> str:
    """The heatmap twice, with the kernels of two instruction sets: what rounding alone moves."""
    one, two = study("heatmap", results), study("heatmap_avx2", results)
    if one is None or two is None:
        return NO_STUDY
    both = one.merge(two, on="run_id", suffixes=("", "_two")).dropna(subset=["test", "test_two"])
    gap = both.test_two - both.test
    within = both.groupby(["optimizer", "lr", "weight_decay"]).test.std()
    same = int((gap == 0).sum())
    text = (
        f"{len(both)} runs of the heatmap were trained twice, with the kernels of AVX-512 and with "
        f"those of AVX2: {same} of them end at the same test accuracy. The others differ by up to "
        f"{gap.abs().max():.2f} points; over all, the difference has a mean of {gap.mean():+.3f} "
        f"and a standard deviation of {gap.std():.2f} points, where seeds of one setting have "
        f"{np.sqrt((within**2).mean()):.2f} (root mean square)."
    )
    return text.replace(" -", " −")


BLOCKS: dict[str, Callable[[Path], str]] = {
    "language": lambda results: picks(results, LANGUAGE),
    "diffusion": lambda results: picks(results, DIFFUSION),
    "rounding": rounding,
}
"""Name of a block -> what makes it."""
