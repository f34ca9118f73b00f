"""A study's tidy table: one row per run, as committed in results/studies/ and results/proxies/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.store import UserError

NEEDED = ("optimizer", "lr", "weight_decay", "seed", "state", "val", "test", "seconds")
"""Columns that every study has. More are used where a question needs them."""


def read_study(path: Path, needed: Sequence[str] = NEEDED) -> pd.DataFrame:
    """Reads a study's table and checks it; a run that stands there twice counts once.

    Args:
        path: A CSV file, such as results/studies/heatmap/runs.csv.
        needed: Columns that must be there.

    Raises:
        UserError: where the file is missing or is no such table.
    """
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such study; scripts/sweep.py collect writes it") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no table: {error}; write it anew or delete it") from None
    if missing := [column for column in needed if column not in table]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}: collect it anew")
    for column in {"lr", "weight_decay", "val", "test", "seconds"} & set(table):
        try:
            table[column] = pd.to_numeric(table[column])
        except ValueError as error:
            raise UserError(f"{path}, column {column}: {error}; mend or collect it anew") from None
    if "run_id" in table:
        table = table.drop_duplicates("run_id", keep="last")
    return table[table.state.isin(["finished", "diverged"])].reset_index(drop=True)


def name_betas(study: pd.DataFrame) -> pd.DataFrame:
    """Makes each pair of betas an arm of its own: `optimizer` becomes "lion (0.9, 0.99)"."""
    pairs = [f"{o} ({b1:g}, {b2:g})" for o, b1, b2 in
             zip(study.optimizer, study.beta1, study.beta2, strict=True)]  # fmt: skip
    return study.assign(optimizer=pairs)
