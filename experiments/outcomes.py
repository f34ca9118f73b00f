"""What became of each run: one row per run that is over, as every judge reads it.

`val` is the value on the split that is tuned on, `test` that on the split that is reported; which
splits, which metric and weights those are stands beside them (`Headline.columns`).
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# pyright: reportCallIssue=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import headline as headlines
from experiments.config import UserError
from experiments.files import replacing
from experiments.headline import Headline

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("run_id", "experiment", "optimizer", "lr", "weight_decay", "batch_size", "seed", "state")
VALUES = ("val", "test", "val_loss", "test_loss", "n")
"""Tuned and reported value; the metric `loss` on the same splits; examples behind `test`."""
LOSS = "loss"
OTHER_WEIGHTS = "other_weights.csv"
"""Beside a study's curves.csv: the last values of weights that are measured and do not decide."""
MACHINE = ("commit", "cpu", "threads", "torch", "launcher")
FACTS = ("num_params", "data", "scale", *MACHINE)
"""What a row says of the model and of the machine that made it."""
COLUMNS = (
    *(*KEYS[:5], "beta1", "beta2", *KEYS[5:], *VALUES, *Headline("", "higher").columns()),
    *("steps", "seconds", *FACTS),
)


def outcomes(rows: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """One row per run that is over, with `COLUMNS`; a diverged one has no values.

    Args:
        rows: The table of `experiments.table.read_runs`.
        metric: To judge by, instead of the runs' own headline.

    Raises:
        UserError: where nobody measured the metric, or nobody knows which way is better.
    """
    import pandas as pd

    over = rows[rows.state.isin(["finished", "diverged"])]
    if over.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    texts = over.groupby("run_id").headline.first()
    parts = []
    for text in dict.fromkeys(texts.where(texts.notna(), "")):
        runs = texts[texts.where(texts.notna(), "") == text].index
        mine = over[over.run_id.isin(runs)]
        parts.append(_judged(mine, asked(mine, metric)))
    return pd.concat(parts, ignore_index=True).sort_values("run_id", ignore_index=True)


def write_outcomes(table: pd.DataFrame, path: Path) -> None:
    """Writes a table as it is committed: values with as many digits as they can be told by."""
    shown = table.copy()
    for column in ("val", "test"):
        is_percent = table.unit == "%"
        shown[column] = table[column].round(4).where(is_percent, _rounded(table[column]))
    for column in ("val_loss", "test_loss"):
        shown[column] = _rounded(table[column])
    for column in ("n", "threads"):
        shown[column] = table[column].astype("Int64")
    with replacing(path) as draft:
        shown.round({"seconds": 2}).to_csv(draft, index=False)


def _rounded(values: pd.Series) -> pd.Series:
    """To 6 significant digits."""
    return values.map(lambda value: float(f"{value:.6g}"))


def asked(rows: pd.DataFrame, metric: str | None = None) -> Headline:
    """The headline of some runs, with another metric if that is asked for.

    Raises:
        UserError: as `outcomes`, or where the runs are judged by different numbers.
    """
    own = headlines.of_rows(rows.headline, metric)
    return own if metric is None else headlines.with_metric(own, metric, _facts(rows))


def check_alike(rows: pd.DataFrame) -> None:
    """Refuses numbers of one name that were not measured alike: distances by two extractors.

    Args:
        rows: The table of `experiments.table.read_runs`, or of curves with `instrument`. Compared
            are rows of one page, split and metric.

    Raises:
        UserError: names the metric and what differs.
    """
    if "instrument" not in rows:
        return
    told = rows[rows.instrument.notna() & (rows.instrument != "")]
    keys = [key for key in ("experiment", "split", "metric") if key in told]
    for _, mine in told.groupby(keys, dropna=False):
        one, *others = [_told(text) for text in mine.instrument.unique()]
        for other in others:
            if one == other:  # written in another order
                continue
            names = sorted(k for k in {*one, *other} if one.get(k) != other.get(k))
            raise UserError(
                f"{mine.metric.iloc[0]} was not measured alike: the runs differ in "
                f"{', '.join(names)}; evaluate them again with the same judge (job=evaluate)"
            )


def _told(instrument: str) -> dict[str, Any]:
    """Its facts; what a task from outside says may be no table of any."""
    return _table(instrument) or {"instrument": instrument}


def _table(text: Any) -> dict[str, Any]:
    """What a text of JSON holds; nothing where it is none, or no table."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _facts(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By metric that an evaluation measured: its direction and unit."""
    measured = rows[~rows.split.isin(["train", "run"])]
    known = measured[["metric", "better", "unit"]].drop_duplicates("metric")
    return {
        row["metric"]: {key: None if row[key] != row[key] else row[key] for key in row}
        for row in known.to_dict("records")
    }


def _judged(rows: pd.DataFrame, headline: Headline) -> pd.DataFrame:
    """The outcomes of runs with one headline."""
    import pandas as pd

    is_last = rows.step == rows.groupby("run_id").step.transform("max")
    is_judged = is_last & (rows.weights == headline.weights) & (rows.state == "finished")
    of_weights = rows[is_judged]
    values = _by_split(of_weights[of_weights.metric == headline.metric])
    losses = _by_split(of_weights[of_weights.metric == LOSS])
    table = []
    for run, mine in rows.groupby("run_id", sort=True):
        last = mine.loc[mine.step.idxmax()]
        beta1, beta2 = betas(last.hyper_parameters)
        table.append(
            {
                **{key: last[key] for key in KEYS},
                "beta1": beta1,
                "beta2": beta2,
                "val": _of(values, run, headline.tune, "value"),
                "test": _of(values, run, headline.report, "value"),
                "val_loss": _of(losses, run, headline.tune, "value"),
                "test_loss": _of(losses, run, headline.report, "value"),
                "n": _of(values, run, headline.report, "n"),
                **headline.columns(),
                "steps": last.step,
                "seconds": mine.seconds.max(),
                **{key: last[key] for key in FACTS if key != "torch"},
                "torch": _version_of_torch(last.versions),
            }
        )
    return pd.DataFrame(table, columns=list(COLUMNS))


def _by_split(last: pd.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    """By run and split: value and n.

    Args:
        last: Of one metric after the runs' last steps. What was measured of an earlier checkpoint
            alone (`job=evaluate checkpoint.step=...`) is not how a run has ended.
    """
    rows = zip(last.run_id, last.split, last.value, last.n, strict=True)
    return {(run, split): {"value": value, "n": n} for run, split, value, n in rows}


def _of(found: dict[tuple[str, str], dict[str, float]], run: Any, split: str, what: str) -> float:
    value = found.get((run, split), {}).get(what)
    return math.nan if value is None else value


def betas(hyper_parameters: Any) -> tuple[float, float]:
    """beta1 and beta2; an optimizer with one beta, or momentum, has it as beta1."""
    settings = _table(hyper_parameters)
    found = settings.get("betas") or [settings.get("beta", settings.get("momentum"))]
    first, second, *_ = [*found, None, None]
    return (math.nan if first is None else first), (math.nan if second is None else second)


def circumstances(rows: pd.DataFrame) -> pd.DataFrame:
    """On what each run was measured: a row per run with `MACHINE`, by the last of its rows.

    Args:
        rows: Some of `experiments.table.read_runs`.
    """
    last = rows.groupby("run_id").last().reset_index()
    return last.assign(torch=last.versions.map(_version_of_torch))[["run_id", *MACHINE]]


def _version_of_torch(versions: Any) -> str:
    return str(_table(versions).get("torch", ""))
