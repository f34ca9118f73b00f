"""A made-up study of program searches, as `scripts/search.py collect` writes it. Never a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from synthetic import NASTY

SHARES = {"cached %": 70.0, "dead %": 12.0, "invalid mutants %": 5.0,
          "redundant statements %": 40.0}  # fmt: skip
GAINS = {"laptop": 0.20, "constants": 0.12, "random": -0.08}
TRAINED = {"laptop": 4000, "constants": 16000, "random": 16000, "without_sign": 3000}
STRATEGIES = {"constants": "constants", "random": "random"}
TEXT = "def train(w, g, m, v, lr):\n  update = lr * g\n  return update, m, v\n"


def tables(
    gains: dict[str, float] | None = None,
    seeds: Sequence[int] = range(5),
    *,
    trained: dict[str, int] | None = None,
    shares: dict[str, float] | None = None,
    guided: bool = True,
    noise: float = 0.01,
) -> dict[str, pd.DataFrame]:
    """A study: three strategies on one proxy, and a damaged Lion on another.

    Args:
        gains: On fresh data, by arm.
        seeds: Of every arm.
        trained: Programs, by arm, without incumbents that are judged again.
        shares: In %, of evolution, over all of a search.
        guided: Whether mutations are other than the paper's.
        noise: Of the gains, over seeds.
    """
    random = np.random.default_rng(0)
    gains, trained = {**GAINS, **(gains or {})}, {**TRAINED, **(trained or {})}
    shares = {**SHARES, **(shares or {})}
    parts: dict[str, list[dict[str, Any]]] = {}
    for arm in (*GAINS, "without_sign"):
        for seed in seeds:
            head = {"search": f"{arm}-s{seed}-abc", "arm": arm, "seed": seed}
            spent = trained[arm] + int(random.integers(20))
            gain = gains.get(arm, 0.3) + noise * float(random.normal())
            rows = {
                "searches": [_search(arm, spent, guided)],
                "curves": list(_curve(spent, gain + 0.05, shares, random)),
                "finals": _finals(gain),
                "lineage": _lineage(),
                "sightings": _sightings(arm, random),
                "rediscovery": [_milestones(arm, seed)],
            }
            if arm == "laptop":
                rows |= {"funnel": _funnel(seed), "meta": list(_meta(seed, spent))}
            for name, of in rows.items():
                parts.setdefault(name, []).extend({**head, **row} for row in of)
    parts["ablation"] = list(_ablation())
    return {name: pd.DataFrame(rows) for name, rows in parts.items()}


def write(results: Path, study: dict[str, pd.DataFrame]) -> Path:
    """Writes a study below a folder of results."""
    folder = results / "studies" / "program_search"
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in study.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder


def _search(arm: str, spent: int, guided: bool) -> dict[str, Any]:
    other = arm == "without_sign"
    proxy = {"family": "mlp", "num_steps": 400} if other else {"family": "lm", "num_steps": 100}
    how = {"strategy": STRATEGIES.get(arm, "evolution"), "guided": guided, "state": "finished"}
    return {
        **how,
        **proxy,
        "programs": 5 * spent,
        "children": 5 * spent - 101,
        "trained": spent + 100,
        "rechecks": 100,
        "commit": NASTY,
        "cpu": "one",
    }


def _curve(spent: int, end: float, shares: dict[str, float], random: Any) -> Any:
    for point in range(1, 21):
        part = point / 20
        wobble = {name: min(99.9, value + random.normal()) for name, value in shares.items()}
        best = -np.inf if point == 1 else end * (1 - np.exp(-4 * part))
        yield {
            "told": int(5 * spent * part),
            "evaluated": int(spent * part),
            "best": best,
            **wobble,
        }


def _finals(gain: float) -> list[dict[str, Any]]:
    """The second finalist looks better on search data, the third fails on fresh data."""
    facts = {"standard_error": 0.01, "text": TEXT + NASTY, "n": 16}
    found = [("initial", None, 0.0), ("finalist", 0.2, gain + 0.02), ("finalist", 0.3, gain),
             ("finalist", 0.1, None)]  # fmt: skip
    return [
        {"number": 7 * n, "kind": kind, "on_search_data": on, "mean": mean, **facts}
        for n, (kind, on, mean) in enumerate(found)
    ]


def _lineage() -> list[dict[str, Any]]:
    steps = [
        ("initial program", 0.0),
        ("+ 1: m = tanh(g)", 0.1),
        ("- 2: v = v", 0.1),
        ("~ 3: update = m / v $ -> update = m * v " + 9 * NASTY, None),
        ("+ 2: v = g", 0.2),
    ]
    return [
        {"step": n, "number": 10 * n, "change": change, "fitness": fitness}
        for n, (change, fitness) in enumerate(steps)
    ]


def _sightings(arm: str, random: Any) -> list[dict[str, Any]]:
    count = {"without_sign": 12, "laptop": 2}.get(arm, 0)
    return [
        {"number": 3 * n, "is_exact": n % 2 == 0, "beta1_value": float(random.uniform(-0.5, 1.5)),
         "beta2_value": float(random.uniform(0, 1)),
         "fitness": None if n == 1 else float(random.normal(0, 0.2)), "text": TEXT}
        for n in range(count)
    ]  # fmt: skip


def _milestones(arm: str, seed: int) -> dict[str, Any]:
    """The damaged Lion is mended by even seeds, the others meet nothing."""
    row: dict[str, Any] = {"num_rounds": 16}
    for name, trained in (("sign_momentum", 30), ("two_averages", 40), ("as_good", 900)):
        is_met = arm == "without_sign" and seed % 2 == 0
        row |= {f"{name}_number": trained * 3 if is_met else None,
                f"{name}_trained": trained + seed if is_met else None}  # fmt: skip
    return row


def _funnel(seed: int) -> list[dict[str, Any]]:
    """One finalist of seed 0 comes through both gates; the others fail on the perceptron."""
    is_good = seed == 0
    gates = ("T1", "T2") if is_good else ("T1",)
    return [
        {"number": 7, "gate": gate, "promoted": is_good, "family": family,
         "mean": 0.1 if family == "lm" or is_good else None, "standard_error": 0.01, "n": 5}
        for gate in gates for family in ("lm", "mlp", "conv")
    ]  # fmt: skip


def _meta(seed: int, spent: int) -> Any:
    """Later onset, larger gain: seed k peaks elsewhere at the point k + 2 of 8."""
    for point in range(1, 9):
        elsewhere = 0.02 * (seed + 2) - 0.03 * abs(point - (seed + 2))
        for family, mean in (("lm", 0.02 * point), ("mlp", elsewhere), ("conv", elsewhere + 0.5)):
            yield {"told": 5 * spent * point // 8, "number": 7, "best": 0.03 * point,
                   "family": family, "mean": mean, "standard_error": 0.01, "n": 5}  # fmt: skip


def picks(study: dict[str, pd.DataFrame], gains: dict[str, float]) -> pd.DataFrame:
    """What each search picked, in four rounds of search data: the last has 0.1 nats more for all.

    Args:
        study: As `tables` makes it.
        gains: Means by arm; 0 of others.
    """
    found = study["searches"][["search", "arm", "seed"]].assign(number=14)
    rounds = [
        found.assign(round=n, fitness=found.arm.map(gains).fillna(0) - 0.025 + 0.1 * (n == 3))
        for n in range(4)
    ]
    return pd.concat(rounds, ignore_index=True)


def _ablation() -> Any:
    """Of two programs, three statements each: one is missed, one is not, without one it fails."""
    for program in ("found", "other"):
        for place, mean in enumerate((-0.3, 0.01, None)):
            for family in ("lm", "mlp", "conv"):
                yield {
                    **{"program": program, "family": family, "num_steps": 100, "place": place},
                    **{"statement": f"v = interp(g, v, 0.9{place}123456789)", "n": 8},
                    **{"instead": "v = g" if place else "", "mean": mean},
                    "standard_error": 0.01 if mean else None,
                }
