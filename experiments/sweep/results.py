"""Tables of a sweep's runs: one row per run, the best cells, and how fast it goes."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import headline as headlines
from experiments.again import command_of
from experiments.config import UserError
from experiments.headline import Headline
from experiments.outcomes import check_alike, outcomes, write_outcomes
from experiments.selection import pick
from experiments.sweep import curves as curves_of
from experiments.sweep.manifest import INIT_OPTIMIZER, Cell, Sweep
from experiments.sweep.space import short
from experiments.table import read_runs

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("run_id", "experiment", "optimizer", "lr", "weight_decay", "beta1", "beta2", "batch_size"),
    *("epochs", "seed", "state", "val", "test", "val_loss", "test_loss", "n", "metric", "unit"),
    *("better", "weights", "tune_split", "report_split", "digits", "steps", "seconds"),
    *("num_params", "data", "scale", "commit", "cpu", "threads", "torch", "launcher", "sweep"),
    "command",
)
"""Of the tidy table of a study: `experiments.outcomes`, and the sweep."""


@dataclass(frozen=True)
class Best:
    """The setting that validation picked for one optimizer, under one condition."""

    optimizer: str
    settings: dict[str, Any]  # column: value; conditions first
    val: float  # mean on the split that is tuned on, over the seeds that the settings share
    test: float  # mean on the split that is reported
    test_error: float  # standard error of the mean over seeds
    test_loss: float
    headline: Headline
    num_seeds: int
    num_trials: int  # settings that were tried
    num_diverged: int  # runs
    edges: tuple[str, ...]  # columns in which the best is the smallest or largest that was tried
    remarks: tuple[str, ...]  # ties, incomplete settings


def runs_table(sweep: Sweep, metric: str | None = None) -> pd.DataFrame:
    """One row per run that is over, with `COLUMNS`; a diverged one has no values.

    Of a stage two also `init_optimizer`; of another sweep the conditions that no column tells.

    Args:
        sweep: The sweep.
        metric: Of the columns val and test; the headline of each run's task, unless said.

    Raises:
        UserError: where no run was measured by this metric, or they were not measured alike.
    """
    rows = _rows(sweep)
    table = outcomes(rows, metric)
    check_alike(rows[rows.metric.isin(table.metric.unique())])
    epochs = {cell.run_id: cell.config["train"]["epochs"] for cell in sweep.cells}
    commands = {
        cell.run_id: command_of(
            cell.config["experiment"],
            cell.optimizer,
            cell.overrides,
            cell.seed,
            sweep.manifest["fixed"],
        )
        for cell in sweep.cells
    }
    table = table.assign(epochs=table.run_id.map(epochs), sweep=sweep.name)
    table["command"] = table.run_id.map(commands)
    more = {}
    for column in _more_conditions(sweep):
        named = {c.run_id: {short(k): v for k, v in c.settings.items()} for c in sweep.cells}
        more[column] = table.run_id.map({run: of.get(column) for run, of in named.items()})
    return table.assign(**more).reindex(columns=[*COLUMNS, *more])


def _more_conditions(sweep: Sweep) -> list[str]:
    """What the runs are compared along and no column of `COLUMNS` tells, such as label_noise."""
    known = {*COLUMNS, "betas"}  # which stand in two columns
    found = [name for name in sweep.manifest["conditions"] if name not in known]
    begun = any(cell.settings.get(INIT_OPTIMIZER) for cell in sweep.cells)
    return found if begun else [name for name in found if name != INIT_OPTIMIZER]


def _rows(sweep: Sweep) -> pd.DataFrame:
    """The ledger rows of the cells that are over."""
    over = [cell.run_id for cell in sweep.cells if sweep.final_state(cell)]
    return read_runs(sweep.manifest["runs_dir"], runs=over)


def collect(
    sweep: Sweep,
    folder: Path,
    curves: bool = False,
    metric: str | None = None,
    experiment: str | None = None,
) -> Path:
    """Writes runs.csv, and the curves if wanted (`sweep.curves`), of the runs that are over.

    Args:
        sweep: The sweep.
        folder: Of the study.
        curves: Write them, too.
        metric: As for `runs_table`.
        experiment: Only its runs.

    Returns:
        The path of runs.csv.

    Raises:
        UserError: if no run is over, or none was measured by this metric; where the study is
            that of another sweep.
    """
    table = runs_table(sweep, metric)
    if experiment is not None:
        table = table[table.experiment == experiment]
    if table.empty:
        raise UserError(f"sweep {sweep.name}: no run{_of(experiment)} is over yet")
    if said := not_judged(table):
        raise UserError(f"sweep {sweep.name}: {said}")
    _check_own(folder / "runs.csv", sweep)
    folder.mkdir(parents=True, exist_ok=True)
    keys = ["optimizer", "lr", "weight_decay", "beta1", "beta2", "batch_size", "seed"]
    write_outcomes(table.sort_values(keys, kind="stable"), folder / "runs.csv")
    if curves:
        rows = _rows(sweep)
        curves_of.write(rows[rows.run_id.isin(table.run_id)], folder)
    return folder / "runs.csv"


def _check_own(path: Path, sweep: Sweep) -> None:
    """A study's table is only written over by the sweep that it is of.

    Raises:
        UserError: where it holds runs of another, such as a committed study's.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, ValueError):  # none, or a damaged one, which is no loss
        return
    found = set(table["sweep"].dropna()) if "sweep" in table else set()
    others = sorted(found - {sweep.name})
    if others:
        raise UserError(
            f"{path} holds runs of the sweep {others[0]}: choose another name with --study, or "
            "move that table away"
        )


