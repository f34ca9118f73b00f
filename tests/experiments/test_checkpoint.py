"""A checkpoint is whole or not there, damage is noticed, and nothing in it is ever executed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
import subprocess
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch

from experiments import checkpoint, runner, stopping
from experiments.checkpoint import CheckpointError, find_good, list_newest_first, load, save
from experiments.config import UserError
from experiments.store import read_json

_fork = multiprocessing.get_context("fork")


def content(step: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    weight = torch.randn(50, 40, generator=generator)
    return {
        "step": step,
        "model": {"weight": weight, "half": weight.bfloat16(), "count": torch.tensor(step)},
        "optimizer": {"state": {0: {"exp_avg": -weight}}, "param_groups": [{"lr": 1e-3}]},
        "average": None,
        "losses": [0.1, float("inf")],
    }


def assert_same(found: dict[str, Any], step: int) -> None:
    expected = content(step)
    for name, tensor in expected["model"].items():
        assert torch.equal(found["model"][name], tensor)
        assert found["model"][name].dtype == tensor.dtype
    state = found["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(state, expected["optimizer"]["state"][0]["exp_avg"])
    for key in ("step", "losses", "average"):
        assert found[key] == expected[key]


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "one bit":
        data[len(data) // 3] ^= 4
    path.write_bytes(
        {"empty": b"", "cut": data[:-1], "half": data[: len(data) // 2]}.get(how, data)
    )


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = save(tmp_path / "new" / "folder", 7, content(7), keep=1)
    assert_same(load(path), 7)
    assert find_good(path.parent) == path
    assert checkpoint.step_of(path) == 7
    assert list(path.parent.iterdir()) == [path]


def test_all_of_it_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[str, int] = {}

    def note(handle: int) -> None:
        synced[os.readlink(f"/proc/self/fd/{handle}")] = os.fstat(handle).st_size

    monkeypatch.setattr(os, "fsync", note)
    path = save(tmp_path, 7, content(7), keep=1)
    assert synced[str(tmp_path / f"draft-{os.getpid()}.tmp")] == path.stat().st_size


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    for step in (1, 9, 10, 100):
        save(tmp_path, step, content(step), keep)
    steps = [checkpoint.step_of(p) for p in list_newest_first(tmp_path)]
    assert steps == [100, 10, 9, 1][:keep]


def test_one_that_its_run_removes_while_they_are_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Path.glob

    def overtaken(folder: Path, pattern: str) -> list[Path]:
        found = sorted(look(folder, pattern))
        found[0].unlink()
        return found

    kept = [save(tmp_path, step, {}, keep=2) for step in (1, 2)]
    monkeypatch.setattr(Path, "glob", overtaken)
    assert list_newest_first(tmp_path) == kept[1:]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    others = ["notes.txt", "step_5.pt", "step_000000005-xyz.pt", "best.pt"]
    for name in others:
        (tmp_path / name).write_text("mine")
    save(tmp_path, 6, content(6), keep=1)
    save(tmp_path, 7, content(7), keep=1)
    assert len(list_newest_first(tmp_path)) == 1
    assert all((tmp_path / name).read_text() == "mine" for name in others)


@pytest.mark.parametrize("how", ["one bit", "cut", "half", "empty"])
def test_a_damaged_newest_one_is_passed_over_with_a_warning(tmp_path: Path, how: str) -> None:
    good, bad = (save(tmp_path, step, content(step), keep=3) for step in (3, 4))
    damage(bad, how)
    with pytest.warns(UserWarning, match=f"{bad.name} is damaged"):
        assert find_good(tmp_path) == good
    assert_same(load(good), 3)


def test_where_all_are_damaged_or_none_is_there_none_is_found(tmp_path: Path) -> None:
    assert find_good(tmp_path / "missing") is None
    for step in (1, 2):
        damage(save(tmp_path, step, content(step), keep=3), "one bit")
    with pytest.warns(UserWarning, match="damaged"):
        assert find_good(tmp_path) is None


def kill_in_write(monkeypatch: pytest.MonkeyPatch) -> None:
    save_whole = torch.save

    def save_half(data: Any, file: Any) -> None:
        save_whole(data, file)
        file.truncate(file.tell() // 2)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(torch, "save", save_half)


def kill_before_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Path, "replace", die)


def kill_before_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "sync_folder", lambda _: os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.parametrize("kill", [kill_in_write, kill_before_rename, kill_before_clean_up])
def test_kill_9_while_saving_leaves_a_whole_checkpoint(
    tmp_path: Path, kill: Callable[[pytest.MonkeyPatch], None]
) -> None:
    for step in (1, 2):
        save(tmp_path, step, content(step), keep=2)

    def work() -> None:
        kill(pytest.MonkeyPatch())
        save(tmp_path, 3, content(3), keep=2)

    process = _fork.Process(target=work)
    process.start()
    assert forked.join(process) == -signal.SIGKILL
    newest = find_good(tmp_path)
    assert newest is not None
    step = 3 if kill is kill_before_clean_up else 2
    assert checkpoint.step_of(newest) == step
    assert_same(load(newest), step)
    last = save(tmp_path, 4, content(4), keep=2)
    assert set(tmp_path.iterdir()) == {last, newest}  # the draft is gone


def test_a_run_killed_while_saving_goes_on_from_the_one_before(tmp_path: Path) -> None:
    whole = tiny.config(tmp_path / "whole")
    runner.run(whole)
    config = tiny.config(tmp_path / "killed")
    save_whole = checkpoint.save

    def work() -> None:
        def die_later(folder: Path, step: int, data: dict[str, Any], keep: int) -> Path:
            if step == 10:
                kill_in_write(pytest.MonkeyPatch())
            return save_whole(folder, step, data, keep)

        checkpoint.save = die_later
        runner.run(config)

    process = _fork.Process(target=work)
    process.start()
    assert forked.join(process) == -signal.SIGKILL
    assert runner.run(config).state == "finished"
    wanted, found = (forked.weights(made)["model"] for made in (whole, config))
    for name, tensor in wanted.items():
        assert torch.equal(tensor, found[name])
    assert forked.rows(whole) == forked.rows(config)


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("packed", ["bare pickle", "torch file"])
def test_code_in_a_checkpoint_is_never_executed(tmp_path: Path, packed: str) -> None:
    draft, crater = tmp_path / "draft", tmp_path / "crater"
    if packed == "bare pickle":
        draft.write_bytes(pickle.dumps(Bomb(crater), protocol=2))
    else:
        torch.save({"step": 3, "model": {}, "losses": Bomb(crater)}, draft)
    path = draft.rename(tmp_path / f"step_000000003-{zlib.crc32(draft.read_bytes()):08x}.pt")
    assert find_good(tmp_path) == path  # it is just as its sender wrote it
    with pytest.raises(pickle.UnpicklingError):
        load(path)
    assert not crater.exists()
    with pytest.raises(FileExistsError):  # the bomb itself is live
        crater.mkdir()
        torch.load(path, weights_only=False)


class _Full:
    """A file on a disk that has room for `room` bytes more."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: bytes) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 1000, 9000])
