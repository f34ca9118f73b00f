"""What a cell is, what it is called, and in which state it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import swept
import tiny

from experiments.config import UserError
from experiments.sweep import manifest
from experiments.sweep.leases import MAX_KILLS
from experiments.sweep.manifest import Cell, Sweep


def cell(root: Path, settings: dict[str, Any] | None = None, **changes: Any) -> Cell:
    return Cell.of(tiny.config(root / "runs", **changes), settings or {"optimizer.lr": 1e-3})


def lease(sweep: Sweep, run: Cell, *outcomes: str | None, step: int = 0) -> None:
    """Leases of old, whose holders are gone."""
    sweep.leases.folder.mkdir(exist_ok=True)
    for number, outcome in enumerate(outcomes, 1):
        path = sweep.leases.folder / f"{run.run_id}.{number}.lease"
        path.write_text(json.dumps({"outcome": outcome, "machine": "gone", "step": step}))
        os.utime(path, (0, 0))


def test_a_cell_says_in_which_precision_every_worker_trains_it(tmp_path: Path) -> None:
    assert tiny.config(tmp_path).train.precision == "auto"
    assert cell(tmp_path).config["train"]["precision"] == "fp32"


def test_what_is_another_trial(tmp_path: Path) -> None:
    one = cell(tmp_path, {"a": 1, "b": [2]})
    assert one.trial == cell(tmp_path, {"b": [2], "a": 1}, seed=3).trial
    others = [
        cell(tmp_path, {"a": 1, "b": [3]}),
        cell(tmp_path, {"a": 1, "b": [2]}, optimizer_name="adamw"),
        cell(tmp_path, {"a": 1, "b": [2]}, experiment="another"),
    ]
    assert len({one.trial, *(other.trial for other in others)}) == 4


def test_a_command_line_has_the_run_in_place_of_the_label(tmp_path: Path) -> None:
    plain = cell(tmp_path, {"optimizer.lr": 1e-3})
    assert plain.overrides == {"optimizer.lr": 1e-3}
    begun = cell(
        tmp_path,
        {"optimizer.lr": 1e-3, "init_optimizer": "adamw"},
        start_from={"source": "a-run", "weights": "ema", "leave_out": [], "into": "", "take": None},
    )
    expected = {"optimizer.lr": 1e-3, "start_from.source": "a-run", "start_from.weights": "ema"}
    assert begun.overrides == expected


def test_a_title_names_settings_and_seed(tmp_path: Path) -> None:
    one = cell(tmp_path, {"optimizer.lr": 0.0010, "optimizer.betas": [0.9, 0.99]}, seed=4)
    assert one.title == "lion lr 0.001 betas 0.9/0.99 seed 4"


def test_what_the_call_said_of_leases_and_tries_is_heeded(tmp_path: Path) -> None:
    sweep = swept.sweep(tmp_path, [cell(tmp_path)], lease_seconds=7.5, max_tries=9)
    assert (sweep.leases.seconds, sweep.max_tries) == (7.5, 9)


def test_a_manifest_that_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    sweep = swept.sweep(tmp_path, [cell(tmp_path)])
    before = sweep.cells
    sweep.refresh()
    assert sweep.cells is before
    swept.sweep(tmp_path, [cell(tmp_path, seed=1)])
    sweep.refresh()
    assert len(sweep.cells) == 2


def test_a_cell_is_quiet_and_of_trusted_code_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = swept.sweep(tmp_path, [cell(tmp_path, launch__progress=True)]).path
    sweep = Sweep(path)
    for _ in range(2):
        assert not sweep.config(sweep.cells[0]).launch.progress
    monkeypatch.setenv("LION_TRUST", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nobody"))
    sweep = Sweep(path)
    with pytest.raises(UserError, match="tiny"):
        sweep.config(sweep.cells[0])


def test_states_of_cells_whose_holders_are_gone(tmp_path: Path) -> None:
    """Killed from outside is no failure, but not without end."""
    planned = [cell(tmp_path, seed=seed) for seed in range(7)]
    sweep = swept.sweep(tmp_path, planned, max_tries=3)
    expected = {
        "waiting": (),
        "interrupted": ("interrupted",),
        "retry": ("failed", "interrupted", "failed"),
        "failed": ("failed", "failed", "failed"),
    }
    killed = {"retry": MAX_KILLS - 1, "failed": MAX_KILLS}
    wanted = [*expected, *killed]
    for run, outcomes in zip(sweep.cells, expected.values(), strict=False):
        lease(sweep, run, *outcomes)
    for run, number in zip(sweep.cells[4:], killed.values(), strict=False):
        lease(sweep, run, *[None] * number)
    lease(sweep, sweep.cells[6], *[None] * MAX_KILLS)
    assert [sweep.states()[run.run_id] for run in sweep.cells] == [*wanted, "failed"]
    checkpoints = sweep.folder(sweep.cells[6]).checkpoints
    checkpoints.mkdir(parents=True)
    (checkpoints / "step_000000005-00000000.pt").touch()  # it got further
    assert sweep.states()[sweep.cells[6].run_id] == "retry", "the last one was not in vain"
    assert sweep.state(sweep.cells[6], []) == "waiting"


def test_a_run_that_is_there_or_was_held_is_looked_at_whatever_is_gone(tmp_path: Path) -> None:
    """The results may be another disk that is not mounted, and the leases a folder that is new."""
    sweep = swept.sweep(tmp_path, [cell(tmp_path, seed=seed) for seed in range(2)])
    one, other = sweep.cells
    lease(sweep, one, "failed")
    assert list(sweep.states().values()) == ["retry", "waiting"]
    folder = sweep.folder(other)
    folder.path.mkdir(parents=True)
    folder.write_status("finished", 9, 9)
    assert list(sweep.states().values()) == ["retry", "finished"]
    assert [run.run_id for run in sweep.open_cells()] == [one.run_id]
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    fresh = Sweep(sweep.path)
    assert list(fresh.states().values()) == ["retry", "waiting"]


def test_a_run_that_goes_on_is_not_final(tmp_path: Path) -> None:
    sweep = swept.sweep(tmp_path, [cell(tmp_path)])
    folder = sweep.folder(sweep.cells[0])
    folder.path.mkdir(parents=True)
    for state, final in (("running", None), ("failed", None), ("diverged", "diverged")):
        folder.write_status(state, 9, 9)
        assert sweep.final_state(sweep.cells[0]) == final


def test_the_newest_checkpoint_is_that_of_the_largest_step(tmp_path: Path) -> None:
    """One that was set aside as damaged, and a draft, are none."""
    sweep = swept.sweep(tmp_path, [cell(tmp_path)])
    folder = sweep.folder(sweep.cells[0]).checkpoints
    assert sweep.checkpoint_step(sweep.cells[0]) == 0
    folder.mkdir(parents=True)
    names = ["step_000000009-0a.pt", "step_000000010-0b.shards", "step_000000008-0c.pt"]
    names += ["step_000000099-0d.pt.damaged", "step_x-1.pt", "draft-step_000000077-0e.shards.tmp"]
    for name in names:
        (folder / name).touch()
    assert sweep.checkpoint_step(sweep.cells[0]) == 10


def test_the_cure_names_a_usual_sweep_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = swept.sweep(tmp_path, [cell(tmp_path)])
    assert f"resume {sweep.path} --retry-failed" in sweep.cure
    sweep.path = Path("results/sweeps/trial")
    assert "resume trial --retry-failed" in sweep.cure


WHOLE = ("lease_seconds", "max_tries", "runs_dir", "budget", "seeds", "fixed", "cells")


@pytest.mark.parametrize("key", WHOLE)
def test_a_manifest_without_a_key_is_damaged(tmp_path: Path, key: str) -> None:
    swept.sweep(tmp_path, [cell(tmp_path)])
    path = tmp_path / "sweeps" / "trial" / "manifest.json"
    whole = json.loads(path.read_text())
    del whole[key]
    path.write_text(json.dumps(whole))
    with pytest.raises(UserError, match="is damaged: move it away"):
        Sweep(path.parent)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", 7, None, "a\0b/c"])
def test_the_name_of_a_run_leads_nowhere_else(name: Any) -> None:
    assert not manifest._is_plain_name(name)
    assert manifest._is_plain_name("vit-lion-s0-abc") and manifest._is_plain_name("...")


def test_a_sweep_of_several_people_is_written_as_their_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        sweep = swept.sweep(tmp_path, [cell(tmp_path)])
        sweep.leases.claim(sweep.cells[0].run_id, [])
    finally:
        os.umask(before)
    files = [path for path in sweep.path.rglob("*") if path.is_file()]
    assert len(files) == 3 and {path.stat().st_mode & 0o777 for path in files} == {0o664}


def test_stage_two_stays_planned_where_a_later_call_does_not_speak_of_it(tmp_path: Path) -> None:
    then = {"experiment": "tiny"}
    swept.sweep(tmp_path, [cell(tmp_path)], then=then)
    assert swept.sweep(tmp_path, [cell(tmp_path)]).manifest["then"] == then


def test_a_trial_is_of_its_experiment_and_in_any_order(tmp_path: Path) -> None:
    pairs = {"optimizer.lr": 1e-3, "train.batch_size": 16}
    one, turned = (cell(tmp_path, dict(items)) for items in (pairs, reversed(pairs.items())))
    assert one.trial == turned.trial
    other = Cell(**{**vars(one), "config": {**one.config, "experiment": "other"}})
    assert other.trial != one.trial
