"""What each arm of a sweep has picked, and its runs with seeds that picked nothing."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from experiments.analysis.drawing.names import name_of
from experiments.analysis.statistics.comparison import SETTING, Chosen, as_chosen
from experiments.arms import Arm, Swept
from experiments.headline import Headline, of_table
from experiments.selection import Pick, pick, with_setting

LABELS = {"lr": "peak learning rate", "weight_decay": "weight decay"}
"""Of keys, where they stand for people."""
_ONLY = "trial"
"""Key of an arm of which nothing was tuned."""


@dataclass(frozen=True)
class Picked:
    """An arm with what validation picked of it."""

    arm: Arm
    headline: Headline
    found: Pick | None  # None: no setting has finished with every shared seed
    fresh: pd.DataFrame  # runs of the pick that are over, of seeds that had no part in picking
    has_other_fresh: bool  # fresh runs of a setting that is not the pick (any more)

    @property
    def name(self) -> str:
        """Of the optimizer, as figures call it."""
        return name_of(self.arm.optimizer)

    @property
    def setting(self) -> dict[str, Any]:
        """Values of the keys that were tuned; empty where there is no pick."""
        return {key: self.found.setting[key] for key in self.arm.keys} if self.found else {}

    @property
    def is_fresh(self) -> bool:
        """Whether fresh runs tell how good the pick is."""
        return bool(len(self.fresh))

    @property
    def num_fresh_missing(self) -> int:
        """Fresh runs of the pick that have no result yet."""
        planned = with_setting(self.arm.fresh_planned, self.setting)
        return int((~planned.run_id.isin(self.arm.fresh.run_id)).sum())

    @property
    def shown(self) -> pd.DataFrame:
        """The runs that report the pick: the fresh ones, else those that picked it."""
        if self.is_fresh or self.found is None:
            return self.fresh
        return self.found.runs

    @property
    def chosen(self) -> Chosen:
        """The pick as the statistics take it."""
        found = self.found
        assert found is not None
        values = {key: _one(found.runs, key) for key in SETTING}
        return as_chosen(self.arm.optimizer, found, values)


def picked(arm: Arm) -> Picked:
    """Picks by validation, as everywhere (`experiments.selection`)."""
    headline = of_table(arm.tuning)
    keys, runs = list(arm.keys), arm.tuning
    if not keys:
        keys, runs = [_ONLY], runs.assign(**{_ONLY: "the only one"})
    try:
        found = pick(runs, keys, headline)
    except ValueError:
        return Picked(arm, headline, None, arm.fresh.head(0), False)
    setting = {key: found.setting[key] for key in arm.keys}
    own = with_setting(arm.fresh, setting)
    own = own[~own.seed.isin(arm.planned.seed)]
    return Picked(arm, headline, found, own, len(own) < len(arm.fresh))


def all_picked(swept: Swept) -> list[Picked]:
    """Of every arm that has a run; arms of one condition stand together."""
    arms = [arm for arm in swept.arms if len(arm.tuning)]
    order = list(dict.fromkeys(arm.condition for arm in arms))
    return [picked(arm) for arm in sorted(arms, key=lambda arm: order.index(arm.condition))]


def by_condition(found: list[Picked]) -> dict[str, list[Picked]]:
    """The picks of each condition."""
    parts: dict[str, list[Picked]] = {}
    for one in found:
        parts.setdefault(one.arm.condition, []).append(one)
    return parts


def _one(runs: pd.DataFrame, key: str) -> float:
    """The value of a column that is one number in all runs; NaN where it is none."""
    if key not in runs or not len(runs):
        return math.nan
    return float(pd.to_numeric(runs[key], errors="coerce").iloc[0])


def value_text(value: Any) -> str:
    """A setting for people: 0.001, [0.9, 0.99], a dash where there is none."""
    if value is None or value != value:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
