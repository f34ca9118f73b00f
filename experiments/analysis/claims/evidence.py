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

from experiments.analysis import searches
from experiments.analysis.sources import noise_path, noise_paths
from experiments.analysis.statistics.difference import MIN_SEEDS, Difference
from experiments.analysis.statistics.power import POWER, seeds_needed
from experiments.analysis.studies import read_study, study_path
from experiments.outcomes import OTHER_WEIGHTS
from experiments.pages import script
from experiments.store import UserError

SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
NOT_RUN = "not run"
PROXY, MEASURED, PAPER_SCALE = "proxy", "measured-here", "paper"
MARGIN = 1.0
"""Points within which two accuracies count as "no clear difference"."""
POINTS = ("run_id", "step", "split", "metric", "value")
"""Columns of a study's curves."""
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
    seeds_to_decide: float = float("nan")  # where inconclusive: for 80 % power at a stated effect
    note: str = ""


class Evidence:
    """The files below results/ that checks read. Nothing else reaches a check."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.used: list[str] = []  # files that were read since the list was last emptied
        self._tables = lru_cache(maxsize=None)(read_study)

    def study(self, name: str, experiment: str | None = None) -> pd.DataFrame:
        """A study on a proxy: that of vit_proxy, unless another one is named.

        Raises:
            NotRun: if it has not been collected.
            UserError: if its table is damaged, or has runs of another scale.
        """
        path = study_path(self.root / "results", name, experiment)
        command = f"{script('sweep')} collect (the study {name} on {experiment or 'a proxy'})"
        if path is None:
            raise NotRun(command)
        return _checked(self._table(path, command), path, COLUMNS.get(name, ()), PROXY)

    def paper_scale(self, experiments: Sequence[str]) -> pd.DataFrame:
        """Runs of the paper's own experiments, results/studies/EXPERIMENT/paper/runs.csv.

        Raises:
            NotRun: if one of the experiments has no run there.
            UserError: if a table is damaged, or has runs of another scale.
        """
        names = ",".join(experiments)
        command = f"{script('run')} -m experiment={names} optimizer=lion,adamw seed=0,1,2,3"
        tables = []
        for name in experiments:
            path = self.root / "results" / "studies" / name / "paper" / "runs.csv"
            table = _checked(self._table(path, command), path, ("experiment",), PAPER_SCALE)
            if not (table.experiment == name).all() or table.empty:
                raise UserError(f"{path}: holds other runs than those of {name}; collect it anew")
            tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def curves(self, name: str, experiment: str | None = None) -> pd.DataFrame:
        """A study's curves. Raises NotRun if there are none."""
        return self._ends("curves.csv", name, experiment, POINTS)

    def other_weights(self, name: str, experiment: str | None = None) -> pd.DataFrame:
        """Last values of weights that do not decide. Raises NotRun if there are none."""
        return self._ends(OTHER_WEIGHTS, name, experiment, (*POINTS, "weights"))

    def _ends(
        self, file: str, name: str, experiment: str | None, columns: Sequence[str]
    ) -> pd.DataFrame:
        command = f"{script('sweep')} collect --curves (of the study {name})"
        path = study_path(self.root / "results", name, experiment)
        if path is None:
            raise NotRun(command)
        path = path.with_name(file)
        return _checked(pd.read_csv(self._found(path, command)), path, columns)

    def proxy(self, name: str) -> pd.DataFrame:
        """One of the published comparisons. Raises NotRun if it is not there."""
        path = self.root / "results" / "proxies" / f"{name}.csv"
        return self._table(path, f"{script('demo')} --experiment {name} --publish")

    def noise(self) -> pd.DataFrame:
        """The landscape study, as `analysis.landscape.noise_table` writes it."""
        path = noise_path(self.root / "results")
        if path is None:
            raise NotRun(f"{script('landscape')} RUN_ID ... (the chosen runs of both)")
        return self._noise(path)

    def other_noises(self) -> dict[str, pd.DataFrame]:
        """The landscape studies of the other experiments, by name; empty where there is none."""
        others = noise_paths(self.root / "results")[1:]
        return {path.parent.parent.name: self._noise(path) for path in others}

    def _noise(self, path: Path) -> pd.DataFrame:
        columns = ("optimizer", "seed", "noise", "scale", "loss")
        return _checked(pd.read_csv(self._found(path, "")), path, columns)

    def searches(self, *names: str) -> dict[str, pd.DataFrame]:
        """The study of program searches: what each search was, and the tables of these names.

        Raises:
            NotRun: if one of them is not there.
            UserError: if one is damaged.
        """
        folder = self.root / "results" / "studies" / searches.STUDY
        for name in ("searches", *names):
            self._found(folder / f"{name}.csv", f"{searches.START}; {searches.COMMAND}")
        return searches.read(folder)

    def benchmarks(self) -> list[dict[str, Any]]:
        """Every results/bench/lion_*.json; raises NotRun if there is none."""
        files = sorted((self.root / "results" / "bench").glob("lion_*.json"))
        if not files:
            raise NotRun(f"{script('bench_lion')} --json > results/bench/lion_NAME.json")
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
    difference: Difference,
    measure: str,
    unit: str,
    note: str = "",
    effect: float | None = None,
    luck: float = 0.0,
) -> Finding:
    """Supported where a claimed gain is shown, contradicted where the opposite is.

    Args:
        difference: Judged by the rule of `statistics.difference`.
        measure: What it is.
        unit: Of the difference.
        note: To be said with it.
        effect: That is asked for, stated beforehand, for the seeds that would decide; by default
            `MARGIN` points, and none in other units.
        luck: Standard error of tuning, which more seeds do not make smaller, where one tuning
            stands for all.
    """
    verdict = {"better": SUPPORTED, "worse": CONTRADICTED}.get(difference.verdict, INCONCLUSIVE)
    effect = MARGIN if effect is None and unit == "points" else effect
    stated = "1 point" if (effect, unit) == (1, "points") else f"{effect or 0:.2g} {unit}"
    asked = f"for {100 * POWER:.0f} % power at a true {stated}"
    return _finding(difference, measure, unit, verdict, note, (effect, POWER, asked, luck))


