"""Claims that a benchmark or a page here answers, and claims on the landscape of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import yaml

from experiments.analysis.claims.evidence import (
    CONTRADICTED,
    INCONCLUSIVE,
    MEASURED,
    SUPPORTED,
    Evidence,
    Finding,
    is_larger,
    is_within,
)
from experiments.analysis.statistics.difference import of_pairs
from experiments.analysis.statistics.tuning_luck import error_of, of_optimizers
from experiments.rounded import ends, with_signs
from experiments.store import UserError

PAPERS_GAP = 0.75 - 0.61
"""Nats between the training losses of the paper's two optimizers: the effect that is asked for."""


def state_memory(evidence: Evidence) -> Finding:
    """Bytes of optimizer state per weight, Lion over AdamW, both in 32 bit."""
    ratios = []
    for bench in evidence.benchmarks():
        rows = [r for r in bench["rows"] if "state_bytes_per_param" in r]
        lion = [r["state_bytes_per_param"] for r in rows if _is_ours(r["name"])]
        adamw = [r["state_bytes_per_param"] for r in rows if r["name"].startswith("AdamW")]
        if lion and adamw:
            ratios.append(max(lion) / max(adamw))
    finding = _measured(ratios, "optimizer state per weight, Lion / AdamW", "ratio")
    return replace(finding, verdict=is_within(finding.low, finding.high, (0.49, 0.51)))


def step_speed(evidence: Evidence) -> Finding:
    """Whole training step (forward, backward, optimizer), the fastest path of each."""
    gains, names = [], []
    for bench in evidence.benchmarks():
        rows = [r for r in bench["rows"] if "whole_step_ms" in r]
        lion = [r["whole_step_ms"] for r in rows if _is_ours(r["name"])]
        adamw = [r["whole_step_ms"] for r in rows if r["name"].startswith("AdamW")]
        if lion and adamw:
            gains.append(100 * (min(adamw) / min(lion) - 1))
            names.append(bench["file"])
    finding = _measured(gains, "training steps per second, Lion over AdamW", "% faster")
    note = f"median; {finding.note}; {', '.join(names)}; not the paper's hardware"
    return replace(finding, verdict=is_within(finding.low, finding.high, (2, 15)), note=note)


def _is_ours(name: str) -> bool:
    """Our Lion as it is, its state in the parameters' own type: no variant measured beside it."""
    return name.startswith("Lion (ours") and not any(v in name for v in ("momentum", "wrapper"))


def _measured(values: list[float], measure: str, unit: str) -> Finding:
    if not values:
        raise UserError("results/bench/lion_*.json have no rows for this: measure them anew")
    low, high = min(values), max(values)
    note = "low and high: smallest and largest of the files, no interval"
    middle = float(np.median(values))
    return Finding(measure, middle, low, high, len(values), unit, "", MEASURED, note=note)


def num_settings(evidence: Evidence) -> Finding:
    """Lion's page has no epsilon and no factorisation settings; the others' pages have."""
    pages = {
        n: yaml.safe_load(evidence.page("optimizer", n)) for n in ("lion", "adamw", "adafactor")
    }
    keys = {  # a null says how to store or compute, by default, and is not tuned
        n: {k for k, value in page.items() if not k.startswith("_") and value is not None}
        for n, page in pages.items()
    }
    extra = keys["lion"] & {"eps", "epsilon", "min_dim_size_to_factor", "decay_rate"}
    text = ", ".join(f"{n} {len(found)}" for n, found in keys.items())
    number = float(len(keys["lion"]))
    verdict = CONTRADICTED if extra or number >= len(keys["adamw"]) else SUPPORTED
    note = f"settings on the pages in conf/optimizer: {text}; follows from the rule"
    return Finding(
        "settings of Lion", number, number, number, 1, "settings", verdict, MEASURED, note=note
    )


def higher_train_loss(evidence: Evidence) -> Finding:
    """Without noise; a second proxy, where it was measured, stands in the note."""
    found = _noise_difference(evidence.noise(), "none", 0.0, sign=1)
    also = [
        f"{name}: {with_signs(other.estimate, other.low, other.high, 3)} (n = {other.n})"
        for name, other in _on_others(evidence, "none", 0.0, sign=1)
    ]
    return replace(found, note="; ".join([found.note, *also]))


