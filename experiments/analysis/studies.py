"""A study's tidy table: one row per run, as committed in results/studies/ and results/proxies/.

Which number `val` and `test` are stands in its columns (see `experiments.headline.of_table`); a
table of the time before they did is one of image classification.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.headline import of_table
from experiments.pages import script
from experiments.store import UserError

NEEDED = ("optimizer", "lr", "weight_decay", "seed", "state", "val", "test", "seconds")
"""Columns that every study has. More are used where a question needs them."""


DEFAULT_EXPERIMENT = "vit_proxy"
"""Whose studies stand beside the paper's figures and claims."""


def read_study(path: Path, needed: Sequence[str] = NEEDED) -> pd.DataFrame:
    """Reads a study's table and checks it; a run that stands there twice counts once.

    Args:
        path: A CSV file, such as results/studies/vit_proxy/heatmap/runs.csv.
        needed: Columns that must be there.

    Returns:
        The table; where it has no `test_loss` and curves.csv lies beside it, with that from there.

    Raises:
        UserError: where the file is missing or is no such table.
    """
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such study; {script('sweep')} collect writes it") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no table: {error}; write it anew or delete it") from None
    if missing := [column for column in needed if column not in table]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}: collect it anew")
    for column in {"lr", "weight_decay", "val", "test", "seconds"} & set(table):
        try:
            table[column] = pd.to_numeric(table[column])
        except ValueError as error:
            raise UserError(f"{path}, column {column}: {error}; mend or collect it anew") from None
    table = _text_as_objects(table)
    if "run_id" in table:
        table = table.drop_duplicates("run_id", keep="last")
    table = table[table.state.isin(["finished", "diverged"])].reset_index(drop=True)
    curves = path.with_name("curves.csv")
    if "test_loss" not in table and "run_id" in table and path.stem == "runs" and curves.exists():
        table = _with_losses(table, curves)
    return table


def _text_as_objects(table: pd.DataFrame) -> pd.DataFrame:
    """Text as in pandas 2: in an array of Arrow for each column it doubles the time of a filter."""
    text = [name for name in table if isinstance(table[name].dtype, pd.StringDtype)]
    return table.astype(dict.fromkeys(text, object)).set_axis(table.columns.astype(object), axis=1)


def _with_losses(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with the last losses on both splits from the curves beside it."""
    try:
        curves = pd.read_csv(path)
        losses = curves[(curves.metric == "loss") & curves.run_id.isin(table.run_id)]
        last = losses.sort_values("step").groupby(["run_id", "split"]).value.last().unstack()
    except (ValueError, AttributeError, UnicodeDecodeError):
        return table  # damaged curves are said by whoever needs them
    headline = of_table(table)
    for column, split in (("val_loss", headline.tune), ("test_loss", headline.report)):
        if split in last:
            values = table.run_id.map(last[split])
            table[column] = values.where(table.state == "finished")
    return table


def study_path(results: Path, name: str, experiment: str | None = None) -> Path | None:
    """Where a study lies: `results/studies/EXPERIMENT/NAME/runs.csv`; None where there is none.

    Args:
        results: Folder of all results.
        name: Of the study.
        experiment: Its experiment; by default `DEFAULT_EXPERIMENT`. That of another experiment, of
            a language model, say, never stands in for it unasked: it would answer another question.
    """
    path = results / "studies" / (experiment or DEFAULT_EXPERIMENT) / name / "runs.csv"
    return path if path.exists() else None


def name_betas(study: pd.DataFrame) -> pd.DataFrame:
    """Makes each pair of betas an arm of its own: `optimizer` becomes "lion (0.9, 0.99)"."""
    pairs = [f"{o} ({b1:g}, {b2:g})" for o, b1, b2 in
             zip(study.optimizer, study.beta1, study.beta2, strict=True)]  # fmt: skip
    return study.assign(optimizer=pairs)
