"""How the optimizers of one's own sweep compare: the rule of `analysis.confirmed`, or why not.

Numbers are shown wherever there are some. A verdict is withheld where the sweep could not give a
fair one: cells or fresh runs without a result, unequal budgets, more than one version of the code.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from experiments.analysis.confirmed import (
    DIVERGED,
    FRESH,
    MIN_TUNING_SEEDS,
    UNTESTED,
    corrected,
    judged,
)
from experiments.analysis.drawing.names import name_of
from experiments.analysis.statistics.comparison import SETTING
from experiments.analysis.statistics.difference import BETTER, INCONCLUSIVE, NOT_TUNED
from experiments.analysis.swept.picks import Picked, by_condition
from experiments.arms import Swept
from experiments.store import UserError

DEFAULT_REFERENCE = "lion"
WITHHELD = "withheld"


def reference_of(swept: Swept, asked: str | None = None) -> str:
    """The optimizer that the others are compared with.

    Raises:
        UserError: where the sweep has not the one that is asked for.
    """
    names = list(dict.fromkeys(arm.optimizer for arm in swept.arms))
    if asked is not None and asked not in names:
        raise UserError(f"--reference {asked}: the sweep has {', '.join(names)}")
    return asked or (DEFAULT_REFERENCE if DEFAULT_REFERENCE in names else names[0])


def compared(swept: Swept, found: list[Picked], ours: str) -> pd.DataFrame:
    """The reference minus each other optimizer, condition by condition.

    Returns:
        A row each: `confirmed.COLUMNS`, condition, num_settings, why (there is no verdict). p is
        Holm's over all rows that were judged. Empty where there is one optimizer.
    """
    rows = []
    for condition, arms in by_condition(found).items():
        mine = [one for one in arms if one.arm.optimizer == ours]
        for other in arms if mine else []:
            if other is not mine[0]:
                rows.append({"condition": condition, **_row(swept, mine[0], other)})
    table = pd.DataFrame(rows)
    return corrected(table) if rows else table


def _row(swept: Swept, ours: Picked, theirs: Picked) -> dict[str, Any]:
    both = (theirs, ours)
    names = {"ours": ours.arm.optimizer, "theirs": theirs.arm.optimizer}
    tuning = pd.concat([_plain(one.arm.tuning) for one in both], ignore_index=True)
    is_fresh = all(one.is_fresh for one in both)
    fresh = pd.concat([_plain(one.fresh) for one in both], ignore_index=True) if is_fresh else None
    if lost := [one.name for one in both if one.found is None]:
        why = f"no setting of {', '.join(lost)} has finished with every seed"
        return _empty(names, why)
    if not is_fresh and (why := _not_left_out(tuning, both)):
        return _empty(names, why)
    chosen = [one.chosen for one in both]
    row = judged(tuning, fresh, names["ours"], names["theirs"], picked=chosen)
    row |= {"why": _no_verdict(row, both), "num_settings": chosen[0].num_settings}
    if why := withheld(swept, both):
        row |= {"verdict": WITHHELD, "why": why, "p_holm": math.nan}
    return row


def _plain(runs: pd.DataFrame) -> pd.DataFrame:
    """Without keys that are no numbers: the statistics know betas by their two columns."""
    return runs[[key for key in runs if key != "betas"]]


def _empty(names: dict[str, str], why: str) -> dict[str, Any]:
    numbers = ("ours_mean", "ours_error", "theirs_mean", "theirs_error", "difference", "low",
               "high", "wide_low", "wide_high", "p_holm")  # fmt: skip
    row = dict.fromkeys(numbers, math.nan)
    words = {"verdict": UNTESTED, "holds": False, "edges": "", "seeds": "", "n": 0}
    return {**row, **names, **words, "why": why, "num_settings": 0}


def _not_left_out(tuning: pd.DataFrame, both: tuple[Picked, ...]) -> str:
    """Why the runs that picked cannot report, seed by seed; "" where they can."""
    seeds = min(len(one.found.seeds) for one in both if one.found)
    if seeds < MIN_TUNING_SEEDS:
        of_seeds = "one seed picks" if seeds == 1 else f"{seeds} seeds pick"
        return f"{of_seeds}, and there are no fresh ones"
    keys = ["optimizer", *(key for key in SETTING if key in tuning), "seed"]
    if tuning.duplicated(keys).any():
        return "more than lr, weight decay and betas was tuned, and there are no fresh seeds"
    return ""


def _no_verdict(row: dict[str, Any], both: tuple[Picked, Picked]) -> str:
    if row["verdict"] == DIVERGED:
        lost = [one.name for one in both if (one.fresh.state == "diverged").any()]
        return f"a fresh run of {', '.join(lost)} diverged"
    return "no value was measured there" if row["verdict"] == UNTESTED else ""


def withheld(swept: Swept, both: tuple[Picked, ...]) -> str:
    """Why a comparison of some arms would not be fair; "" where it is."""
    if swept.remarks:
        return "the cells were trained by more than one version of the code"
    if len({one.arm.num_settings for one in both}) > 1:
        said = ", ".join(f"{one.name} {one.arm.num_settings}" for one in both)
        return f"unequal budgets ({said} settings)"
    missing = sum(one.arm.num_missing for one in both)
    if missing:
        return f"{missing} {'cells have' if missing > 1 else 'cell has'} no result yet"
    if all(one.is_fresh for one in both) and (left := sum(one.num_fresh_missing for one in both)):
        # Who looks as they come in, and stops where he likes what he sees, is wrong more often.
        return f"{left} fresh {'runs have' if left > 1 else 'run has'} no result yet"
    return ""


def said(row: Any) -> str:
    """The verdict of a row in words."""
    ours = name_of(row.ours)
    if row.verdict in (WITHHELD, UNTESTED, DIVERGED):
        return f"no verdict: {row.why}"
    if row.verdict == NOT_TUNED:
        edges = ", ".join(name_of(name) for name in row.edges.split(", "))
        return f"no verdict: not tuned ({edges} on an edge)"
    if row.verdict == INCONCLUSIVE:
        return "not shown"
    told = f"{ours} is {'ahead' if row.verdict == BETTER else 'behind'}"
    if row.holds:
        return told
    at = "at the settings found" if row.seeds == FRESH else "by the seeds alone"
    return f"{told}, {at}; with the luck of tuning not shown"