def not_judged(table: pd.DataFrame) -> str:
    """Why nothing can be picked from runs that have finished; "" where something can."""
    finished = table[table.state == "finished"]
    if finished.empty or finished.val.notna().any():
        return ""
    headline = headlines.of_table(finished)
    return (
        f"no finished run was measured by {headline.metric} on {headline.tune} "
        f"({headline.weights} weights), by which its task says it is judged: name another number "
        "with --metric, or add this one with job=evaluate"
    )


def _of(experiment: str | None) -> str:
    return "" if experiment is None else f" of {experiment}"


def best_cells(sweep: Sweep, metric: str | None = None) -> list[Best]:
    """The best setting of each optimizer under each condition (see `experiments.selection`)."""
    table = runs_table(sweep, metric)
    return [best for group in groups(sweep) if (best := _best(sweep, table, group))]


def groups(sweep: Sweep) -> list[list[Cell]]:
    """The cells of each optimizer under each condition."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in sweep.cells:
        key = cell.optimizer, json.dumps(conditions_of(sweep, cell), sort_keys=True)
        found.setdefault(key, []).append(cell)
    return list(found.values())


def tuned_keys(sweep: Sweep, cell: Cell) -> list[str]:
    """Columns in which the settings of a cell's group differ, lr and weight_decay first."""
    axes = sweep.manifest["axes"].get(cell.optimizer, {})
    varied = [short(key) for key in cell.settings if len(axes.get(short(key), [])) > 1]
    conditions = conditions_of(sweep, cell)
    return sorted((key for key in varied if key not in conditions), key=_order)


def with_settings(table: pd.DataFrame, cells: Sequence[Cell], keys: Sequence[str]) -> pd.DataFrame:
    """The runs of some cells; their settings as the sweep wrote them stand in for the ledger's."""
    import pandas as pd

    named = [settings_of(cell, keys) | {"run_id": cell.run_id} for cell in cells]
    settings = pd.DataFrame(named, columns=["run_id", *keys])
    others = table.drop(columns=[key for key in keys if key in table])
    return others.merge(settings, on="run_id", how="inner", sort=False)


def settings_of(cell: Cell, keys: Sequence[str]) -> dict[str, Any]:
    """Values of some columns, as a cell has them."""
    named = {short(key): hashable(value) for key, value in cell.settings.items()}
    return {key: named.get(key) for key in keys}


def _best(sweep: Sweep, table: pd.DataFrame, cells: list[Cell]) -> Best | None:
    one = cells[0]
    conditions, tuned = conditions_of(sweep, one), tuned_keys(sweep, one)
    runs = with_settings(table, cells, tuned)
    if runs.empty:
        return None
    trials = {cell.trial for cell in cells}
    keys = tuned
    if not keys:  # one setting, nothing to pick
        keys, runs = ["trial"], runs.assign(trial="the only one")
    headline = headlines.of_table(runs)
    try:
        found = pick(runs, keys, headline)
    except ValueError:
        return None
    test = found.runs.test
    return Best(
        optimizer=one.optimizer,
        settings={**conditions, **{key: found.setting[key] for key in tuned}},
        val=found.mean,
        test=float(test.mean()),
        test_error=float(test.sem()) if len(test) > 1 else math.nan,
        test_loss=float(found.runs.test_loss.mean()),
        headline=headline,
        num_seeds=len(found.seeds),
        num_trials=len(trials),
        num_diverged=found.num_diverged,
        edges=found.edges,
        remarks=found.remarks,
    )


def _order(key: str) -> int:
    """Of equal cells the smaller learning rate wins, then the smaller weight decay."""
    first = ("lr", "weight_decay")
    return first.index(key) if key in first else len(first)


def hashable(value: Any) -> Any:
    """A setting that can be compared and looked up: lists as text."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def conditions_of(sweep: Sweep, cell: Cell) -> dict[str, Any]:
    """The part of a cell's setting that is compared along, not tuned."""
    named = {short(k): v for k, v in cell.settings.items()}
    found = {name: named[name] for name in sweep.manifest["conditions"] if name in named}
    several = "," in sweep.manifest["experiment"]
    return {"experiment": cell.config["experiment"], **found} if several else found


def pace(sweep: Sweep, states: dict[str, str]) -> tuple[float, float] | None:
    """Cells per hour of the workers of now, and the seconds that the rest will take.

    From the time that finished cells took and the number of live leases; None where either is
    unknown.
    """
    took = [t for leases in sweep.leases.scan().values() for one in leases if (t := _took(one))]
    num_live = sum(state == "running" for state in states.values())
    if not took or not num_live:
        return None
    mean = sum(took) / len(took)
    over = ("finished", "diverged", "failed")
    num_left = sum(state not in over for state in states.values()) - 0.5 * num_live
    return 3600 * num_live / mean, max(0.0, num_left) * mean / num_live


def _took(lease: Any) -> float | None:
    facts = lease.facts
    if facts.get("outcome") not in ("finished", "diverged"):
        return None
    start, end = (datetime.datetime.fromisoformat(facts[key]) for key in ("started", "ended"))
    return max(0.5, (end - start).total_seconds())
