"""What was run or measured here, as the checks of claims find it; and what a check may answer."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from experiments.analysis.statistics.comparison import (
    CONFIDENCE,
    Difference,
    choose,
    difference_of,
    paired_values,
)
from experiments.analysis.statistics.power import seeds_needed
from experiments.analysis.studies import read_study
from experiments.store import UserError

SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
NOT_RUN = "not run"
PROXY, MEASURED, PAPER_SCALE = "proxy", "measured-here", "paper"
MARGIN = 1.0
"""Points within which two accuracies count as "no clear difference"."""
COLUMNS = {"betas": ("beta1", "beta2"), "batch_size": ("batch_size",)}
"""What a study must have beside what every study has."""


class NotRun(Exception):
    """The study that a check needs is not there; the message is the command that makes it."""


@dataclass(frozen=True)
class Finding:
    """One answer to one claim."""

    measure: str  # what the estimate is
    estimate: float
    low: float  # 95 % interval, unless the note says otherwise
    high: float
    n: int  # seeds, or files for a measurement
    unit: str
    verdict: str  # supported | contradicted | inconclusive
    scale: str = PROXY  # or measured-here, or paper
    seeds_to_decide: float = float("nan")  # where inconclusive: seeds for 80 % power
    note: str = ""


class Evidence:
    """The files below results/ that checks read. Nothing else reaches a check."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.used: list[str] = []  # files that were read since the list was last emptied
        self._tables = lru_cache(maxsize=None)(read_study)

    def study(self, name: str) -> pd.DataFrame:
        """A study on vit_proxy.

        Raises:
            NotRun: if it has not been collected.
            UserError: if its table is damaged, or has runs of another scale.
        """
        path = self.root / "results" / "studies" / name / "runs.csv"
        command = f"python scripts/sweep.py collect (the study {name} on vit_proxy)"
        return _checked(self._table(path, command), path, COLUMNS.get(name, ()), PROXY)

    def paper_scale(self, experiments: Sequence[str]) -> pd.DataFrame:
        """Runs of the paper's own experiments, results/studies/imagenet/runs.csv.

        Raises:
            NotRun: if one of the experiments has no run there.
            UserError: if the table is damaged, or has runs of another scale.
        """
        path = self.root / "results" / "studies" / "imagenet" / "runs.csv"
        names = ",".join(experiments)
        command = f"python run.py -m experiment={names} optimizer=lion,adamw seed=0,1,2"
        table = _checked(self._table(path, command), path, ("experiment",), PAPER_SCALE)
        if not set(experiments) <= set(table.experiment):
            raise NotRun(command)
        return table[table.experiment.isin(experiments)]

    def curves(self, name: str) -> pd.DataFrame:
        """A study's curves. Raises NotRun if there are none."""
        path = self.root / "results" / "studies" / name / "curves.csv"
        command = f"python scripts/sweep.py collect (curves of the study {name})"
        columns = ("run_id", "step", "split", "metric", "value")
        return _checked(pd.read_csv(self._found(path, command)), path, columns)

    def proxy(self, name: str) -> pd.DataFrame:
        """One of the published comparisons. Raises NotRun if it is not there."""
        path = self.root / "results" / "proxies" / f"{name}.csv"
        return self._table(path, f"python scripts/demo.py --experiment {name} --publish")

    def noise(self) -> pd.DataFrame:
        """The landscape study, as `analysis.landscape.noise_table` writes it."""
        path = self.root / "results" / "studies" / "landscape" / "noise.csv"
        command = "python scripts/landscape.py RUN_ID ... (the chosen runs of both optimizers)"
        columns = ("optimizer", "seed", "noise", "scale", "loss")
        return _checked(pd.read_csv(self._found(path, command)), path, columns)

    def benchmarks(self) -> list[dict[str, Any]]:
        """Every results/bench/lion_*.json; raises NotRun if there is none."""
        files = sorted((self.root / "results" / "bench").glob("lion_*.json"))
        if not files:
            raise NotRun("python scripts/bench_lion.py --json > results/bench/lion_NAME.json")
        found = []
        for path in files:
            self._found(path, "")
            try:
                content = json.loads(path.read_text())
                found.append({"file": path.stem, "rows": [dict(row) for row in content["rows"]]})
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{path} is damaged: measure it anew or delete it") from None
        return found

    def page(self, group: str, name: str) -> str:
        """A page of conf/, as text."""
        return self._found(self.root / "conf" / group / f"{name}.yaml", "").read_text()

    def _table(self, path: Path, command: str) -> pd.DataFrame:
        return self._tables(self._found(path, command))

    def _found(self, path: Path, command: str) -> Path:
        if not path.exists():
            raise NotRun(command)
        self.used.append(str(path.relative_to(self.root)))
        return path


