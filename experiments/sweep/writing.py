"""Makes a sweep's manifest, or adds to it: never two sweeps in one folder, nor unequal budgets.

The manifest only grows: the same call adds nothing, one with more seeds or optimizers adds cells.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments import trust
from experiments.config import ConfigError, UserError
from experiments.files import cannot_lock, make_folder
from experiments.store import MANIFEST_VERSION, now, read_sweep, write_text
from experiments.sweep.manifest import Cell, Sweep, cells_of
from experiments.sweep.space import short


def write(
    path: Path,
    cells: Sequence[Cell],
    *,
    fixed: Sequence[str] = (),
    conditions: Iterable[str] = (),
    equal_budget: bool = True,
    max_tries: int = 3,
    lease_seconds: float = 120.0,
    about: str = "",
    quiet: bool = False,
    then: dict[str, Any] | None = None,
    limit: dict[str, Any] | None = None,
) -> Sweep:
    """Makes a sweep's folder, or adds what is new to it.

    Args:
        path: The sweep's folder.
        cells: What this call asks for; at least one.
        fixed: Settings of the command that hold for every cell; they must stay the same.
        conditions: Columns to compare along; the others are tuned.
        equal_budget: Whether an unequal number of trials is refused.
        max_tries: How often a cell may fail.
        lease_seconds: See `experiments.sweep.leases`.
        about: One line for people.
        quiet: Whether launchers leave the speaking to the caller.
        limit: Of the time of a run; see `experiments.sweep.overtime`. Of this call alone.
        then: Stage two, which starts from what this sweep chooses; see `experiments.sweep.stages`.

    Raises:
        UserError: if the budget would be unequal, or the sweep there is another one, or was planned
            from other pages.
    """
    trust.note(cell.config for cell in cells)
    make_folder(path)
    make_folder(Path(cells[0].config["results_dir"]))
    with _locked(path):
        before = read_sweep(path) if (path / "manifest.json").exists() else {}
        runs_dir = cells[0].config["results_dir"]
        if before:
            _check_same(path, before, list(fixed), runs_dir)
        old = cells_of(before, path) if before else []
        merged = list({cell.run_id: cell for cell in [*old, *cells]}.values())
        if not quiet:  # who is quiet keeps a record of its own
            _check_once(path, old, cells)
        if equal_budget:
            _check_equal(trials(merged))
        content = {
            "schema_version": MANIFEST_VERSION,
            "name": path.name,
            "about": about,
            **_derived(merged),
            "conditions": sorted({*before.get("conditions", []), *conditions}),
            "fixed": list(fixed),
            "runs_dir": runs_dir,
            "max_tries": max_tries,
            "lease_seconds": lease_seconds,
            "calls": [*before.get("calls", []), _call()],
            "cells": [vars(cell) for cell in merged],
        }
        optional = {"quiet": quiet, "limit": limit, "then": then or before.get("then")}
        content |= {key: value for key, value in optional.items() if value}
        write_text(path / "manifest.json", json.dumps(content, indent=1) + "\n", durable=True)
    return Sweep(path)


def _derived(cells: Sequence[Cell]) -> dict[str, Any]:
    """What the cells say of the sweep."""
    budget = trials(cells)
    return {
        "experiment": ",".join(dict.fromkeys(cell.config["experiment"] for cell in cells)),
        "budget": budget,
        "budget_is_equal": _is_equal(budget),
        "seeds": sorted({cell.seed for cell in cells}),
        "axes": axes(cells),
    }


def _check_once(path: Path, old: Sequence[Cell], cells: Sequence[Cell]) -> None:
    """A setting has one run of a seed: what pages said before must not stand beside what they say.

    Raises:
        UserError: names the cell that would be there twice.
    """
    known = {(cell.trial, cell.seed): cell.run_id for cell in old}
    for cell in cells:
        run = known.get((cell.trial, cell.seed), cell.run_id)
        if run != cell.run_id:
            raise UserError(
                f"the sweep {path} has {cell.title} as the run {run}, and by the pages and the "
                f"version of now it is {cell.run_id}: choose another name with sweep.name=NAME, or "
                "move the folder away"
            )


def _check_equal(budget: dict[str, int]) -> None:
    if not _is_equal(budget):
        said = ", ".join(f"{name} {count}" for name, count in budget.items())
        raise ConfigError(
            f"the number of trials differs ({said}): give every optimizer as many, or say "
            "sweep.equal_budget=false (the sweep is then marked as unfair)"
        )


def _is_equal(budget: dict[str, int]) -> bool:
    return len(set(budget.values())) <= 1


def _call() -> dict[str, str]:
    command = " ".join(sys.argv)
    where = {"host": socket.gethostname(), "folder": os.getcwd()}
    return {"started": now(), **where, "command": command}


def _check_same(path: Path, before: dict[str, Any], fixed: list[str], runs_dir: str) -> None:
    """Two sweeps must not share a folder."""
    if before["fixed"] != fixed:
        theirs = " ".join(before["fixed"]) or "none"
        raise UserError(
            f"the sweep {path} was made with other settings ({theirs}): choose another name "
            "with sweep.name=NAME"
        )
    if Path(before["runs_dir"]).resolve() != Path(runs_dir).resolve():
        raise UserError(
            f"the runs of sweep {path} lie in {before['runs_dir']}: say "
            f"results_dir={before['runs_dir']}, or choose another name with sweep.name=NAME"
        )


def trials(cells: Iterable[Cell]) -> dict[str, int]:
    """How many settings each optimizer gets, not counting seeds."""
    tried: dict[str, set[str]] = {}
    for cell in cells:
        tried.setdefault(cell.optimizer, set()).add(cell.trial)
    return {name: len(all_of) for name, all_of in tried.items()}


def axes(cells: Iterable[Cell]) -> dict[str, dict[str, list[Any]]]:
    """The values that each optimizer was tried with, by column."""
    found: dict[str, dict[str, list[Any]]] = {}
    for cell in cells:
        for key, value in cell.settings.items():
            values = found.setdefault(cell.optimizer, {}).setdefault(short(key), [])
            if value not in values:
                values.append(value)
    for columns in found.values():
        for values in columns.values():
            values.sort(key=_order)
    return found


def _order(value: Any) -> tuple[int, Any]:
    """Numbers by size, then lists of numbers, then the rest by name."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, value
    if isinstance(value, list) and all(_order(part)[0] == 0 for part in value):
        return 1, value
    return 2, str(value)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise cannot_lock(path / ".lock", error) from error
        yield
    finally:
        os.close(handle)
