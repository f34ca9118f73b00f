"""The paper's numbers, results/paper/*.csv, and what a look into them may find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import pandas as pd


class Tables:
    """The CSV files of results/paper/, each read once."""

    def __init__(self, folder: Path) -> None:
        self.read = lru_cache(maxsize=None)(lambda name: pd.read_csv(folder / f"{name}.csv"))

    def rows(self, name: str, where: Mapping[str, Any]) -> pd.DataFrame:
        """Rows of a table whose columns have the given values; None: an empty cell."""
        found = self.read(name)
        for column, wanted in where.items():
            same = found[column].isna() if wanted is None else found[column] == wanted
            found = found[same]
        return found

    def value(self, name: str, where: Mapping[str, Any], column: str = "value") -> float:
        """The one value that fits.

        Raises:
            LookupError: where none fits, or several that differ.
        """
        found = self.rows(name, where)[column].unique()
        if len(found) != 1:
            raise LookupError(f"{name}.csv has {len(found)} values for {dict(where)}")
        return float(found[0])


@dataclass(frozen=True)
class Recomputed:
    """What the paper's tables give for a claim."""

    agrees: bool
    text: str


class PaperCheck(Protocol):
    """Looks a claim up."""

    def __call__(self, tables: Tables) -> Recomputed: ...


def holds(agrees: bool, text: str) -> Recomputed:
    """Of a comparison made with numpy's or pandas' bool."""
    return Recomputed(bool(agrees), text)
