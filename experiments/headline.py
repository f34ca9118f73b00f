"""Which number decides: on which split, with which weights, and which way is better.

A task owns its headline; a run's header records it, and so does every row of a study's table. All
that picks a setting, compares optimizers or draws a verdict asks here. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from experiments.config import UserError

Direction = Literal["higher", "lower"]
KNOWN: dict[str, Direction] = {"top1": "higher", "loss": "lower"}
"""Directions of the metrics that the ledger had before its rows said so themselves."""


@dataclass(frozen=True)
class Headline:
    """The number by which runs are judged.

    Tuning looks at `tune` alone, and what was picked is reported on `report`.
    """

    metric: str  # as evaluations name it, e.g. top1
    better: Direction
    unit: str = ""  # of the value, e.g. %
    tune: str = "val"  # split
    report: str = "test"  # split; where it is the same as tune, nobody held anything back
    weights: str = "raw"  # raw | ema
    digits: int = 2  # that are shown behind the point
    margin: float | None = None  # in the unit: what counts as alike in practice; None: not stated

    def __post_init__(self) -> None:
        if self.better not in ("higher", "lower"):
            raise UserError(f"{self.metric}: better={self.better!r} must be 'higher' or 'lower'")
        if self.weights not in ("raw", "ema"):
            raise UserError(f"{self.metric}: weights={self.weights!r} must be 'raw' or 'ema'")

    @property
    def sign(self) -> int:
        """1 where larger is better, -1 where smaller is: `sign * value` is a score."""
        return 1 if self.better == "higher" else -1

    def text(self, value: float) -> str:
        """A value with its digits and unit, for people."""
        if value != value:
            return "-"
        gap = "" if self.unit in ("", "%") else " "
        return f"{value:.{self.digits}f}{gap}{self.unit}"

    @property
    def phrase(self) -> str:
        """What is judged, in words: `test top1 (%), higher is better`."""
        unit = f" ({self.unit})" if self.unit else ""
        averaged = "" if self.weights == "raw" else f", {self.weights} weights"
        return f"{self.report} {self.metric}{unit}{averaged}, {self.better} is better"

    @property
    def reported(self) -> str:
        """What is reported, for a heading: `test top1 (%)`, `test_ood loss (nats), ema weights`."""
        averaged = "" if self.weights == "raw" else f", {self.weights} weights"
        return f"{self.report} {self.metric}{f' ({self.unit})' if self.unit else ''}{averaged}"

    @property
    def points(self) -> str:
        """The unit of a difference: points where the value is in %."""
        return "points" if self.unit == "%" else self.unit

    def resolution(self, n: float | None) -> float:
        """Step from one value to the next: one example of n; 0 where any value is possible."""
        return 100.0 / n if self.unit == "%" and n is not None and n > 0 else 0.0

    def columns(self) -> dict[str, Any]:
        """For every row of a study's table, see `of_table`."""
        return {
            "metric": self.metric, "unit": self.unit, "better": self.better,
            "weights": self.weights, "tune_split": self.tune, "report_split": self.report,
            "digits": self.digits,
        }  # fmt: skip

    def to_json(self) -> str:
        """For a column of a table."""
        return json.dumps(asdict(self), sort_keys=True)


def usual_splits(splits: Sequence[str]) -> tuple[str, str]:
    """On which to tune and to report: "val" and "test", where a source of data has them."""
    tune = "val" if "val" in splits or not splits else splits[0]
    return tune, "test" if "test" in splits else tune


IMAGE = Headline("top1", "higher", "%")
"""Headline of the runs that were recorded before a header had one."""


def read(text: Any) -> Headline:
    """The headline that `to_json` wrote; that of image classification where there is none.

    Raises:
        UserError: where it cannot be read.
    """
    if text is None or text == "" or text != text:
        return IMAGE
    try:
        return Headline(**(json.loads(text) if isinstance(text, str) else dict(text)))
    except (TypeError, ValueError) as error:
        raise UserError(f"a headline that this version cannot read: {error}") from None


def of_rows(texts: Iterable[Any], asked: str | None = None) -> Headline:
    """The one headline of several runs.

    Args:
        texts: The column `headline` of a table of runs.
        asked: A metric that is to be judged instead (`with_metric` finds its direction).

    Raises:
        UserError: where runs are judged by different numbers: they cannot be compared.
    """
    found = {read(text) for text in dict.fromkeys(texts)} or {IMAGE}
    kinds = {(h.metric, h.better, h.unit, h.tune, h.report, h.weights) for h in found}
    if len(kinds) > 1:
        said = "; ".join(sorted(headline.phrase for headline in found))
        hint = "compare them apart, or name one number with --metric"
        if asked is None:
            raise UserError(f"these runs are judged by different numbers ({said}): {hint}")
    return next(iter(sorted(found, key=Headline.to_json)))


def of_table(table: Any) -> Headline:
    """The one headline of a study's table, from the columns that `Headline.columns` names.

    Args:
        table: A pandas table with a row per run. One without a column `metric` is of the time when
            all were images.

    Raises:
        UserError: where its runs are judged by different numbers, or a row does not say by which.
    """
    if "metric" not in table or table.metric.isna().all():
        return IMAGE
    there = [name for name in IMAGE.columns() if name in table]
    found: set[Headline] = set()
    columns = [[None if v != v else v for v in table[name].tolist()] for name in there]
    for row in set(zip(*columns, strict=True)):
        said: dict[str, Any] = {
            _FIELDS.get(k, k): v for k, v in zip(there, row, strict=True) if v is not None
        }
        if not {"metric", "better"} <= set(said):
            raise UserError("a row of the table does not say its metric and better: collect anew")
        said["digits"] = int(said.get("digits", 2))
        found.add(Headline(**said))
    if len(found) > 1:
        kinds = "; ".join(sorted(headline.phrase for headline in found))
        raise UserError(f"these runs are judged by different numbers ({kinds}): compare them apart")
    return found.pop()


_FIELDS = {"tune_split": "tune", "report_split": "report"}
"""Columns of a table that have another name than the field."""


def with_metric(
    headline: Headline, metric: str, facts: Mapping[str, Mapping[str, Any]]
) -> Headline:
    """The same splits and weights, judged by another metric.

    Args:
        headline: The runs' own.
        metric: To judge by.
        facts: Metric to `better` and `unit`, as the rows of the ledger have them.

    Raises:
        UserError: for a metric that nobody measured, or whose direction is not recorded.
    """
    if metric == headline.metric:
        return headline
    if metric not in facts:
        there = ", ".join(sorted(facts)) or "none"
        raise UserError(f"no evaluation has the metric {metric}; there are: {there}")
    better = facts[metric].get("better") or KNOWN.get(metric)
    if better not in ("higher", "lower"):
        raise UserError(
            f"the ledger does not say whether a higher or a lower {metric} is better: these runs "
            "were recorded before measurements said so; evaluate them again with job=evaluate"
        )
    unit = facts[metric].get("unit") or ""
    return replace(headline, metric=metric, better=better, unit=unit, margin=None)