def is_alike(
    difference: Difference,
    measure: str,
    unit: str,
    note: str = "",
    margin: float = MARGIN,
    luck: float = 0.0,
) -> Finding:
    """Supported where the whole interval lies within the margin, contradicted where outside.

    A difference that is shown, though smaller than the margin, is neither. `luck` is that of
    `is_larger`.
    """
    is_shown = difference.verdict in ("better", "worse")
    is_within_margin = -margin < difference.low and difference.high < margin
    if difference.untuned or difference.n < MIN_SEEDS:
        verdict = INCONCLUSIVE
    elif is_within_margin and not is_shown:
        verdict = SUPPORTED
    elif is_shown and (difference.low > margin or difference.high < -margin):
        verdict = CONTRADICTED
    else:
        verdict = INCONCLUSIVE
    said = f"alike means within {margin:g} {unit}, and no difference shown"
    note = "; ".join(filter(None, [note, said]))
    # Both ends must lie within: 90 % power for each make 80 % for both.
    asked = f"for {100 * POWER:.0f} % power if they are equal"
    request = (margin, 1 - (1 - POWER) / 2, asked, luck)
    found = _finding(difference, measure, unit, verdict, note, request)
    if is_within_margin and is_shown:  # more seeds would not decide it
        return replace(found, seeds_to_decide=float("nan"))
    return found


def is_within(low: float, high: float, claimed: tuple[float, float]) -> str:
    """Supported where an interval lies within a claimed range, contradicted where apart from it."""
    if claimed[0] <= low and high <= claimed[1]:
        return SUPPORTED
    return CONTRADICTED if high < claimed[0] or low > claimed[1] else INCONCLUSIVE


def _finding(
    difference: Difference,
    measure: str,
    unit: str,
    verdict: str,
    note: str,
    request: tuple[float | None, float, str, float],
) -> Finding:
    """A finding; where it is inconclusive, with the seeds for an effect, power, and in words."""
    effect, wanted_power, asked, luck = request
    seeds, said = float("nan"), [note]
    if verdict == INCONCLUSIVE:
        said += [difference.reason]
        can_decide = not difference.untuned and difference.sd > 0
        if can_decide and effect is not None:
            seeds = seeds_needed(effect, difference.sd, wanted_power, luck=luck)
            if math.isinf(seeds):
                seeds, asked = float("nan"), f"no number of them {asked}: the luck of tuning stays"
            said += [f"seeds to decide: {asked}"]
    return Finding(
        measure, difference.mean, difference.low, difference.high, difference.n, unit, verdict,
        seeds_to_decide=seeds, note="; ".join(filter(None, said)),
    )  # fmt: skip
