"""The picks of a sweep, trained again with seeds that had no part in picking them.

What validation picked of many settings looks better on those runs than it is. A fresh sweep of the
picks alone says how good they are; its test values are what should be reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from experiments import checks
from experiments.config import UserError, from_dict, to_dict
from experiments.sweep import writing
from experiments.sweep.manifest import INIT_OPTIMIZER, Cell, Sweep
from experiments.sweep.results import Best, best_cells, hashable
from experiments.sweep.space import short

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
        UserError: where nothing can be picked, a seed was used for picking, or an override would
            change more than what is measured.
    """
    changes = dict(_measured(text) for text in measured)
    if used := sorted(set(seeds) & set(sweep.manifest["seeds"])):
        raise UserError(f"seed {used[0]} had a part in picking: take fresh ones, e.g. 100-109")
    if INIT_OPTIMIZER in sweep.manifest["conditions"]:
        first = sweep.name.removesuffix("-then")
        raise UserError(
            f"{sweep.name} starts from runs of {first}, which have no such seeds: confirm {first}, "
            f"then call: python scripts/sweep.py then {first}-fresh"
        )
    picked = best_cells(sweep, metric)
    if not picked:
        raise UserError(f"sweep {sweep.name}: no setting has finished with every seed yet")
    trials = [cells_of(best, sweep)[0] for best in picked]
    cells = [_fresh(trial, sweep, seed, changes) for seed in seeds for trial in trials]
    tuned = [best.optimizer for best in picked if best.edges]
    about = f"the picks of {sweep.name}, with seeds that had no part in picking them"
    if tuned:
        about += f"; on an edge of what was tried: {', '.join(tuned)}"
    name = f"{sweep.name}-fresh"
    if measured:  # other settings are another sweep
        name += f"-{hashlib.sha256(' '.join(measured).encode()).hexdigest()[:6]}"
    return writing.write(
        sweep.path.with_name(name),
        cells,
        fixed=[*sweep.manifest["fixed"], *measured],
        conditions=sweep.manifest["conditions"],
        max_tries=sweep.manifest["max_tries"],
        lease_seconds=sweep.manifest["lease_seconds"],
        about=about,
        then=sweep.manifest.get("then"),
    )


def cells_of(best: Best, sweep: Sweep) -> list[Cell]:
    """The cells of the sweep with a setting that was picked, one for each seed."""

    def agrees(cell: Cell) -> bool:
        named: dict[str, Any] = {short(k): hashable(v) for k, v in cell.settings.items()}
        named["experiment"] = cell.config["experiment"]
        return all(named.get(key) == hashable(value) for key, value in best.settings.items())

    return [c for c in sweep.cells if c.optimizer == best.optimizer and agrees(c)]


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