def _checked(
    table: pd.DataFrame, path: Path, columns: Sequence[str], scale: str | None = None
) -> pd.DataFrame:
    """The table, if it has the columns, and nothing but runs of one scale.

    Raises:
        UserError: if not.
    """
    if missing := [column for column in columns if column not in table]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}: collect it anew")
    if scale is not None and ("scale" not in table or (table.scale != scale).any()):
        raise UserError(f"{path}: every run must say scale={scale}; keep other runs elsewhere")
    return table


def is_larger(
    difference: Difference, sd: float, measure: str, unit: str, note: str = ""
) -> Finding:
    """Supported where the whole interval of a claimed gain is above 0."""
    verdict = {"better": SUPPORTED, "worse": CONTRADICTED}.get(difference.verdict, INCONCLUSIVE)
    return _finding(difference, sd, measure, unit, verdict, abs(difference.mean), note)


def is_alike(
    difference: Difference,
    sd: float,
    measure: str,
    unit: str,
    note: str = "",
    margin: float = MARGIN,
) -> Finding:
    """Supported where the whole interval lies within the margin, contradicted where outside.

    A difference that is shown, though smaller than the margin, is neither.
    """
    is_shown = difference.low > 0 or difference.high < 0
    is_within_margin = -margin < difference.low and difference.high < margin
    if is_within_margin and not is_shown:
        verdict = SUPPORTED
    elif difference.low > margin or difference.high < -margin:
        verdict = CONTRADICTED
    else:
        verdict = INCONCLUSIVE
    said = f"alike means within {margin:g} {unit}, and no difference shown"
    effect = abs(margin - abs(difference.mean))
    found = _finding(
        difference, sd, measure, unit, verdict, effect, "; ".join(filter(None, [note, said]))
    )
    if is_within_margin and is_shown:  # more seeds would not decide it
        return replace(found, seeds_to_decide=float("nan"))
    return found


def sd_of(difference: Difference) -> float:
    """Standard deviation of the paired differences behind Student's interval; NaN for n < 2."""
    if difference.n < 2:
        return float("nan")
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, difference.n - 1))
    return (difference.high - difference.low) / 2 / reach * math.sqrt(difference.n)


def is_within(low: float, high: float, claimed: tuple[float, float]) -> str:
    """Supported where an interval lies within a claimed range, contradicted where apart from it."""
    if claimed[0] <= low and high <= claimed[1]:
        return SUPPORTED
    return CONTRADICTED if high < claimed[0] or low > claimed[1] else INCONCLUSIVE


def _finding(
    difference: Difference,
    sd: float,
    measure: str,
    unit: str,
    verdict: str,
    effect: float,
    note: str,
) -> Finding:
    seeds = float("nan")
    if verdict == INCONCLUSIVE and sd > 0 and math.isfinite(sd) and effect > 0:
        seeds = seeds_needed(effect, sd)
    return Finding(
        measure, difference.mean, difference.low, difference.high, difference.n, unit, verdict,
        seeds_to_decide=seeds, note=note,
    )  # fmt: skip


@dataclass(frozen=True)
class Tuned:
    """Test differences of two tuned optimizers by seed, and whether a grid's edge spoils them."""

    differences: pd.Series  # index: seed
    note: str
    on_edge: bool

    @property
    def difference(self) -> Difference:
        return difference_of(self.differences)

    @property
    def sd(self) -> float:
        return float(self.differences.std(ddof=1))

    def larger(self, measure: str, unit: str = "points") -> Finding:
        """`is_larger`, but inconclusive where a best cell is on an edge."""
        return self._guarded(is_larger(self.difference, self.sd, measure, unit, self.note))

    def alike(self, measure: str, unit: str = "points") -> Finding:
        """`is_alike`, but inconclusive where a best cell is on an edge."""
        return self._guarded(is_alike(self.difference, self.sd, measure, unit, self.note))

    def _guarded(self, finding: Finding) -> Finding:
        if not self.on_edge:
            return finding
        return Finding(
            **{**vars(finding), "verdict": INCONCLUSIVE, "seeds_to_decide": float("nan")}
        )


def tuned_difference(table: pd.DataFrame, ours: str, theirs: str) -> Tuned:
    """Test values of ours minus theirs by seed; settings picked on validation.

    Raises:
        UserError: where one of them has no setting that finished with every seed.
    """
    try:
        chosen = [choose(table, name) for name in (ours, theirs)]
    except ValueError as error:
        raise UserError(str(error)) from None
    pairs = paired_values(table, *chosen)
    edges = [c.optimizer for c in chosen if c.on_edge]
    note = ", ".join(f"{c.optimizer} lr {c.lr:g} wd {c.weight_decay:g}" for c in chosen)
    if edges:
        note += f"; not tuned: the best cell of {' and '.join(edges)} is on the edge of its grid"
    return Tuned(pairs.ours - pairs.theirs, note, bool(edges))
