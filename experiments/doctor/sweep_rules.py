"""The rules for a sweep: a table with a row per run."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from experiments.doctor.evidence import Finding
from experiments.headline import Headline
from experiments.pages import script
from experiments.selection import pick, text_of

if TYPE_CHECKING:
    import pandas as pd

SETTING = ("lr", "weight_decay", "beta1", "beta2")
AXES = ("lr", "weight_decay")
"""Settings whose range is open: betas are tried in pairs, and end at 1."""
CONDITION = (
    *("experiment", "data", "batch_size", "epochs", "steps", "label_noise", "init_optimizer"),
)
FRESH = r"-fresh(?:-[0-9a-f]+)?$"
"""Ends of the names of sweeps that train picks again; see `experiments.sweep.confirm`."""
NEEDED = ("optimizer", "lr", "seed", "state", "val")


def examine(table: pd.DataFrame, headline: Headline) -> list[Finding]:
    """Every finding of a sweep.

    Args:
        table: Columns `NEEDED`, and of `SETTING` and `CONDITION` what there is.
        headline: Which way is better.
    """
    return [*_unequal(table), *_edges(table, headline)]


def _settings(table: pd.DataFrame) -> list[str]:
    return [key for key in SETTING if key in table and table[key].notna().any()]


def _conditions(table: pd.DataFrame) -> list[str]:
    return [key for key in CONDITION if key in table and table[key].nunique() > 1]


def _unequal(table: pd.DataFrame) -> Iterator[Finding]:
    """More trials find more luck. One setting under two conditions is two trials."""
    keys = [*_settings(table), *_conditions(table)]
    trials = {str(name): len(own.drop_duplicates(keys)) for name, own in table.groupby("optimizer")}
    if len(set(trials.values())) > 1:
        said = ", ".join(f"{name} {number}" for name, number in trials.items())
        yield Finding(
            "unequal budgets",
            f"settings tried: {said}",
            f"give every optimizer as many trials (sweeps of {script('run')} -m do)",
            "arXiv:2007.01547 (Descending through a Crowded Valley): the budget decides the rank",
        )


def _are_picks(table: pd.DataFrame) -> bool:
    """Whether these are picks on fresh seeds, which are no grid (`scripts/sweep.py confirm`)."""
    return "sweep" in table and table.sweep.astype(str).str.contains(FRESH).all()


def _edges(table: pd.DataFrame, headline: Headline) -> Iterator[Finding]:
    if _are_picks(table):
        return
    conditions = _conditions(table)
    for found, own in table.groupby(["optimizer", *conditions], dropna=False):
        names: tuple[Any, ...] = tuple(found)  # type: ignore[arg-type]
        keys = [k for k in _settings(own) if own[k].nunique() > 1]
        if not keys:
            continue
        try:
            axes = [key for key in AXES if key in keys]
            best = pick(own, keys, headline, axes)
        except ValueError:
            continue  # seeds that do not match: nothing can be said of an edge
        if best.edges:
            where = ", ".join(
                f"{key}={name}" for key, name in zip(conditions, names[1:], strict=True)
            )
            yield Finding(
                "best cell on an edge",
                f"{names[0]}{f' ({where})' if where else ''}: {text_of(best.setting)} wins, at the "
                f"end of {' and '.join(best.edges)}",
                "widen the grid there: the optimum is not known to lie inside",
                "arXiv:2302.06675, Figure on lr x weight decay; arXiv:2306.07179, section 5",
            )
