"""The verdict for programs: one line of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from experiments.compare.plan import Judged, Result
from experiments.compare.spoken import raw_interval
from experiments.compare.verdict import Words


def as_json(result: Result, words: Words, seconds: float, remarks: Sequence[str] = ()) -> str:
    """The verdict on the first contestant as one line, with what to beware of.

    With several contestants, `comparisons` has one entry for each, the first one's, too.
    """
    rows = [_row(result, judged, words, seconds) for judged in result.judged]
    others = {"comparisons": rows} if len(rows) > 1 else {}
    return json.dumps(rows[0] | {"remarks": list(remarks)} | others)


def _row(result: Result, judged: Judged, words: Words, seconds: float) -> dict[str, Any]:
    found, beside = judged.interval, judged.beside
    lr, decay = judged.ratios
    raw: dict[str, Any] = dict.fromkeys(
        ("difference", "low", "high", "low_settings", "high_settings", "n")
    )
    if found is not None:
        raw["difference"], raw["low"], raw["high"] = raw_interval(
            result, found.mean, found.low, found.high
        )
        _, raw["low_settings"], raw["high_settings"] = raw_interval(
            result, found.mean, found.low_settings, found.high_settings
        )
        raw["n"] = min(found.n_ours, found.n_theirs)
    pick, base = (result.tuned[who.name].pick for who in (judged.contestant, result.plan.baseline))
    loss = beside if "loss" in words.beside.lower() else None
    row = {
        "verdict": judged.verdict,
        "reason": judged.reason,
        "optimizer": judged.contestant.name,
        "baseline": result.plan.baseline.name,
        **raw,
        "unit": words.unit,
        "metric": words.metric,
        "better": result.plan.better,
        "margin": result.margin,
        "within_margin": found is not None
        and -result.margin < found.low_wide
        and found.high_wide < result.margin,
        "tau": result.tau,
        "sd": result.sd,
        "lr": pick.lr,
        "weight_decay": pick.weight_decay,
        "baseline_lr": base.lr,
        "baseline_weight_decay": base.weight_decay,
        "lr_ratio": lr.value,
        "lr_ratio_low": lr.low,
        "lr_ratio_high": lr.high,
        "weight_decay_ratio": decay.value,
        "weight_decay_ratio_low": decay.low,
        "weight_decay_ratio_high": decay.high,
        "diverged": {judged.contestant.name: judged.lost[0],
                     result.plan.baseline.name: judged.lost[1]},
        "looks": judged.looks,
        "trials": result.budget,
        "beside": words.beside or None,
        "beside_difference": beside.mean if beside else None,
        "beside_low": beside.low if beside else None,
        "beside_high": beside.high if beside else None,
        "loss_difference": loss.mean if loss else None,
        "loss_low": loss.low if loss else None,
        "loss_high": loss.high if loss else None,
        "seconds": seconds,
    }  # fmt: skip
    return {k: _round(v) for k, v in row.items()}


def _round(value: Any) -> Any:
    """Six digits are plenty, and NaN has no place in JSON."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
