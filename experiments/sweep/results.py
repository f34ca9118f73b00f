"""Tables of a sweep's runs: one row per run, the best cells, and how fast it goes."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import UserError
from experiments.sweep.manifest import Cell, Sweep
from experiments.sweep.space import short
from experiments.table import read_runs

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("run_id", "experiment", "optimizer", "lr", "weight_decay", "beta1", "beta2", "batch_size"),
    *("epochs", "seed", "state", "val", "test", "steps", "seconds", "num_params", "data", "scale"),
    "sweep",
)
"""Of the tidy table of a study."""
METRIC = "top1"
NUM_POINTS = 30
"""Of a training curve in a study's table: enough to draw it, few enough to commit hundreds."""


@dataclass(frozen=True)
class Best:
    """The setting that validation picked for one optimizer, under one condition."""

    optimizer: str
    settings: dict[str, Any]  # column: value; conditions first
    val: float
    test: float
    test_error: float  # standard error of the mean over seeds
    num_seeds: int
    num_trials: int  # settings that were tried
    num_diverged: int  # runs
    edges: tuple[str, ...]  # columns in which the best is the smallest or largest that was tried


def runs_table(sweep: Sweep, metric: str = METRIC) -> pd.DataFrame:
    """One row per run that is over, with `COLUMNS`; a diverged one has no values.

    Args:
        sweep: The sweep.
        metric: Of the columns val and test; measured with the raw weights at the last step.
    """
    import pandas as pd

    rows = _rows(sweep)
    if rows.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    cells = {cell.run_id: cell for cell in sweep.cells}
    last = rows[(rows.metric == metric) & (rows.weights == "raw")]
    last = last[last.step == last.groupby("run_id").step.transform("max")]
    values = last.pivot_table(index="run_id", columns="split", values="value")
    table = []
    for run, mine in rows.groupby("run_id", sort=True):
        first = mine.iloc[0]
        is_whole = first.state == "finished" and run in values.index
        measured = values.loc[run].to_dict() if is_whole else {}
        beta1, beta2 = _betas(first.hyper_parameters)
        facts = {name: first[name] for name in COLUMNS if name in mine.columns}
        table.append(
            {
                **facts,
                "beta1": beta1,
                "beta2": beta2,
                "epochs": cells[str(run)].config["train"]["epochs"],
                "val": measured.get("val", math.nan),
                "test": measured.get("test", math.nan),
                "steps": mine.step.max(),
                "seconds": mine.seconds.max(),
                "sweep": sweep.name,
            }
        )
    return pd.DataFrame(table, columns=list(COLUMNS))


