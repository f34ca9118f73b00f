"""A block of RESULTS.md on Lion's betas, tuned on one seed and compared on fresh ones."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.analysis.confirmed import corrected, judged, mean_of
from experiments.analysis.markdown import NO_STUDY, mean, table
from experiments.analysis.sources import study
from experiments.analysis.statistics.comparison import choose
from experiments.analysis.text_confirmed import HEADS, cells
from experiments.analysis.text_since_2023 import SAID, setting

PAGE, STUDY = "vit_signals_proxy", "betas"
DEFAULT = "0.9, 0.99"


def betas_signals(results: Path) -> str:
    """Each pair against Lion's own, on fresh seeds; Holm over the pairs."""
    tuning, fresh = (study(f"{STUDY}{end}", results, PAGE) for end in ("", "_fresh"))
    if tuning is None or fresh is None:
        return NO_STUDY
    tuning, fresh = _by_pair(tuning), _by_pair(fresh)
    # single betas first, then by size
    pairs = sorted(set(tuning.optimizer) - {DEFAULT}, key=lambda p: (len(set(p.split(", "))), p))
    found = corrected(pd.DataFrame([judged(tuning, fresh, pair, DEFAULT) for pair in pairs]))
    rows = [
        (str(r.ours), *_picked(tuning, fresh, str(r.ours)), *cells(r, 2, SAID), str(r.n))
        for r in found.itertuples()
    ]
    rows.append((f"{DEFAULT} (Lion's)", *_picked(tuning, fresh, DEFAULT), *[""] * len(HEADS), ""))
    against = f"minus {DEFAULT}, points {HEADS[0]}"
    heads = ("betas", "lr; weight decay", "test %, mean ± s.e.", against, *HEADS[1:], "n")
    return table(heads, rows)


def _by_pair(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, with their betas as the name of the optimizer."""
    names = [f"{a:g}, {b:g}" for a, b in zip(runs.beta1, runs.beta2, strict=True)]
    return runs.assign(optimizer=names)


def _picked(tuning: pd.DataFrame, fresh: pd.DataFrame, pair: str) -> tuple[str, str]:
    """The setting, and what it gives on fresh seeds."""
    try:
        pick = choose(tuning, pair)
    except ValueError:
        return "none finished", "–"
    return setting(pick), mean(*mean_of(fresh, pair))
