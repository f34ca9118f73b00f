"""Blocks of RESULTS.md on flatness: loss under noise on the weights, and the Hessian's top."""

# pyright: reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.analysis.markdown import NO_STUDY, SAID, interval, table
from experiments.analysis.sources import noises
from experiments.analysis.statistics.difference import ALPHA, Difference, of_pairs
from experiments.analysis.statistics.tuning_luck import of_optimizers
from experiments.analysis.statistics.uncertainty import holm
from experiments.rounded import ends

SIGNALS = "vit_signals_proxy"
KINDS = {"none": "none", "sigma": "the same for all weights", "relative": "relative to the filter"}
DIGITS = 3
SAID_OF_RISE = {SAID["better"]: "Lion rises less", SAID["worse"]: "Lion rises more"}


def hessian(results: Path) -> str:
    """The largest eigenvalue of the Hessian on `vit_proxy`, both optimizers."""
    return _hessian(results, "vit_proxy")


def flatness_signals(results: Path) -> str:
    """Loss under each noise, how far it rises, and the Hessian's top on `vit_signals_proxy`.

    Holm's correction is over the rises, one for each kind and scale of the noise.
    """
    rows = noises(results).get(SIGNALS)
    if rows is None:
        return NO_STUDY
    clean = _wide(rows, "none", 0.0)
    scales = {kind: sorted(rows[rows.noise == kind].scale.unique()) for kind in KINDS}
    places = [(kind, scale) for kind in KINDS for scale in scales[kind]]
    rises: list[Difference | None] = []
    holds = []
    for kind, scale in places:
        is_noisy, rise = kind != "none", _wide(rows, kind, scale) - clean
        rises.append(_lower(rise) if is_noisy else None)
        holds.append(is_noisy and _holds(_lower(rise), rise))
    p = iter(holm([found.p_t for found in rises if found is not None]))
    lines = []
    for (kind, scale), rise, is_of_optimizers in zip(places, rises, holds, strict=True):
        wide = _wide(rows, kind, scale)
        means = [f"{wide[name].mean():.{DIGITS}f}" for name in ("adamw", "lion")]
        line = [KINDS[kind], f"{scale:g}" if scale else "", *means, interval(_lower(wide), DIGITS)]
        if rise is None:
            line += ["", "", ""]
        else:
            corrected = next(p)
            said = SAID[rise.verdict] if corrected < ALPHA else SAID["inconclusive"]
            told = SAID_OF_RISE.get(said, said)
            told += ", at these settings" if said in SAID_OF_RISE and not is_of_optimizers else ""
            line += [interval(rise, DIGITS), f"{corrected:.2g}", told]
        lines.append(line)
    heads = ("noise", "scale", "AdamW, nats", "Lion, nats", "Lion − AdamW [95 %]",
             "in the rise over no noise", "p (Holm)", "verdict")  # fmt: skip
    said = f"Training loss; n = {len(clean.dropna())} seeds, at the settings found."
    return "\n\n".join([table(heads, lines), said, _hessian(results, SIGNALS)])


def _wide(rows: pd.DataFrame, kind: str, scale: float) -> pd.DataFrame:
    """Losses by seed, a column for each optimizer."""
    mine = rows[(rows.noise == kind) & np.isclose(rows.scale, scale)]
    return mine.pivot(index="seed", columns="optimizer", values="loss")


def _lower(wide: pd.DataFrame) -> Difference:
    return of_pairs(pd.DataFrame({"ours": wide.lion, "theirs": wide.adamw}), better="lower")


def _holds(found: Difference, wide: pd.DataFrame) -> bool:
    """Whether the interval with the luck of tuning in it leaves out 0, too."""
    low, high = of_optimizers(found, wide.lion.to_numpy(), wide.adamw.to_numpy())
    return low > 0 or high < 0


def _hessian(results: Path, experiment: str) -> str:
    path = results / "studies" / experiment / "landscape" / "hessian.csv"
    if not path.exists():
        return NO_STUDY
    wide = pd.read_csv(path).pivot(index="seed", columns="optimizer", values="hessian_top")
    wide = wide[["adamw", "lion"]].dropna()
    found = of_pairs(pd.DataFrame({"ours": wide.lion, "theirs": wide.adamw}))
    larger = int((wide.lion > wide.adamw).sum())
    spans = {n: f"{wide[n].min():.0f} to {wide[n].max():.0f}" for n in ("lion", "adamw")}
    low, high = of_optimizers(found, wide.lion.to_numpy(), wide.adamw.to_numpy())
    of_both = f"of the optimizers {ends(low, high, 1).replace('-', '−')}"
    if found.reason:
        said = f"not shown ({found.reason})"
    else:
        said = "shown" if low > 0 or high < 0 else "shown at the settings found only"
    return (
        f"The top eigenvalue of the Hessian: {spans['lion']} for Lion's runs, {spans['adamw']} for "
        f"AdamW's; Lion's is larger in {larger} of {len(wide)} seeds, by {interval(found, 1)}, "
        f"{of_both}: {said}."
    )