def flatter(evidence: Evidence) -> Finding:
    """Loss under the largest noise; the same for all weights, and relative to each filter's.

    The paper does not say which it is. Where the two kinds do not agree, neither decides.
    """
    table = evidence.noise()
    kinds = [kind for kind in ("sigma", "relative") if (table.noise == kind).any()]
    if not kinds:
        raise UserError("the landscape study has no loss under noise")
    found = [
        _noise_difference(table, kind, float(table[table.noise == kind].scale.max()), sign=-1)
        for kind in kinds
    ]
    first, *others = found
    notes = ["the paper states neither kind nor scale of its noise"]
    for kind in kinds:
        scale = float(table[table.noise == kind].scale.max())
        for name, other in _on_others(evidence, kind, scale, sign=-1):
            said = with_signs(other.estimate, other.low, other.high, 3)
            notes.append(f"{name}, {kind} {scale:g}: {said} (n = {other.n})")
    notes += [f"of {f.measure}: {f.note}" for f in others]
    notes += [f"{f.measure}: {with_signs(f.estimate, f.low, f.high, 3)}" for f in others]
    agree = {finding.verdict for finding in found} == {first.verdict}
    if not agree:
        by_kind = ", ".join(f"{k} {f.verdict}" for k, f in zip(kinds, found, strict=True))
        notes.insert(0, f"the kinds of noise do not agree ({by_kind}), so neither decides")
    return replace(
        first,
        verdict=first.verdict if agree else INCONCLUSIVE,
        seeds_to_decide=first.seeds_to_decide if agree else float("nan"),
        note="; ".join([*filter(None, [first.note]), *notes]),
    )


def _noise_difference(table: pd.DataFrame, noise: str, scale: float, sign: int) -> Finding:
    rows = table[(table.noise == noise) & np.isclose(table.scale, scale)]
    if rows.duplicated(["optimizer", "seed"]).any():
        raise UserError("the landscape study has several runs of one optimizer and seed: keep one")
    wide = rows.pivot(index="seed", columns="optimizer", values="loss")
    if not {"lion", "adamw"} <= set(wide):
        raise UserError("the landscape study needs runs of lion and adamw")
    which = "Lion - AdamW" if sign > 0 else "AdamW - Lion"
    pair = (wide.lion, wide.adamw) if sign > 0 else (wide.adamw, wide.lion)
    pairs = pd.DataFrame({"ours": pair[0], "theirs": pair[1]})
    at = "" if noise == "none" else f" under noise of {noise} {scale:g}"
    return _at_settings(pairs, f"training loss{at}, {which}")


def _at_settings(pairs: pd.DataFrame, measure: str) -> Finding:
    """Of runs of one pick each, whose own seeds may have picked it: with the luck of tuning.

    As of fresh seeds, nothing is decided where the interval of the optimizers holds 0.
    """
    found = of_pairs(pairs)
    values = pairs.ours.to_numpy(), pairs.theirs.to_numpy()
    low, high = of_optimizers(found, *values)
    note = f"at the settings found; of the optimizers {ends(low, high, 3, signed=True)}"
    luck = error_of(*values) if found.n > 1 else 0.0
    said = is_larger(found, measure, "nats", note, effect=PAPERS_GAP, luck=luck)
    if said.verdict == INCONCLUSIVE or low > 0 or high < 0:
        return said
    said = replace(said, verdict=INCONCLUSIVE)
    return replace(said, note=f"{note}; shown at the settings found only")


def _on_others(
    evidence: Evidence, noise: str, scale: float, sign: int
) -> Iterator[tuple[str, Finding]]:
    """The same on the other proxies where it was measured."""
    for name, table in evidence.other_noises().items():
        if ((table.noise == noise) & np.isclose(table.scale, scale)).any():
            yield name, _noise_difference(table, noise, scale, sign)


CHECKS: dict[str, Callable[[Evidence], Finding]] = {
    "C001": state_memory,
    "C003": step_speed,
    "C053": num_settings,
    "C062": higher_train_loss,
    "C063": flatter,
}
"""Claim id -> what was measured here."""
