"""Pictures of samples: which are shown, what is said of them, and how a study keeps them.

Of each page and optimizer one run is shown, by a rule that does not look at the pictures: of the
setting that validation picks (`experiments.selection`) the lowest seed. Runs of one seed begin with
the same noise, so the pictures of two optimizers can be held side by side.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.headline import of_table
from experiments.outcomes import outcomes
from experiments.selection import pick
from experiments.store import Folder, UserError, read_json, read_rows, write_json

RULE = (
    "Of each optimizer the setting that validation picks, and of that the lowest seed: chosen "
    "without looking. Runs of one seed begin with the same noise."
)
_SETTING = ("lr", "weight_decay", "beta1", "beta2", "batch_size", "steps")
_WEIGHTS = {"raw": "raw weights", "ema": "averaged weights (ema)"}
LIST = "samples.json"
"""In a study's folder: what its pictures show. The pictures lie in `samples/` beside it."""


@dataclass(frozen=True)
class Sample:
    """A picture, and what its caption needs."""

    path: Path = field(compare=False)
    run_id: str
    experiment: str
    optimizer: str
    lr: float
    weight_decay: float
    seed: int
    weights: str
    step: int
    metric: str
    value: float
    instrument: dict[str, Any]  # with which it was measured

    @property
    def title(self) -> str:
        return f"{self.experiment}: {self.optimizer}"

    @property
    def caption(self) -> str:
        """Which weights, sampler, steps and seeds; and the distance."""
        told = self.instrument
        guidance, steps = told.get("guidance", 1.0), int(told.get("steps", 0))
        return (
            f"lr {self.lr:g}, weight decay {self.weight_decay:g}, seed {self.seed}; "
            f"{_WEIGHTS.get(self.weights, self.weights)} after {self.step:,} steps; "
            f"{str(told.get('sampler', '')).upper()}, {steps:,} step{'s' * (steps != 1)}, "
            f"{'no guidance' if guidance == 1 else f'guidance {guidance:g}'}; the first of "
            f"{int(told.get('num_samples', 0)):,} samples, sample k from the noise of run seed "
            f"{self.seed} and number k; {self.metric} {self.value:.4g}."
        )


def chosen(ledger: pd.DataFrame, runs: Path) -> list[Sample]:
    """The pictures to show of the finished runs of a ledger.

    Args:
        ledger: The table of `experiments.table.read_runs`.
        runs: The folder of the runs' folders.
    """
    if ledger.empty:
        return []
    candidates = ledger[ledger.instrument.notna()].run_id.unique()
    pictured = {name: rows for name in candidates if (rows := _pictured(runs / name))}
    mine = ledger[ledger.run_id.isin(list(pictured))]
    table = outcomes(mine) if len(mine) else mine
    found: list[Sample] = []
    if table.empty:
        return found
    for _, group in table.groupby(["experiment", "optimizer"]):
        try:
            best = pick(group, _SETTING, of_table(group))
        except ValueError:  # nothing can be picked: then nothing is shown
            continue
        run = best.runs.sort_values("seed").iloc[0]
        weights = of_table(group).weights
        found += _samples(run, pictured[run.run_id], weights, runs / run.run_id)
    return found


def _pictured(folder: Path) -> list[dict[str, Any]]:
    """Rows whose picture is there, within the run's folder."""
    inside = folder.resolve()
    return [
        row
        for row in read_rows(Folder(folder).metrics)
        if isinstance(name := row.get("picture"), str)
        and (path := (folder / name).resolve()).is_relative_to(inside)
        and path.suffix == ".png"
        and path.is_file()
    ]


def _samples(
    run: pd.Series, rows: list[dict[str, Any]], weights: str, folder: Path
) -> list[Sample]:
    """One for each evaluation: the last, of the weights that decide where there are any."""
    last: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["weights"] == weights, row["step"])):
        last[row["metric"]] = row
    of_run = {key: run[key] for key in ("run_id", "experiment", "optimizer")}
    return [
        Sample(
            folder / row["picture"],
            **of_run,
            lr=float(run.lr),
            weight_decay=float(run.weight_decay),
            seed=int(run.seed),
            weights=row["weights"],
            step=int(row["step"]),
            metric=metric,
            value=float(row["value"]),
            instrument=json.loads(row.get("instrument") or "{}"),
        )
        for metric, row in sorted(last.items())
    ]


def publish(samples: Iterable[Sample], study: Path) -> Path:
    """Copies pictures into a study's folder, and notes what they show.

    Returns:
        The note.
    """
    listed = []
    (study / "samples").mkdir(parents=True, exist_ok=True)
    for sample in samples:
        name = f"samples/{sample.experiment}-{sample.optimizer}-{sample.metric}.png"
        shutil.copyfile(sample.path, study / name)
        listed.append({**asdict(sample), "path": name})
    write_json(study / LIST, {"samples": listed})
    return study / LIST


def published(results: Path) -> list[Sample]:
    """The pictures of the committed studies.

    Raises:
        UserError: for a note that is damaged, or names a picture that is not there.
    """
    found = []
    for path in sorted(results.glob(f"studies/*/*/{LIST}")):
        try:
            listed = [
                Sample(**{**entry, "path": path.parent / entry["path"]})
                for entry in read_json(path)["samples"]
            ]
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}): publish the samples again") from error
        for sample in listed:
            if not sample.path.is_file():
                raise UserError(f"{sample.path} is not there: publish the samples again")
        found += listed
    return found
