"""Who wins where: Lion minus AdamW over batch size, noise and kind of model, on small proxies.

Each cell of the map has a tuning study (validation picks a setting of each optimizer) and a study
of the picks on fresh seeds, which is what is compared.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# pyright: reportGeneralTypeIssues=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.analysis import fresh_pairs
from experiments.analysis.confirmed import wide_p
from experiments.analysis.fresh_pairs import DIVERGED as DIVERGED
from experiments.analysis.fresh_pairs import UNTESTED as UNTESTED
from experiments.analysis.sources import RESULTS, study
from experiments.analysis.statistics.difference import ALPHA, Difference, of_pairs
from experiments.analysis.statistics.tuning_luck import BEST_CELL, widened
from experiments.headline import of_table

FAMILIES = {
    "mlp_proxy": "MLP",
    "cnn_proxy": "CNN",
    "lstm_proxy": "LSTM",
    "bandit_proxy": "rewards only",
    "verses_proxy": "sparse words",
}
"""Experiments of the map, from top to bottom, and what their rows are called."""
KINDS = {"regimes": "", "tiny": "200 examples"}
"""Studies NAME (tuning) and NAME_fresh, and what is special about their data."""
STRONGER = {"vit_signals_proxy": "ViT"}, {"stronger": ""}
"""Families and studies of the comparison with true and redrawn labels on many signals."""
BATCHES = {"vit_signals_proxy": "ViT"}, {"batch_size": ""}
"""Likewise of the batch sizes on many signals."""
OURS, THEIRS = "lion", "adamw"
COLUMNS = (
    *("experiment", "family", "regime", "batch_size", "adamw", "lion", "difference", "low", "high"),
    *("wide_low", "wide_high", "n", "p_holm", "verdict", "holds", "edges", "loss_difference"),
    *("loss_low", "loss_high", "adamw_lr", "adamw_weight_decay", "lion_lr", "lion_weight_decay"),
    *("num_settings", "num_tuning_seeds"),
)


def table(
    results: Path = RESULTS,
    families: Mapping[str, str] = FAMILIES,
    kinds: Mapping[str, str] = KINDS,
) -> pd.DataFrame:
    """Every cell of the map that has been tuned.

    Args:
        results: Folder of the results.
        families: Experiments, and what they are called.
        kinds: Studies, and what is special about their data.

    Returns:
        `COLUMNS`: adamw and lion are test means over n fresh seeds; low and high bound the
        difference at the settings found (95 %), wide_low and wide_high that of the optimizers (with
        the luck of tuning). p_holm is corrected over the whole map. The verdict on Lion by it:
        better, worse, inconclusive, not tuned (`edges` says what lies on one), diverged (of the
        fresh runs), not run (no fresh runs). `holds`: the wide interval does not hold 0 either.
    """
    rows = []
    for experiment, family in families.items():
        for kind, special in kinds.items():
            tuning, fresh = (study(f"{kind}{end}", results, experiment) for end in ("", "_fresh"))
            if tuning is not None:
                rows += _cells({"experiment": experiment, "family": family}, special, tuning, fresh)
    return fresh_pairs.corrected(pd.DataFrame(rows, columns=list(COLUMNS)))


def counts(cells: pd.DataFrame) -> dict[str, int]:
    """In how many cells Lion is behind and ahead, by three standards, and the rest.

    Args:
        cells: `table`.

    Returns:
        behind, ahead: at the settings found, Holm's correction over the map. With _of_optimizers:
        of these, the wide interval does not hold 0. With _of_all: nor after Holm's correction over
        the wide intervals. not_shown, not_tuned.
    """
    judged = cells[cells.verdict.isin(["better", "worse", "inconclusive"])]
    stays = (wide_p(judged) < ALPHA).to_numpy()
    found = {}
    for name, verdict in (("behind", "worse"), ("ahead", "better")):
        is_so = (judged.verdict == verdict).to_numpy()
        found[name] = int(is_so.sum())
        found[f"{name}_of_optimizers"] = int((is_so & judged.holds.to_numpy(bool)).sum())
        found[f"{name}_of_all"] = int((is_so & stays).sum())
    found["not_shown"] = int((judged.verdict == "inconclusive").sum())
    found["not_tuned"] = int((cells.verdict == "not tuned").sum())
    return found


class Growth(NamedTuple):
    """How Lion minus AdamW grows with each doubling of the batch."""

    found: Difference  # at the settings found
    wide_low: float  # 95 %, with the luck of tuning at each size
    wide_high: float


def growth(results: Path, experiment: str, kind: str, above: int = 0) -> Growth | None:
    """How Lion minus AdamW grows with each doubling of the batch, per seed of the picks' runs.

    The luck of tuning is as in `tuning_luck.of_optimizers`, of each size by itself: with weights c
    of the sizes in the slope, sd^2 / n + luck^2 sum c^2 s^2, s the standard deviation of one run.

    Args:
        results: Folder of the results.
        experiment: Whose study.
        kind: The tuning study; the fresh runs are in KIND_fresh.
        above: Batch sizes up to this one are left out.

    Returns:
        The slope over log2(batch) of Lion's test value minus that of AdamW's, over paired seeds,
        and its interval of the optimizers. Not tuned, if a pick at any size lies on an edge. None
        where a size has not been compared (no fresh runs, or one diverged), or only one is left.
    """
    cells = table(results, {experiment: ""}, {kind: ""})
    cells = cells[cells.batch_size > above]
    fresh = study(f"{kind}_fresh", results, experiment)
    if fresh is None or len(cells) < 2 or not cells.n.all():
        return None
    fresh = fresh[fresh.batch_size.isin(cells.batch_size)]
    slopes, luck = {}, 0.0
    for name in (THEIRS, OURS):
        wide = fresh[fresh.optimizer == name].pivot(
            index="seed", columns="batch_size", values="test"
        )
        wide = wide.dropna()
        doublings = np.log2(wide.columns.to_numpy(float))
        slopes[name] = pd.Series(np.polyfit(doublings, wide.to_numpy().T, 1)[0], index=wide.index)
        weights = doublings - doublings.mean()
        weights = weights / (weights**2).sum()
        luck += BEST_CELL**2 * float((weights**2 * wide.var().to_numpy()).sum()) / 2
    edges = tuple(f"batch {c.batch_size}" for c in cells.itertuples() if c.verdict == "not tuned")
    pairs = pd.DataFrame({"ours": slopes[OURS], "theirs": slopes[THEIRS]})
    found = of_pairs(pairs, better=of_table(fresh).better, untuned=edges)
    return Growth(found, *widened(found, math.sqrt(luck)))


def _cells(
    whose: dict[str, str], special: str, tuning: pd.DataFrame, fresh: pd.DataFrame | None
) -> list[dict[str, Any]]:
    """One cell for each batch size and label noise of a study."""
    rows = []
    tuning = _with_noise(tuning)
    fresh = tuning.iloc[:0] if fresh is None else _with_noise(fresh)
    for (noise, size), part in tuning.groupby(["label_noise", "batch_size"]):
        mine = fresh[(fresh.label_noise == noise) & (fresh.batch_size == size)]
        redrawn = f"{100 * noise:g} % of labels redrawn" if noise else ""
        regime = ", ".join(filter(None, [special, redrawn])) or "true labels"
        cell = fresh_pairs.judge(part, mine, OURS, THEIRS)
        rows.append({**whose, "regime": regime, "batch_size": int(size), **cell})
    return rows


def _with_noise(runs: pd.DataFrame) -> pd.DataFrame:
    noise = runs.label_noise if "label_noise" in runs else pd.Series(0.0, runs.index)
    return runs.assign(label_noise=noise.fillna(0.0).astype(float))
