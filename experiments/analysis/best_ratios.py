"""By what factor Lion's best settings differ from AdamW's: on each proxy, batch size and length.

From the grids that tuned both, so of validation; the fits are in `statistics.best_settings`. The
paper's own advice: a learning rate 3 to 10 times smaller, a weight decay larger by as much.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from experiments.analysis.sources import RESULTS, study
from experiments.analysis.statistics.best_settings import BestRatio, fitted_ratios
from experiments.analysis.statistics.comparison import choose
from experiments.analysis.statistics.difference import CONFIDENCE
from experiments.analysis.studies import study_path
from experiments.rounded import ends, rounded

ADAMW, LION = "adamw", "lion"
PAPER = 3.0, 10.0
"""By what factor, as the paper advises (section 5)."""
TUNED = {
    ("vit_proxy", "heatmap"): "ViT, digits",
    ("vit_signals_proxy", "stronger"): "ViT, signals",
    ("pretrain_proxy", "tuning"): "ViT, pre-trained",
    ("lm_proxy", "tuning"): "causal language model",
    ("mlm_proxy", "tuning"): "masked language model",
    ("t5_proxy", "tuning"): "T5, fine-tuned",
    ("diffusion_proxy", "tuning"): "diffusion",
    ("lit_proxy", "tuning"): "image-text",
}
"""Studies that tuned each proxy at its own batch size and length, and what it is called."""
BATCHES = {
    ("mlp_proxy", "regimes"): "MLP",
    ("mlp_proxy", "tiny"): "MLP, 200 examples",
    ("cnn_proxy", "regimes"): "CNN",
    ("cnn_proxy", "tiny"): "CNN, 200 examples",
    ("lstm_proxy", "regimes"): "LSTM",
    ("bandit_proxy", "regimes"): "rewards only",
    ("verses_proxy", "regimes"): "sparse words",
    ("vit_signals_proxy", "batch_size"): "ViT, signals",
    ("vit_proxy", "batch_size"): "ViT, digits",
    ("lit_proxy", "batch_size"): "image-text",
}
"""Studies that tuned at several batch sizes, the number of epochs fixed."""
LENGTHS = {("lm_proxy", "horizon"): "causal language model"}
"""Studies that tuned at several lengths, the batch size fixed."""
PARTED = {
    ("mlp_proxy", "batch_and_steps"): "MLP",
    ("cnn_proxy", "batch_and_steps"): "CNN",
    ("lstm_proxy", "batch_and_steps"): "LSTM",
    ("verses_proxy", "batch_and_steps"): "sparse words",
}
"""Studies that tuned at every pair of a batch size and a number of steps."""
STEPS = {
    ("lm_proxy", "steps"): "causal language model",
    ("vit_proxy", "steps"): "ViT, digits",
    ("vit_signals_proxy", "steps"): "ViT, signals",
    ("bandit_proxy", "steps"): "rewards only",
}
"""Studies made to see whether the slope over the steps that `PARTED` has is there in others."""
LONG = {
    ("mlp_proxy", "long_runs"): "MLP",
    ("cnn_proxy", "long_runs"): "CNN",
    ("bandit_proxy", "long_runs"): "rewards only",
}
"""Studies of runs longer than those of `PARTED` and `STEPS`."""
BATCH = 4
"""The batch size that all studies of `PARTED`, `STEPS` and `LONG` have."""
KINDS = {
    "tuned": TUNED,
    "batch": BATCHES,
    "length": LENGTHS,
    "parted": PARTED,
    "steps": STEPS,
    "long": LONG,
}
ALONG = {
    "tuned": [],
    "batch": ["batch_size"],
    "length": ["steps"],
    "parted": ["batch_size", "steps"],
    "steps": ["steps"],
    "long": ["steps"],
}
NUMBERS = ("estimate", "low", "high", "reason")
MIN_SIZES = 3
"""Fewest batch sizes, or numbers of steps, that have a slope."""


def table(results: Path = RESULTS) -> pd.DataFrame:
    """A row for each part of a study that was tuned by itself.

    Returns:
        kind (of `KINDS`), experiment, study, name, label_noise, batch_size, steps (the most of a
        run), settings and seeds (of one optimizer); lr_estimate, lr_low, lr_high (AdamW's best over
        Lion's), lr_reason (why there is none), lr_picked (of the best cells themselves, where none
        lies on an edge), lr_adamw and lr_lion (the two best ones); decay_... and product_...
        (Lion's over AdamW's).
    """
    return _table(results, _state(results)).copy()


def _state(results: Path) -> tuple[tuple[str, int, int], ...]:
    """Of the files behind the table: it is made anew where one has changed."""
    paths = [study_path(results, name, page) for of in KINDS.values() for page, name in of]
    facts = [(path, path.stat()) for path in paths if path is not None]
    return tuple((str(path), of.st_mtime_ns, of.st_size) for path, of in facts)


@lru_cache(maxsize=4)
def _table(results: Path, _: tuple[tuple[str, int, int], ...]) -> pd.DataFrame:
    rows = []
    for kind, studies in KINDS.items():
        for (experiment, name), said in studies.items():
            runs = study(name, results, experiment)
            if runs is not None:
                fixed = {"kind": kind, "experiment": experiment, "study": name, "name": said}
                rows += [{**fixed, **row} for row in _rows(runs, ALONG[kind])]
    return pd.DataFrame(rows)


def _rows(runs: pd.DataFrame, along: list[str]) -> Iterator[dict[str, Any]]:
    runs = runs.loc[runs.optimizer.isin([ADAMW, LION])]
    by = [*along, *(["label_noise"] if "label_noise" in runs else [])]
    parts = [part for _, part in runs.groupby(by)] if by else [runs]
    for part in parts:
        part = _one_pair_of_betas(part)
        mine = part[part.optimizer == LION]
        yield {
            "label_noise": part.label_noise.iloc[0] if "label_noise" in part else 0.0,
            "batch_size": part.batch_size.iloc[0],
            "steps": part.steps.max(),
            "settings": len(mine[["lr", "weight_decay"]].drop_duplicates()),
            "seeds": mine.seed.nunique(),
            "lr_picked": _picked(part),
            **_ratios(part),
        }


def _picked(part: pd.DataFrame) -> float:
    theirs, ours = (choose(part, name) for name in (ADAMW, LION))
    return math.nan if theirs.on_edge or ours.on_edge else theirs.lr / ours.lr


def _one_pair_of_betas(runs: pd.DataFrame) -> pd.DataFrame:
    """The pair that validation picks, of each optimizer."""
    kept = []
    for name in (ADAMW, LION):
        mine, picked = runs[runs.optimizer == name], choose(runs, name)
        is_so = (mine.beta1 == picked.beta1) & (mine.beta2 == picked.beta2)
        kept.append(mine[is_so] if picked.beta1 is not None else mine)
    return pd.concat(kept, ignore_index=True)


def _ratios(part: pd.DataFrame) -> dict[str, Any]:
    found = fitted_ratios(part, ADAMW, LION)
    columns = {"lr": "lr", "decay": "weight_decay", "product": "effective_decay"}
    row = {}
    for short, column in columns.items():
        ratio = found[column] if short == "lr" else _turned(found[column])
        row |= {f"{short}_{name}": getattr(ratio, name) for name in NUMBERS}
    row |= {f"lr_{ADAMW}": found["lr"].over, f"lr_{LION}": found["lr"].under}
    return row


def _turned(ratio: BestRatio) -> BestRatio:
    """Lion's over AdamW's."""
    return BestRatio(1 / ratio.estimate, 1 / ratio.high, 1 / ratio.low, ratio.reason)


class Trend(NamedTuple):
    """By what factor lr(AdamW) / lr(Lion), say, changes with each doubling, of the batch say."""

    factor: float
    low: float  # 95 %: Student's over the families
    high: float
    of_families: dict[str, float]  # experiment: its own factor

    def __str__(self) -> str:
        """0.82 [0.76, 0.88], with as many digits as tell each from 1."""
        values = self.factor, self.low, self.high
        digits = next(d for d in range(2, 9) if d == 8 or all(round(x, d) != 1 for x in values))
        return f"{rounded(self.factor, digits)} {ends(self.low, self.high, digits)}"


def trends(
    ratios: pd.DataFrame, kind: str = "batch", column: str = "lr_estimate"
) -> dict[str, Trend]:
    """How the ratio of learning rates goes along what a kind of studies varies.

    Log ratio is linear in the logs of `ALONG`: fitted to each family (experiment) by least squares,
    with a height of its own for each curve (study, share of redrawn labels); then the mean over
    families. Of kind batch the number of epochs is fixed, so a larger batch also means fewer steps.

    Args:
        ratios: `table`.
        kind: batch, parted or steps.
        column: lr_estimate or lr_picked; or lr_adamw or lr_lion, for how these go themselves.

    Returns:
        By the names of `ALONG`; none where fewer than two families have slopes.
    """
    along = ALONG[kind]
    rows = ratios[(ratios.kind == kind) & ratios[column].notna()]
    slopes = {}
    for experiment, mine in rows.groupby("experiment"):
        if all(mine[name].nunique() >= MIN_SIZES for name in along):
            logs = np.log2(mine[[*along, column]].to_numpy(float))
            curves = mine.groupby(["study", "label_noise"]).ngroup().to_numpy()
            for curve in set(curves):
                logs[curves == curve] -= logs[curves == curve].mean(0)
            slopes[str(experiment)] = np.linalg.lstsq(logs[:, :-1], logs[:, -1])[0]
    if len(slopes) < 2:
        return {}
    return {
        name: _mean({family: float(all_of[place]) for family, all_of in slopes.items()})
        for place, name in enumerate(along)
    }


def all_lengths(ratios: pd.DataFrame) -> pd.DataFrame:
    """Rows of `PARTED` and `STEPS` at `BATCH`, as of kind steps."""
    rows = ratios[ratios.kind.isin(["parted", "steps"]) & (ratios.batch_size == BATCH)]
    return rows.assign(kind="steps")


def _mean(slopes: dict[str, float]) -> Trend:
    values = np.array(list(slopes.values()))
    reach = stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * stats.sem(values)
    middle = float(values.mean())
    return Trend(
        *(2.0**x for x in (middle, middle - reach, middle + reach)),
        {name: 2.0**slope for name, slope in slopes.items()},
    )
