"""Pre-training then fine-tuning, and image-text training, on small proxies: the comparisons.

Fine-tuning is alike throughout; its rows' optimizer is, here, that of the pre-training.
"""

# pyright: reportArgumentType=false, reportReturnType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments.analysis.confirmed import COLUMNS, corrected, judged
from experiments.analysis.sources import RESULTS, study
from experiments.analysis.statistics.comparison import choose, leave_one_out
from experiments.analysis.studies import study_path
from experiments.outcomes import OTHER_WEIGHTS
from experiments.store import UserError

PRETRAINING, FINE_TUNING, IMAGE_TEXT = "pretrain_proxy", "finetune_proxy", "lit_proxy"
OURS, THEIRS, ADAFACTOR = "lion", "adamw", "adafactor"
BASELINES = (THEIRS, ADAFACTOR)
TUNING, FRESH, BATCH = "tuning", "fresh", "batch_size"


@dataclass(frozen=True)
class Measure:
    """One number of a run at its end, beside its headline."""

    column: str
    split: str
    metric: str
    weights: str | None = None  # None: those that decide
    has_own_n: bool = False  # measured on other examples than the headline


TWO_STAGE = (
    Measure("test", "test", "top1"),
    Measure("shifted", "shifted", "top1"),
    Measure("test, averaged", "test", "top1", "ema"),
    Measure("shifted, averaged", "shifted", "top1", "ema"),
)
"""After fine-tuning. Shifted: 1.4 times the noise and the slope. Averaged: Polyak's."""
CONTRASTIVE = (
    Measure("test", "test", "i2t_recall1"),
    Measure("text to image, 1", "test", "t2i_recall1"),
    Measure("zero-shot", "test", "zero_shot_top1", has_own_n=True),
)
"""What is asked of the image-text proxy."""
RECALLS = tuple(
    Measure(f"{way} {rank}", "test", f"{way}_recall{rank}")
    for way in ("i2t", "t2i")
    for rank in (1, 5, 10)
)
"""Everything that its retrieval measures."""


def runs(
    results: Path, name: str, experiment: str, measures: tuple[Measure, ...]
) -> pd.DataFrame | None:
    """A study's runs with a column for each measure, NaN where it was not taken.

    Of a stage two, `optimizer` is that of the pre-training. None where the study is not there.

    Raises:
        UserError: where a table is damaged.
    """
    table = study(name, results, experiment)
    path = study_path(results, name, experiment)
    if table is None or path is None:
        return None
    curves = _read(path.with_name("curves.csv"), weights=None)
    others = _read(path.with_name(OTHER_WEIGHTS), weights="weights")
    return with_measures(table, curves, others, measures)


def _read(path: Path, weights: str | None) -> pd.DataFrame:
    columns = ["run_id", "step", "split", "metric", "value", *filter(None, [weights])]
    if not path.exists():
        return pd.DataFrame(columns=columns)
    table = pd.read_csv(path)
    if missing := [column for column in columns if column not in table]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}: collect it anew")
    return table


def with_measures(
    table: pd.DataFrame,
    curves: pd.DataFrame,
    others: pd.DataFrame,
    measures: tuple[Measure, ...],
) -> pd.DataFrame:
    """As `runs`, of tables that were read.

    Args:
        table: A row per run.
        curves: run_id, step, split, metric, value, of the weights that decide.
        others: The same and weights, of other weights at the end.
        measures: The columns to make; `test` stays as the table has it.
    """
    if "init_optimizer" in table:
        table = table.assign(optimizer=table.init_optimizer)
    for one in measures:
        if one.column != "test":
            points = curves if one.weights is None else others[others.weights == one.weights]
            table = table.assign(**{one.column: table.run_id.map(_ends(points, one))})
            table.loc[table.state != "finished", one.column] = float("nan")
    return table


def _ends(points: pd.DataFrame, measure: Measure) -> pd.Series:
    """The last value of each run."""
    mine = points[(points.split == measure.split) & (points.metric == measure.metric)]
    return mine.sort_values("step").groupby("run_id").value.last().astype(float)


