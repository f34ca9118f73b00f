"""The manifest grows, states its budget, and refuses what would make a comparison unfair."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import swept
import tiny

from experiments import store
from experiments.config import ConfigError, UserError
from experiments.store import read_sweep
from experiments.sweep import manifest
from experiments.sweep.manifest import Cell, Sweep
from experiments.sweep.writing import axes, trials


def cell(root: Path, name: str, lr: float, seed: int = 0, **more: Any) -> Cell:
    config = tiny.config(root / "runs", optimizer_name=name, seed=seed, optimizer__lr=lr)
    return Cell.of(config, {"optimizer.lr": lr, **more})


def fair(root: Path, seeds: int = 1) -> list[Cell]:
    names = ("lion", "adamw")
    return [cell(root, n, lr, s) for n in names for lr in (1e-3, 2e-3) for s in range(seeds)]


def test_a_seed_is_no_setting_and_seeds_try_the_same(tmp_path: Path) -> None:
    one, other = (cell(tmp_path, "lion", 1e-3, seed) for seed in (0, 1))
    seeded = Cell.of(tiny.config(tmp_path / "runs", seed=1), {"optimizer.lr": 1e-3, "seed": 1})
    assert one.run_id != other.run_id and one.trial == other.trial
    assert seeded.settings == {"optimizer.lr": 1e-3} and seeded.seed == 1
    assert cell(tmp_path, "lion", 2e-3).trial != one.trial


def test_what_is_written_is_what_the_table_readers_get(tmp_path: Path) -> None:
    swept.sweep(tmp_path, fair(tmp_path, seeds=2), conditions=["batch_size"], about="a trial")
    read = read_sweep(tmp_path / "sweeps" / "trial")
    assert (read["name"], read["experiment"], read["about"]) == ("trial", "tiny", "a trial")
    assert read["budget"] == {"lion": 2, "adamw": 2} and read["budget_is_equal"]
    assert read["seeds"] == [0, 1] and read["conditions"] == ["batch_size"]
    assert read["axes"]["lion"] == {"lr": [1e-3, 2e-3]}
    assert len(read["cells"]) == 8
    assert set(read["cells"][0]) == {"run_id", "optimizer", "seed", "settings", "config"}
    assert read["cells"][0]["config"]["optimizer"]["lr"] == 1e-3


def test_the_same_call_adds_nothing_and_more_seeds_add_cells(tmp_path: Path) -> None:
    first = swept.sweep(tmp_path, fair(tmp_path))
    again = swept.sweep(tmp_path, fair(tmp_path))
    assert [c.run_id for c in again.cells] == [c.run_id for c in first.cells]
    more = swept.sweep(tmp_path, fair(tmp_path, seeds=3))
    assert len(more.cells) == 12 and more.manifest["seeds"] == [0, 1, 2]
    assert [c.run_id for c in more.cells[:4]] == [c.run_id for c in first.cells]
    assert len(more.manifest["calls"]) == 3


def test_what_is_added_while_the_manifest_is_read_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(path: Path) -> dict[str, Any]:
        before = read_sweep(path)
        monkeypatch.undo()
        swept.sweep(tmp_path, fair(tmp_path, seeds=2))
        return before

    swept.sweep(tmp_path, fair(tmp_path))
    monkeypatch.setattr(manifest, "read_sweep", overtaken)
    sweep = Sweep(tmp_path / "sweeps" / "trial")
    assert len(sweep.cells) == 4
    sweep.refresh()
    assert len(sweep.cells) == 8


def test_an_unequal_budget_is_refused_or_marked(tmp_path: Path) -> None:
    unfair = [*fair(tmp_path), cell(tmp_path, "lion", 3e-3)]
    with pytest.raises(ConfigError, match=r"differs \(lion 3, adamw 2\).*equal_budget=false"):
        swept.sweep(tmp_path, unfair)
    marked = swept.sweep(tmp_path, unfair, equal_budget=False)
    assert not marked.manifest["budget_is_equal"]


def test_a_later_call_cannot_make_the_budget_unequal(tmp_path: Path) -> None:
    swept.sweep(tmp_path, fair(tmp_path))
    with pytest.raises(ConfigError, match="differs"):
        swept.sweep(tmp_path, [cell(tmp_path, "lion", 5e-3)])
    assert len(Sweep(tmp_path / "sweeps" / "trial").cells) == 4


def test_another_sweep_cannot_take_the_folder(tmp_path: Path) -> None:
    swept.sweep(tmp_path, fair(tmp_path), fixed=["train.epochs=4"])
    with pytest.raises(UserError, match=r"\(train.epochs=4\): choose another name"):
        swept.sweep(tmp_path, fair(tmp_path), fixed=["train.epochs=5"])
    elsewhere = fair(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="lie in .*: say results_dir="):
        swept.sweep(tmp_path, elsewhere, fixed=["train.epochs=4"])


def test_two_calls_at_once_lose_no_cell(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    cells = [cell(tmp_path, "lion", 1e-3, seed) for seed in range(8)]
    processes = [fork.Process(target=swept.sweep, args=(tmp_path, [one])) for one in cells]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert Sweep(tmp_path / "sweeps" / "trial").manifest["seeds"] == list(range(8))


def test_a_missing_sweep_names_those_that_are_there(tmp_path: Path) -> None:
    swept.sweep(tmp_path, fair(tmp_path))
    with pytest.raises(UserError, match="tral: no sweep there; there are: trial"):
        read_sweep(tmp_path / "sweeps" / "tral")
    path = tmp_path / "sweeps" / "trial" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(UserError, match="another version"):
        read_sweep(path.parent)


@pytest.mark.parametrize(
    "how", ["cut", "empty", "a list", "no cells", "odd cells", "a way out", "a folder"]
)
def test_a_damaged_manifest_is_one_line_and_is_never_written_over(tmp_path: Path, how: str) -> None:
    cells = fair(tmp_path)
    swept.sweep(tmp_path, cells)
    path = tmp_path / "sweeps" / "trial" / "manifest.json"
    whole = json.loads(path.read_text())
    texts = {"cut": path.read_text()[:300], "empty": "", "a list": "[]"}
    texts["no cells"] = json.dumps({k: v for k, v in whole.items() if k != "cells"})
    texts["odd cells"] = json.dumps({**whole, "cells": [{"run_id": "x"}]})
    out = {**whole["cells"][0], "run_id": "../../elsewhere"}
    texts["a way out"] = json.dumps({**whole, "cells": [out]})
    path.unlink()
    if how == "a folder":
        path.mkdir()
    else:
        path.write_text(texts[how])
    for call in (lambda: Sweep(path.parent), lambda: swept.sweep(tmp_path, cells)):
        with pytest.raises(UserError, match="manifest.json is damaged: move it away and call"):
            call()
    assert path.is_dir() or path.read_text() == texts[how]


def test_a_cell_that_would_be_another_run_is_refused(tmp_path: Path) -> None:
    """Else a worker would train that run, find its cell still waiting, and train it for ever."""
    path = swept.sweep(tmp_path, fair(tmp_path)).path / "manifest.json"
    plain = json.loads(path.read_text())
    plain["cells"][0]["config"]["seed"] = 99
    path.write_text(json.dumps(plain))
    changed = Sweep(path.parent)
    with pytest.raises(ConfigError, match="planned by another version, or changed: its cell"):
        changed.config(changed.cells[0])
    assert changed.config(changed.cells[1]).seed == 0


def test_trials_do_not_count_seeds_and_axes_are_sorted(tmp_path: Path) -> None:
    cells = [cell(tmp_path, "lion", lr, s) for lr in (2e-3, 1e-3) for s in range(3)]
    pairs = [cell(tmp_path, "lion", 1e-3, **{"optimizer.betas": b}) for b in ([0.9, 0.9], [0.5, 0])]
    assert trials(cells) == {"lion": 2}
    assert axes([*cells, *pairs])["lion"] == {
        "lr": [1e-3, 2e-3], "betas": [[0.5, 0], [0.9, 0.9]]
    }  # fmt: skip


def test_states_tell_waiting_failed_and_interrupted_apart(tmp_path: Path) -> None:
    sweep = swept.sweep(tmp_path, fair(tmp_path), max_tries=2)
    first, second, third, fourth = sweep.cells
    sweep.leases.folder.mkdir()
    for number, outcome in ((1, "failed"), (2, "failed")):
        (sweep.leases.folder / f"{first.run_id}.{number}.lease").write_text(
            json.dumps({"outcome": outcome})
        )
    (sweep.leases.folder / f"{second.run_id}.1.lease").write_text('{"outcome": "failed"}')
    (sweep.leases.folder / f"{third.run_id}.1.lease").write_text('{"outcome": "interrupted"}')
    states = sweep.states()
    assert [states[c.run_id] for c in sweep.cells] == ["failed", "retry", "interrupted", "waiting"]
    sweep.folder(fourth).path.mkdir(parents=True)
    sweep.folder(fourth).write_status("diverged", 3, 9)
    assert sweep.states()[fourth.run_id] == "diverged"
    assert store.MANIFEST_VERSION == 1


def test_a_call_from_another_folder_is_sent_to_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker on another machine starts in the user's home: it would train all anew there."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(home)
    made = swept.sweep(Path("results"), swept.cells(Path("results"), 1))
    path = made.path.resolve()
    assert Sweep(path).states() == made.states()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(UserError, match=f"lie in results/runs of {home}: call this there"):
        Sweep(path)
    home.rename(tmp_path / "moved")  # then nothing is known of it
    Sweep(tmp_path / "moved/results/sweeps/trial")


def test_a_file_system_without_locks_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lustre gives ENOSYS, unless it was mounted with them."""

    def without(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", without)
    said = r"cannot lock .*\.lock \(Function not implemented\): .*results_dir=PATH"
    with pytest.raises(UserError, match=said):
        swept.sweep(tmp_path, swept.cells(tmp_path, 1))
    folder = store.Folder(tmp_path / "run")
    with pytest.raises(UserError, match=said), folder.locked():
        pass
    assert not folder.is_held()
