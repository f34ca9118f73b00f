"""Studies: the runs of a sweep as one table, whether committed, published or in a runs folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis.report.commands import run_cell
from experiments.headline import IMAGE, Headline, of_table
from experiments.outcomes import asked, betas, outcomes
from experiments.store import Folder, UserError, read_json
from experiments.table import read_runs

SETTINGS = (
    *("experiment", "optimizer", "batch_size", "beta1", "beta2", "epochs", "label_noise"),
    "init_optimizer",
)
"""Columns that, besides lr and weight decay, make a run another one than its neighbour."""
COLUMNS = (
    *("run_id", *SETTINGS, "lr", "weight_decay", "seed", "state", "val", "test", "steps"),
    *("seconds", "num_params", "data", "scale", "sweep", "commit", "test_loss", "n"),
    *IMAGE.columns(),
)
NUMBERS = (
    *("batch_size", "beta1", "beta2", "epochs", "label_noise", "lr", "weight_decay", "seed"),
    *("val", "test", "steps", "seconds", "num_params", "test_loss", "n"),
)
CURVE_COLUMNS = ("run_id", "step", "split", "metric", "value")
KINDS = {"study": "Studies", "proxy": "Published comparisons", "runs": "Runs folder"}
"""What a study may be, and the heading of its kind."""


@dataclass(frozen=True)
class Study:
    """The runs of one sweep."""

    name: str
    kind: str  # key of KINDS
    source: str  # where its table or its runs lie, as a person would write it
    runs: pd.DataFrame  # one row per run, columns COLUMNS
    curves: pd.DataFrame  # measurements over steps, columns CURVE_COLUMNS; may be empty
    commands: Mapping[str, str] = field(default_factory=dict)  # exact ones, by run id
    folders: Mapping[str, Path] = field(default_factory=dict)  # of the runs, by run id
    experiment: str = ""  # of a committed study: the folder that it lies in

    @property
    def headline(self) -> Headline:
        """What val and test are."""
        return of_table(self.runs)

    @property
    def unit(self) -> str:
        """Of val and test."""
        return self.headline.unit


def read_studies(results: Path) -> list[Study]:
    """The committed studies (`results/studies/*/*`) and published comparisons (`results/proxies`).

    Raises:
        UserError: if a table is damaged or lacks a column that the page cannot do without.
    """
    found = []
    for path in sorted(results.glob("studies/*/*/runs.csv")):
        curves = path.with_name("curves.csv")
        experiment = path.parent.parent.name
        source = f"results/studies/{experiment}/{path.parent.name}/runs.csv"
        read = _read_csv(path)
        table = tidy(read, path)
        drawn = _read_curves(curves) if curves.exists() else no_curves()
        written = read.command.dropna() if "command" in read else pd.Series(dtype=object)
        exact = {table.run_id[i]: str(text) for i, text in written.items()}
        name = path.parent.name
        found.append(Study(name, "study", source, table, drawn, exact, experiment=experiment))
    for path in sorted(results.glob("proxies/*.csv")):
        table = _read_csv(path)
        table = table.assign(experiment=path.stem) if "experiment" not in table else table
        table = tidy(table.assign(scale="proxy"), path)
        source = f"results/proxies/{path.name}"
        found.append(Study(path.stem, "proxy", source, table, no_curves()))
    return found


def read_ledger(folder: Path) -> pd.DataFrame:
    """The ledger of a folder of run folders.

    Raises:
        UserError: if there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: --runs takes a folder of run folders")
    return read_runs(folder)


def studies_of_ledger(
    ledger: pd.DataFrame, folder: Path, cells: Mapping[str, Mapping[str, Any]]
) -> list[Study]:
    """One study per sweep manifest that names runs of the folder, else one per experiment.

    Args:
        ledger: From `read_ledger`.
        folder: Where its runs lie.
        cells: From `read_cells`.
    """
    if ledger.empty:
        return []
    groups: dict[str, list[str]] = {}
    for run_id, experiment in ledger.groupby("run_id").experiment.first().items():
        name = cells[str(run_id)]["sweep"] if str(run_id) in cells else str(experiment)
        groups.setdefault(name, []).append(str(run_id))
    found = []
    for name, ids in sorted(groups.items()):
        rows = ledger[ledger.run_id.isin(ids)]
        for part, mine in _judged_alike(name, rows):
            found.append(_from_ledger(part, mine, folder, cells))
    return found


