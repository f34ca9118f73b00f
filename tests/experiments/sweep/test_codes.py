"""Cells that were trained by other code than their like are not taken for them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import swept
from rich.console import Console

from experiments import sources
from experiments.config import from_dict
from experiments.store import write_json
from experiments.sweep import codes, report
from experiments.sweep.manifest import Sweep


def trained_by(sweep: Sweep, number: int, *versions: dict[str, str]) -> None:
    """As if a cell had finished, in a session for each version of its code."""
    folder = sweep.folder(sweep.cells[number])
    folder.path.mkdir(parents=True)
    sessions = [{"sources": version} for version in versions]
    write_json(folder.header, {"run_id": folder.path.name, "sessions": sessions})
    write_json(folder.status, {"state": "finished"})


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return swept.sweep(tmp_path, swept.cells(tmp_path, 3))


def shown(sweep: Sweep) -> str:
    console = Console(file=io.StringIO(), width=200)
    report.show(sweep, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_code_that_has_changed_between_two_cells_is_said(sweep: Sweep) -> None:
    now = sources.hashes(from_dict(sweep.cells[0].config))
    assert set(now) >= {"task", "data", "optimizer"}
    trained_by(sweep, 0, now)
    assert codes.changed(sweep) == "" and not [*codes.mixed(sweep)]
    trained_by(sweep, 1, {**now, "optimizer": "another"})
    assert "1 of its cells are over and not trained again" in codes.changed(sweep)
    assert "the code of their optimizer has changed" in codes.changed(sweep)
    assert [*codes.changed_in(sweep.path)] == [codes.changed(sweep)]  # said by job=compare, too
    assert not [*codes.changed_in(sweep.path / "none")]
    (line,) = codes.mixed(sweep)
    assert line.startswith("the cells were trained by 2 versions of the optimizer lion.")
    assert "MIXED CODE: the cells were trained by 2 versions" in shown(sweep)


def test_code_that_has_changed_within_a_cell_is_said(sweep: Sweep) -> None:
    now = sources.hashes(from_dict(sweep.cells[0].config))
    trained_by(sweep, 0, {**now, "data": "another"}, now)
    assert codes.changed(sweep) == ""  # it ended with the code of now
    assert ["versions of the data" in line for line in codes.mixed(sweep)] == [True]


def test_runs_of_a_time_that_noted_no_code_say_nothing(sweep: Sweep) -> None:
    trained_by(sweep, 0, {})
    trained_by(sweep, 1, sources.hashes(from_dict(sweep.cells[1].config)))
    assert codes.changed(sweep) == "" and not [*codes.mixed(sweep)]