def test_a_full_disk_leaves_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    old = [save(tmp_path, step, content(step), keep=2) for step in (1, 2)]
    save_whole = torch.save
    monkeypatch.setattr(torch, "save", lambda data, file: save_whole(data, _Full(file, room)))
    with pytest.raises(CheckpointError, match="cannot save a checkpoint in .*No space left"):
        save(tmp_path, 3, content(3), keep=2)
    assert sorted(tmp_path.iterdir()) == sorted(old)
    monkeypatch.undo()
    assert_same(load(save(tmp_path, 3, content(3), keep=2)), 3)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where we may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("no right to mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full_leaves_the_old_ones(small_disk: Path) -> None:
    old = save(small_disk, 1, content(1), keep=3)
    for step in (2, 3, 4):  # each takes 21 kB
        try:
            save(small_disk, step, content(step), keep=9)
        except CheckpointError:
            break
    else:
        pytest.fail("the disk was not full")
    assert old in small_disk.iterdir()
    newest = find_good(small_disk)
    assert newest is not None
    assert_same(load(newest), step - 1)
    assert not list(small_disk.glob("*.tmp"))


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_newer_one_does_not_push_out_the_one_just_saved(
    tmp_path: Path, keep: int
) -> None:
    """A run that fell back from steps 20 and 15 to 10 saves 12: that must not be deleted."""
    paths = [save(tmp_path, step, content(step), keep=9) for step in (10, 15, 20)]
    for path in paths[1:]:
        damage(path, "one bit")
    saved = save(tmp_path, 12, content(12), keep)
    assert saved.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert find_good(tmp_path) == saved


def test_a_folder_that_cannot_be_made_is_a_checkpoint_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner catches CheckpointError only; a bare OSError would end a run in its middle."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(CheckpointError):
        save(tmp_path / "new", 1, content(1), keep=1)


def test_a_run_goes_on_where_a_checkpoint_in_its_middle_cannot_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.config(tmp_path)
    save_whole = checkpoint.save

    def full_at_first(folder: Path, step: int, data: dict[str, Any], keep: int) -> Path:
        if step < 20:
            raise CheckpointError("disk full")
        return save_whole(folder, step, data, keep)

    monkeypatch.setattr(checkpoint, "save", full_at_first)
    outcome = runner.run(config)
    assert outcome.state == "finished"
    assert "not saved, will try again: disk full" in (outcome.folder / "log.txt").read_text()
    assert forked.weights(config)["step"] == 24


def test_a_run_whose_last_checkpoint_cannot_be_saved_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, whole = tiny.config(tmp_path / "full"), tiny.config(tmp_path / "whole")

    def full(*_: Any) -> None:
        raise CheckpointError("cannot save a checkpoint in x: disk full")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(UserError, match="free some space and call the same command"):
            runner.run(config)
    assert runner.run(config).state == "finished"
    runner.run(whole)
    assert forked.rows(config) == forked.rows(whole)


def test_a_run_that_is_told_to_stop_does_not_say_saved_where_it_cannot_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise CheckpointError("cannot save a checkpoint in x: disk full")

    monkeypatch.setattr(checkpoint, "save", full)
    monkeypatch.setattr(stopping.Stopper, "wish", lambda _: stopping.STOP)
    config = tiny.config(tmp_path, train__epochs=1.0)
    with pytest.raises(UserError, match="disk full; free some space and call the same command"):
        runner.run(config)
    assert read_json(forked.folder(config) / "status.json")["state"] == "failed"