def _judged_alike(name: str, rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows in parts of which each is judged by one number; mostly there is one."""
    kinds = rows.headline.fillna("")
    if kinds.nunique() < 2:
        return [(name, rows)]
    return [(f"{name}, {e}", mine) for e, mine in rows.groupby("experiment", dropna=False)]


def read_cells(sweeps: Path) -> dict[str, dict[str, Any]]:
    """The cells of every sweep manifest below a folder, by run id; each with its sweep's name."""
    found = {}
    for path in sorted(sweeps.glob("*/manifest.json")):
        manifest = read_json(path)
        for cell in manifest.get("cells", []):
            if isinstance(cell, dict) and {"run_id", "settings", "config"} <= set(cell):
                name = str(manifest.get("name") or path.parent.name)
                found[str(cell["run_id"])] = {**cell, "sweep": name}
    return found


def tidy(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with the columns of COLUMNS; absent ones are empty.

    Raises:
        UserError: if a needed column is absent, or a number is none.
    """
    missing = [c for c in ("optimizer", "lr", "seed", "val") if c not in table]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}: collect the study again")
    table = table.reindex(columns=[*COLUMNS]).copy()
    for column in NUMBERS:
        try:
            table[column] = pd.to_numeric(table[column])
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}, column {column}: {error}: mend or collect again") from None
    for column, absent in (("state", "finished"), ("scale", "unknown")):
        table[column] = table[column].astype(object).fillna(absent)
    numbers = [f"row {i}" for i in range(1, len(table) + 1)]
    table["run_id"] = table.run_id.where(table.run_id.notna(), pd.Series(numbers, table.index))
    return table


def no_curves() -> pd.DataFrame:
    """A table of curves without any."""
    return pd.DataFrame(columns=[*CURVE_COLUMNS])


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from None


def _read_curves(path: Path) -> pd.DataFrame:
    table = _read_csv(path)
    missing = [c for c in CURVE_COLUMNS if c not in table]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}: collect the study again")
    return table


def _from_ledger(
    name: str, ledger: pd.DataFrame, folder: Path, cells: Mapping[str, Mapping[str, Any]]
) -> Study:
    """A study from the ledger's rows of some runs."""
    headline = asked(ledger)
    results = outcomes(ledger).set_index("run_id")
    last = ledger.sort_values("step").groupby("run_id").last()
    columns = ["val", "test", "test_loss", "n"]
    rows = last.drop(columns=["n", "unit", "better", "metric", "weights"]).join(results[columns])
    rows["seconds"] = ledger.groupby("run_id").seconds.max()
    pairs = [betas(text) for text in rows.hyper_parameters]
    rows = rows.assign(
        **headline.columns(), steps=rows.step, beta1=[b[0] for b in pairs],
        beta2=[b[1] for b in pairs],
    ).reset_index()  # fmt: skip
    path = folder / "run.json"
    of_weights = (ledger.weights == headline.weights) | (ledger.split == "train")
    splits = ledger.split.isin(["train", headline.tune, headline.report])
    shown = ledger[of_weights & splits & ledger.metric.isin(["loss", headline.metric])]
    folders = {run_id: folder / run_id for run_id in rows.run_id}
    commands = {i: c for i, f in folders.items() if (c := recorded_command(f))}
    commands |= {i: run_cell(cells[i]) for i in folders if i in cells}
    curves = shown[[*CURVE_COLUMNS]]
    return Study(name, "runs", str(folder), tidy(rows, path), curves, commands, folders)


def recorded_command(folder: Path) -> str:
    """The command of a run's first session, where it says all: `run.py` for a single run."""
    sessions = read_json(Folder(folder).header).get("sessions")
    first = sessions[0] if isinstance(sessions, list) and sessions else {}
    said = str(first.get("command", ""))
    words = said.split()
    if not words or {"-m", "--multirun"} & set(words):
        return ""
    names = {"run.py": f"python {words[0]}", "lion-experiments": "lion-experiments"}
    command = names.get(Path(words[0]).name)
    return " ".join([command, *words[1:]]) if command else ""