def curves_table(sweep: Sweep) -> pd.DataFrame:
    """Loss and accuracy of the runs that are over, raw weights only, in the order of the ledger.

    Every evaluation, and of the training curves about `NUM_POINTS` each, the last one included.
    """
    rows = _rows(sweep)
    kept = rows[(rows.weights == "raw") & (rows.split != "run") & (rows.metric != "lr")]
    to_end = kept.groupby(["run_id", "split", "metric"]).cumcount(ascending=False)
    length = kept.groupby(["run_id", "split", "metric"]).step.transform("size")
    stride = (length // NUM_POINTS).clip(lower=1)
    kept = kept[(kept.split != "train") | (to_end % stride == 0)]
    return kept[["run_id", "step", "split", "metric", "value"]].reset_index(drop=True)


def _rows(sweep: Sweep) -> pd.DataFrame:
    """The ledger rows of the cells that are over."""
    over = [cell.run_id for cell in sweep.cells if sweep.final_state(cell)]
    return read_runs(sweep.manifest["runs_dir"], runs=over)


def _betas(hyper_parameters: str) -> tuple[float, float]:
    """beta1 and beta2; an optimizer with one beta, or momentum, has it as beta1."""
    settings = json.loads(hyper_parameters)
    betas = settings.get("betas") or [settings.get("beta", settings.get("momentum"))]
    first, second, *_ = [*betas, None, None]
    return (math.nan if first is None else first), (math.nan if second is None else second)


def collect(sweep: Sweep, folder: Path, curves: bool = False, metric: str = METRIC) -> Path:
    """Writes runs.csv, and curves.csv if wanted, of the runs that are over.

    Returns:
        The path of runs.csv.

    Raises:
        UserError: if no run is over.
    """
    table = runs_table(sweep, metric)
    if table.empty:
        raise UserError(f"sweep {sweep.name}: no run is over yet")
    folder.mkdir(parents=True, exist_ok=True)
    keys = ["optimizer", "lr", "weight_decay", "beta1", "beta2", "batch_size", "seed"]
    table = table.sort_values(keys, kind="stable")
    table = table.round({"val": 4, "test": 4, "seconds": 2})
    table.to_csv(folder / "runs.csv", index=False)
    if curves:
        points = curves_table(sweep)
        points.assign(value=points.value.map("{:.6g}".format)).to_csv(
            folder / "curves.csv", index=False
        )
    return folder / "runs.csv"


def best_cells(sweep: Sweep, metric: str = METRIC) -> list[Best]:
    """The best setting of each optimizer under each condition, by mean validation value.

    A setting counts if it has finished with every seed of the sweep; a diverged seed rules it out.
    """
    table = runs_table(sweep, metric).set_index("run_id")
    trials: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for cell in sweep.cells:
        key = cell.optimizer, json.dumps(_conditions(sweep, cell), sort_keys=True)
        trials.setdefault(key, {}).setdefault(cell.trial, []).append(cell)
    return [best for group in trials.values() if (best := _best(sweep, table, group))]


def _best(sweep: Sweep, table: pd.DataFrame, trials: dict[str, list[Cell]]) -> Best | None:
    means = {}
    for trial, cells in trials.items():
        values = table.val.reindex([cell.run_id for cell in cells])
        if values.notna().all():
            means[trial] = round(values.mean(), 3)  # the first of equal ones, as in the analysis
    if not means:
        return None
    winner = trials[max(means, key=lambda trial: means[trial])]
    test = table.test.reindex([cell.run_id for cell in winner])
    states = table.state.reindex([c.run_id for cells in trials.values() for c in cells])
    one = winner[0]
    tuned = {short(k): v for k, v in one.settings.items() if k not in _fixed(sweep, one)}
    conditions = _conditions(sweep, one)
    return Best(
        optimizer=one.optimizer,
        settings={**conditions, **tuned},
        val=max(means.values()),
        test=float(test.mean()),
        test_error=float(test.sem()) if len(test) > 1 else math.nan,
        num_seeds=len(winner),
        num_trials=len(trials),
        num_diverged=int((states == "diverged").sum()),
        edges=tuple(_edges(one, [cells[0] for cells in trials.values()], conditions)),
    )


def _conditions(sweep: Sweep, cell: Cell) -> dict[str, Any]:
    """The part of a cell's setting that is compared along, not tuned."""
    named = {short(k): v for k, v in cell.settings.items()}
    found = {name: named[name] for name in sweep.manifest["conditions"] if name in named}
    several = "," in sweep.manifest["experiment"]
    return {"experiment": cell.config["experiment"], **found} if several else found


def _fixed(sweep: Sweep, cell: Cell) -> set[str]:
    """Keys that have one value in every cell of an optimizer."""
    axes = sweep.manifest["axes"].get(cell.optimizer, {})
    return {key for key in cell.settings if len(axes.get(short(key), [])) < 2}


def _edges(best: Cell, tried: list[Cell], conditions: dict[str, Any]) -> Iterator[str]:
    """Columns of numbers in which the best lies at an end of what was tried."""
    for key, value in best.settings.items():
        if short(key) in conditions or isinstance(value, bool):
            continue
        values = sorted({v for c in tried if isinstance(v := c.settings.get(key), int | float)})
        if len(values) > 1 and value in (values[0], values[-1]):
            yield short(key)


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
