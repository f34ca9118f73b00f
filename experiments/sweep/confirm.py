"""The picks of a sweep, trained again with seeds that had no part in picking them.

What validation picked of many settings looks better on those runs than it is. A fresh sweep of the
picks alone says how good they are; its test values are what should be reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from experiments.config import UserError
from experiments.sweep import manifest
from experiments.sweep.manifest import INIT_OPTIMIZER, Cell, Sweep
from experiments.sweep.results import Best, best_cells, hashable
from experiments.sweep.space import short


def confirm(sweep: Sweep, seeds: Sequence[int], metric: str | None = None) -> Sweep:
    """Writes the sweep `NAME-fresh` beside a sweep: its picks, with fresh seeds.

    Args:
        sweep: Tuned; its best settings are those of `results.best_cells`.
        seeds: None of them may be the sweep's own.
        metric: To pick by; the headline of the runs' task, unless said.

    Raises:
        UserError: where nothing can be picked, or a seed was used for picking.
    """
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
    cells = [_with_seed(trial, sweep, seed) for seed in seeds for trial in trials]
    tuned = [best.optimizer for best in picked if best.edges]
    about = f"the picks of {sweep.name}, with seeds that had no part in picking them"
    if tuned:
        about += f"; on an edge of what was tried: {', '.join(tuned)}"
    return manifest.write(
        sweep.path.with_name(f"{sweep.name}-fresh"),
        cells,
        fixed=sweep.manifest["fixed"],
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


def _with_seed(cell: Cell, sweep: Sweep, seed: int) -> Cell:
    return Cell.of(replace(sweep.config(cell), seed=seed), cell.settings)
