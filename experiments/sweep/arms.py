"""A sweep and the runs of its picks as `experiments.arms`, for its figures and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.arms import Arm, Swept
from experiments.config import UserError
from experiments.pages import script
from experiments.sweep import codes, results
from experiments.sweep import curves as curves_of
from experiments.sweep.manifest import Cell, Sweep
from experiments.table import read_runs

if TYPE_CHECKING:
    import pandas as pd

FRESH = "-fresh"
_HASH = "[0-9a-f]" * 6


def swept(sweep: Sweep, metric: str | None = None) -> Swept:
    """The arms of a sweep.

    Args:
        sweep: That tunes; not one of `confirm`.
        metric: To judge by; the headline of the runs' task, unless said.

    Raises:
        UserError: where no run is over or can be judged, or the sweep is itself of picks.
    """
    _check_tunes(sweep)
    table = results.runs_table(sweep, metric)
    if table.empty:
        raise UserError(f"sweep {sweep.name}: no run is over yet: {_call('resume', sweep)}")
    if said := results.not_judged(table):
        raise UserError(f"sweep {sweep.name}: {said}")
    known = all_fresh_of(sweep)
    fresh = max(known, key=_num_over, default=None)
    over = table.head(0) if fresh is None else results.runs_table(fresh, metric)
    asked = f" --metric {metric}" if metric else ""
    return Swept(
        name=sweep.name,
        arms=tuple(_arm(sweep, cells, table, fresh, over) for cells in results.groups(sweep)),
        remarks=tuple(codes.mixed(sweep, *([] if fresh is None else [fresh]))),
        confirm=_call("confirm", sweep) + asked,
        num_failed=_num_failed(sweep),
        of_picks=_which(known, fresh),
        resume=_resume(sweep),
        resume_picks="" if fresh is None else _resume(fresh),
        again=_call("draw", sweep) + asked,
    )


def curves(sweep: Sweep, runs: Sequence[str]) -> pd.DataFrame:
    """Values along the steps of some runs of a sweep, or of its picks: `curves.judged`."""
    return curves_of.judged(read_runs(sweep.manifest["runs_dir"], runs=runs))


def all_fresh_of(sweep: Sweep) -> list[Sweep]:
    """The sweeps of the picks, the usual one first: each `confirm --measure` makes another."""
    usual = sweep.path.with_name(f"{sweep.name}{FRESH}")
    paths = [usual, *sorted(sweep.path.parent.glob(f"{usual.name}-{_HASH}"))]
    return [Sweep(path) for path in paths if (path / "manifest.json").exists()]


def _num_failed(sweep: Sweep) -> int:
    return [*sweep.states().values()].count("failed")


def _resume(sweep: Sweep) -> str:
    """The command that trains what is missing, and tries again what was given up."""
    return sweep.cure if _num_failed(sweep) else _call("resume", sweep)


def _which(known: Sequence[Sweep], taken: Sweep | None) -> str:
    """That of several sweeps of the picks one is taken; "" where there are none to choose from."""
    if taken is None or len(known) < 2:
        return ""

    def said(one: Sweep) -> str:
        return f"{one.name} ({_num_over(one)} of {len(one.cells)} runs are over)"

    others = ", ".join(said(one) for one in known if one is not taken)
    return (
        f"The fresh runs are those of {said(taken)}, of several sweeps of the picks the one that "
        f"is furthest; left out: {others}."
    )


def _num_over(sweep: Sweep) -> int:
    return sum(sweep.final_state(cell) is not None for cell in sweep.cells)


def _check_tunes(sweep: Sweep) -> None:
    name, of_picks, _ = sweep.name.rpartition(FRESH)
    if of_picks and (sweep.path.with_name(name) / "manifest.json").exists():
        tuned = Sweep(sweep.path.with_name(name))
        raise UserError(
            f"{sweep.name} is of the picks of {name}: draw that, and it is drawn with it: "
            f"{_call('draw', tuned)}"
        )


def _call(action: str, sweep: Sweep) -> str:
    is_usual = sweep.path.parent == Path("results/sweeps")
    return f"{script('sweep')} {action} {sweep.name if is_usual else sweep.path}"


def _arm(
    sweep: Sweep, cells: list[Cell], table: pd.DataFrame, fresh: Sweep | None, over: pd.DataFrame
) -> Arm:
    keys = results.tuned_keys(sweep, cells[0])
    again = [] if fresh is None else list(_alike(fresh, cells))
    return Arm(
        optimizer=cells[0].optimizer,
        condition=_text(results.conditions_of(sweep, cells[0])),
        keys=tuple(keys),
        planned=_planned(cells, keys),
        tuning=results.with_settings(table, cells, keys),
        fresh=results.with_settings(over, again, keys),
        fresh_planned=_planned(again, keys),
    )


def _alike(fresh: Sweep, cells: Sequence[Cell]) -> Iterator[Cell]:
    """Cells of the sweep of picks with a setting of these cells."""
    trials = {cell.trial for cell in cells}
    return (cell for cell in fresh.cells if cell.trial in trials)


def _planned(cells: Sequence[Cell], keys: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    rows = [{**results.settings_of(c, keys), "seed": c.seed, "run_id": c.run_id} for c in cells]
    return pd.DataFrame(rows, columns=[*keys, "seed", "run_id"])


def _text(conditions: dict[str, object]) -> str:
    said = [f"{name} {results.hashable(value)}" for name, value in conditions.items()]
    return ", ".join(said)