def two_stage(results: Path = RESULTS) -> pd.DataFrame:
    """Does the optimizer of the pre-training show after fine-tuning?

    Returns:
        A row per measure of `TWO_STAGE`: measure, then `confirmed.COLUMNS`, Holm's p over them.
        Whose pick is on an edge of either stage's grid is not tuned. Empty where not run.
    """
    tuning, fresh = (runs(results, s, FINE_TUNING, TWO_STAGE) for s in (TUNING, FRESH))
    edges = edges_of(study(TUNING, results, PRETRAINING))
    pairs = [(measure, THEIRS) for measure in TWO_STAGE]
    return _table(tuning, fresh, pairs, edges)


def pretraining(results: Path = RESULTS) -> pd.DataFrame:
    """The pre-training by itself, on test examples of its own classes; as `two_stage`, one row."""
    tuning, fresh = (study(name, results, PRETRAINING) for name in (TUNING, FRESH))
    return _table(tuning, fresh, [(Measure("test", "test", "top1"), THEIRS)])


def contrastive(results: Path = RESULTS) -> pd.DataFrame:
    """Lion against each of `BASELINES` by each measure of `CONTRASTIVE`; as `two_stage`."""
    tuning, fresh = (runs(results, s, IMAGE_TEXT, CONTRASTIVE) for s in (TUNING, FRESH))
    return _table(tuning, fresh, [(m, theirs) for m in CONTRASTIVE for theirs in BASELINES])


def batch_series(results: Path = RESULTS) -> pd.DataFrame:
    """Lion against AdamW by recall at each batch size, tuned anew at each.

    Returns:
        A row per size: batch_size, steps, then `confirmed.COLUMNS`, Holm's p over the sizes.
    """
    tuning, fresh = (study(f"{BATCH}{end}", results, IMAGE_TEXT) for end in ("", "_fresh"))
    rows = []
    for size, part in [] if tuning is None else tuning.groupby("batch_size"):
        mine = None if fresh is None else fresh[fresh.batch_size == size]
        facts = {"batch_size": int(size), "steps": int(part.steps.max())}
        rows.append(facts | judged(part, mine, OURS, THEIRS))
    return corrected(pd.DataFrame(rows, columns=["batch_size", "steps", *COLUMNS]))


def edges_of(tuning: pd.DataFrame | None) -> tuple[str, ...]:
    """The optimizers whose pick is on the edge of its grid, or of which nothing can be picked."""
    return tuple(n for n in (THEIRS, OURS) if tuning is not None and not _is_inside(tuning, n))


def _is_inside(tuning: pd.DataFrame, name: str) -> bool:
    try:
        return not choose(tuning, name).on_edge
    except ValueError:
        return False


def _table(
    tuning: pd.DataFrame | None,
    fresh: pd.DataFrame | None,
    questions: list[tuple[Measure, str]],
    edges: tuple[str, ...] = (),
) -> pd.DataFrame:
    rows = []
    for measure, theirs in [] if tuning is None else questions:
        found = judged(
            tuning, fresh, OURS, theirs, measure.column,
            has_own_n=measure.has_own_n, more_edges=edges,
        )  # fmt: skip
        rows.append({"measure": measure.column} | found)
    return corrected(pd.DataFrame(rows, columns=["measure", *COLUMNS]))


def reported(
    results: Path, experiment: str, measures: tuple[Measure, ...]
) -> dict[str, pd.DataFrame]:
    """Behind the comparisons: by optimizer the runs that report it, a row per seed.

    Of the fresh runs where there are any, else those of the tuning, one seed left out of each pick.
    An optimizer of which nothing can be picked is not there.
    """
    tables = [runs(results, name, experiment, measures) for name in (FRESH, TUNING)]
    table = next((one for one in tables if one is not None), None)
    found = {}
    for name in [] if table is None else sorted(table.optimizer.unique()):
        try:
            found[name] = leave_one_out(table, name)
        except ValueError:
            continue
    return found
