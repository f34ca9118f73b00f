"""What a sweep has tried of one optimizer under one condition, as tables.

Sweeps make them, and figures and tables of one's own sweep are drawn from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Arm:
    """One optimizer under one condition."""

    optimizer: str
    condition: str  # what is compared along, e.g. batch_size 64; "": nothing is
    keys: tuple[str, ...]  # that are tuned, lr and weight_decay first; columns of the tables
    planned: pd.DataFrame  # a row per cell: `keys`, seed, run_id
    tuning: pd.DataFrame  # a row per run that is over: the sweep's table with `keys`
    fresh: pd.DataFrame  # the same of the runs of confirm, of whatever setting
    fresh_planned: pd.DataFrame  # as planned, of confirm

    @property
    def num_settings(self) -> int:
        """How many were planned."""
        keys = list(self.keys)
        return len(self.planned[keys].drop_duplicates()) if keys else 1

    @property
    def num_missing(self) -> int:
        """Cells without a result."""
        return len(self.planned) - len(self.tuning)


@dataclass(frozen=True)
class Swept:
    """A sweep as its figures and tables need it."""

    name: str
    arms: tuple[Arm, ...]
    remarks: tuple[str, ...] = ()  # of the whole sweep, for which nothing can be compared
    num_failed: int = 0  # cells that are given up: no call trains them unless it is told to
    of_picks: str = ""  # which sweep the fresh runs are of, where there are several
    confirm: str = ""  # the command that trains the picks with fresh seeds
    resume: str = ""  # the command that trains what is missing
    resume_picks: str = ""  # the same of the fresh runs
    again: str = ""  # the command that draws this
