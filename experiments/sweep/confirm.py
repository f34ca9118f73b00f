"""The picks of a sweep, trained again with seeds that had no part in picking them.

What validation picked of many settings looks better on those runs than it is. A fresh sweep of the
picks alone says how good they are; its test values are what should be reported.

The picks of a stage two (`experiments.sweep.stages`) begin with the fresh runs of stage one, seed
by seed: `confirm NAME`, then `confirm NAME-then`.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from experiments import checks
from experiments.config import UserError, from_dict, to_dict
from experiments.files import say
from experiments.pages import script
from experiments.sweep import writing
from experiments.sweep.manifest import INIT_OPTIMIZER, Cell, Sweep
from experiments.sweep.results import Best, best_cells, hashable
from experiments.sweep.space import short
from experiments.sweep.unpicked import in_words, without_pick

MEASURED = ("eval.", "task.judge.")
"""Sections that say what is measured of a run, and nothing of how it is trained."""


def confirm(
    sweep: Sweep,
    seeds: Sequence[int],
    metric: str | None = None,
    measured: Sequence[str] = (),
) -> Sweep:
    """Writes the sweep `NAME-fresh` (or `NAME-fresh-HASH`, of `measured`) beside a sweep.

    It is of the sweep's picks, with fresh seeds.

    Args:
        sweep: Tuned; its best settings are those of `results.best_cells`.
        seeds: None of them may be the sweep's own.
        metric: To pick by; the headline of the runs' task, unless said.
        measured: Overrides `key=value` of `MEASURED`: what only the fresh runs measure.

    Raises:
        UserError: where nothing can be picked, a seed was used for picking, an override would
            change more than what is measured, or a run to begin with is not there.
    """
    changes = dict(_measured(text) for text in measured)
    if used := sorted(set(seeds) & set(sweep.manifest["seeds"])):
        raise UserError(f"seed {used[0]} had a part in picking: take fresh ones, e.g. 100-109")
    picked = best_cells(sweep, metric)
    if not picked:
        raise UserError(f"sweep {sweep.name}: no setting has finished with every seed yet")
    say(in_words(lost := without_pick(sweep, picked)), sys.stderr)
    trials = [cells_of(best, sweep)[0] for best in picked]
    begun = _begun(trials, sweep, seeds)
    cells = [
        _fresh(trial, sweep, seed, {**changes, **begun.get((trial.run_id, seed), {})})
        for seed in seeds
        for trial in trials
    ]
    tuned = [best.optimizer for best in picked if best.edges]
    about = f"the picks of {sweep.name}, with seeds that had no part in picking them"
    if tuned:
        about += f"; on an edge of what was tried: {', '.join(tuned)}"
    if lost:
        about += f"; without a pick: {', '.join(lost)}"
    name = f"{sweep.name}-fresh"
    if measured:  # other settings are another sweep
        name += f"-{hashlib.sha256(' '.join(measured).encode()).hexdigest()[:6]}"
    path = sweep.path.with_name(name)
    set_aside_other_picks(path, cells)
    return writing.write(
        path,
        cells,
        fixed=[*sweep.manifest["fixed"], *measured],
        conditions=sweep.manifest["conditions"],
        equal_budget=False,  # one pick for each condition, or none: see `without_pick`
        max_tries=sweep.manifest["max_tries"],
        lease_seconds=sweep.manifest["lease_seconds"],
        about=about,
        then=sweep.manifest.get("then"),
    )


def set_aside_other_picks(path: Path, cells: Sequence[Cell]) -> None:
    """Keeps a sweep of picks under another name if it has picks that are picks no more.

    They would stand beside the present ones, to be chosen from by runs that must choose nothing, or
    be taken for them. What has been trained counts further: it lies in the folder of runs.

    Args:
        path: Of the sweep that is about to be written.
        cells: Of the present picks.

    Raises:
        UserError: where the former picks are being trained.
    """
    if not (path / "manifest.json").exists():
        return
    before, trials = Sweep(path), {cell.trial for cell in cells}
    runs = {(cell.trial, cell.seed): cell.run_id for cell in cells}
    if all(c.trial in trials and runs.get((c.trial, c.seed), c.run_id) == c.run_id
           for c in before.cells):  # fmt: skip
        return
    if "running" in before.states().values():
        raise UserError(
            f"{path.name} is being trained, and the picks have changed since: stop it, then call "
            "this again"
        )
    kept, number = path.with_name(f"{path.name}-before"), 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}-before-{number}")
    path.rename(kept)
    say(f"the picks have changed: the sweep of the former ones is now {kept.name}\n", sys.stderr)


def cells_of(best: Best, sweep: Sweep) -> list[Cell]:
    """The cells of the sweep with a setting that was picked, one for each seed."""

    def agrees(cell: Cell) -> bool:
        named: dict[str, Any] = {short(k): hashable(v) for k, v in cell.settings.items()}
        named["experiment"] = cell.config["experiment"]
        return all(named.get(key) == hashable(value) for key, value in best.settings.items())

    return [c for c in sweep.cells if c.optimizer == best.optimizer and agrees(c)]


def _begun(
    trials: Sequence[Cell], sweep: Sweep, seeds: Sequence[int]
) -> dict[tuple[str, int], dict[str, str]]:
    """What the fresh runs of a stage two begin with, by the run id of the pick and the seed.

    Empty for a sweep that is none. A fresh run of stage one stands in for the one that the pick
    began with only where it was trained by the same setting.

    Raises:
        UserError: where one of them has not finished.
    """
    if INIT_OPTIMIZER not in sweep.manifest["conditions"]:
        return {}
    name = sweep.name.removesuffix("-then")
    first = {cell.run_id: cell for cell in Sweep(sweep.path.with_name(name)).cells}
    path = sweep.path.with_name(f"{name}-fresh")
    fresh = Sweep(path) if (path / "manifest.json").exists() else None
    over = [c for c in fresh.cells if fresh.final_state(c) == "finished"] if fresh else []
    found = {(cell.trial, cell.seed): cell.run_id for cell in over}
    begun = {}
    for trial, seed in itertools.product(trials, seeds):
        begin = first[trial.config["start_from"]["source"]]
        if (begin.trial, seed) not in found:
            raise UserError(
                f"{sweep.name} starts from runs of {name}, and {begin.optimizer}'s pick there has "
                f"no finished fresh run of seed {seed}: first call {script('sweep')} confirm "
                f"{name} with the same --seeds; leave out a seed that diverged there"
            )
        begun[trial.run_id, seed] = {"start_from.source": found[begin.trial, seed]}
    return begun


def _measured(text: str) -> tuple[str, Any]:
    """Key and value of an override that says what is measured."""
    key, given, value = text.partition("=")
    if not given or not key.startswith(MEASURED):
        raise UserError(
            f"--measure {text}: the picks are trained as they are; say KEY=VALUE of "
            f"{' or '.join(f'{section}*' for section in MEASURED)}"
        )
    return key, yaml.safe_load(value)


def _fresh(cell: Cell, sweep: Sweep, seed: int, changes: Mapping[str, Any]) -> Cell:
    config = replace(sweep.config(cell), seed=seed)
    plain = to_dict(config)
    for key, value in changes.items():
        *path, last = key.split(".")
        section: Any = plain
        for name in path:
            section = section.get(name) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            raise UserError(f"--measure {key}: {cell.config['experiment']} has no such key")
        section[last] = value
    config = from_dict(plain)
    checks.check(config)
    return Cell.of(config, cell.settings)
