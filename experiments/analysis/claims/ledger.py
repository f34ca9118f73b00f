"""The claims ledger: each claim of results/paper/claims.csv beside what is known of it here.

Four kinds of evidence, in columns of their own, never mixed:

    paper_recomputed  the paper's own tables: they can contradict each other, they support nothing
    proxy_*           runs of a small stand-in: an answer at that scale only
    measured_*        measured on this machine (memory, speed, number of settings)
    paper_scale_*     runs at the paper's own size; "not run", with a cost, until there are some
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis.claims import cost as claims_cost
from experiments.analysis.claims import paper as claims_paper
from experiments.analysis.claims import runs as claims_runs
from experiments.analysis.claims import scale as claims_scale
from experiments.analysis.claims.big_vision import OTHER_QUESTION
from experiments.analysis.claims.evidence import (
    CONTRADICTED,
    INCONCLUSIVE,
    MEASURED,
    NOT_RUN,
    PAPER_SCALE,
    PROXY,
    SUPPORTED,
    Evidence,
    NotRun,
)
from experiments.analysis.claims.paper_tables import Tables
from experiments.analysis.claims.runs import Check
from experiments.store import UserError

NO_RUN = "no run can tell"
BY_RULE = {
    "C045": "arithmetic",
    "C053": "read off the rule",
    "C055": "sign gives -1, 0 or 1",
    "C068": "read off the program, results/paper/algorithms.md",
}
"""Claims that follow from the rule itself, and why."""
VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_RUN)

_SCALES = {"proxy": PROXY, "measured": MEASURED, "paper_scale": PAPER_SCALE}
_ANSWER = ("verdict", "measure", "estimate", "low", "high", "n", "unit", "seeds_to_decide", "note")
COLUMNS = [
    "claim_id", "version", "task", "metric", "claim", "paper_low", "paper_high", "paper_unit",
    "paper_consistency", "paper_recomputed",
    *(f"{prefix}_{column}" for prefix in _SCALES for column in (*_ANSWER, "files", "command")),
    "cost", "cost_basis", "source",
]  # fmt: skip


def ledger(root: Path, names: Collection[str] = ()) -> pd.DataFrame:
    """One row per claim, with the columns `COLUMNS`; empty cells where there is nothing to say.

    Args:
        root: Of the repository: results/ and conf/ lie below.
        names: Of the claims to look at, e.g. C050; empty: all.

    Raises:
        UserError: for a name that no claim has; for a check without a claim; where results/paper/
            is not as it should be.
    """
    evidence, tables = Evidence(root), Tables(root / "results" / "paper")
    try:
        claims = tables.read("claims")
        if unknown := sorted(set(names) - set(claims.id)):
            raise UserError(f"{unknown[0]}: no such claim; there are C001 to {claims.id.max()}")
        _refuse_checks_without_row(claims)
        if names:
            claims = claims[claims.id.isin(names)]
        rows = [_row(claim, evidence, tables) for claim in claims.to_dict("records")]
    except (OSError, LookupError) as error:
        raise UserError(f"results/paper: {error}; restore it with git") from error
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _refuse_checks_without_row(claims: pd.DataFrame) -> None:
    """Else what a new check finds would stand nowhere."""
    kinds = {
        "check": claims_runs.CHECKS,
        "check of the paper's tables": claims_paper.CHECKS,
        "check at the paper's scale": claims_scale.CHECKS,
        "cost": claims_cost.COSTS,
    }
    for what, table in kinds.items():
        if lacking := sorted(set(table) - set(claims.id)):
            raise UserError(
                f"{lacking[0]} has a {what}, but no row in results/paper/claims.csv: add one there"
            )


def _row(claim: dict[str, Any], evidence: Evidence, tables: Tables) -> dict[str, Any]:
    name = claim["id"]
    row = {
        "claim_id": name,
        "paper_low": claim["low"],
        "paper_high": claim["high"],
        "paper_unit": claim["unit"],
        **{key: claim[key] for key in ("version", "task", "metric", "claim", "source")},
        **_of_tables(name, tables),
        **_of_runs(name, evidence),
    }
    if name in BY_RULE:
        return row | {"paper_scale_verdict": "follows from the rule", "cost_basis": BY_RULE[name]}
    if name not in claims_cost.COSTS:
        return row | {"paper_scale_verdict": NO_RUN}
    cost = claims_cost.COSTS[name](evidence, tables)
    row |= {"cost": str(cost), "cost_basis": cost.basis}
    return row | _answer("paper_scale", claims_scale.CHECKS.get(name), evidence)


def _of_tables(name: str, tables: Tables) -> dict[str, Any]:
    check = claims_paper.CHECKS.get(name)
    if check is None:
        return {}
    found = check(tables)
    word = "consistent" if found.agrees else "differs"
    return {"paper_consistency": word, "paper_recomputed": found.text}


def _of_runs(name: str, evidence: Evidence) -> dict[str, Any]:
    check = claims_runs.CHECKS.get(name)
    if check is None:
        return {"proxy_note": OTHER_QUESTION[name]} if name in OTHER_QUESTION else {}
    return _answer("measured" if name in claims_runs.MEASURED else "proxy", check, evidence)


def _answer(prefix: str, check: Check | None, evidence: Evidence) -> dict[str, Any]:
    """What a check says, in the columns of its scale and no others."""
    if check is None:
        return {f"{prefix}_verdict": NOT_RUN}
    evidence.used.clear()
    try:
        found = check(evidence)
    except NotRun as missing:
        return {f"{prefix}_verdict": NOT_RUN, f"{prefix}_command": str(missing)}
    except UserError as problem:
        return {f"{prefix}_verdict": INCONCLUSIVE, f"{prefix}_note": str(problem)}
    if found.scale != _SCALES[prefix]:
        remedy = "add the claim to MEASURED of claims/runs.py" if found.scale == MEASURED else ""
        raise UserError(
            f"{check.__name__} finds something of scale {found.scale}, where {_SCALES[prefix]} is "
            f"expected: {remedy or 'let its Finding say so'}"
        )
    row: dict[str, Any] = {f"{prefix}_{column}": getattr(found, column) for column in _ANSWER}
    row[f"{prefix}_files"] = " ".join(dict.fromkeys(evidence.used))
    return row
