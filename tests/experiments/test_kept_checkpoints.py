"""Which checkpoints are kept, in which order they are tried, and what is on the disk by when."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import checkpoint, shard_files
from experiments.checkpoint import find_good, good_ones, list_newest_first, save
from experiments.config import CheckpointConfig, UserError
from experiments.distributed import World
from experiments.saved_shards import ShardSaver


def save_shards(folder: Path, step: int, keep: int = 2) -> Path:
    saver = ShardSaver(CheckpointConfig(keep=keep), World(0, 1, torch.device("cpu")))
    saver.save(folder, step, {"step": step, "model": {"w": torch.ones(3)}}, now=True)
    return list_newest_first(folder)[0]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is sent to the disk, named and removed, in order."""
    made: list[str] = []

    def noted(target: Any, name: str, word: str) -> None:
        real = getattr(target, name)

        def note(path: Any, *a: Any, **k: Any) -> Any:
            found = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else path
            made.append(f"{word} {Path(found).name}")
            return real(path, *a, **k)

        monkeypatch.setattr(target, name, note)

    noted(os, "fsync", "sync")
    for name in ("replace", "rename"):
        noted(Path, name, "name")
    noted(Path, "unlink", "remove")
    return made


def test_the_old_one_goes_when_the_new_one_and_its_name_are_on_the_disk(
    tmp_path: Path, events: list[str]
) -> None:
    old = save(tmp_path, 1, {}, keep=1)
    events.clear()
    save(tmp_path, 2, {}, keep=1)
    draft = f"draft-{os.getpid()}.tmp"
    order = [f"sync {draft}", f"name {draft}", f"sync {tmp_path.name}", f"remove {old.name}"]
    assert events == order


def test_all_shards_are_on_the_disk_before_they_have_their_name(
    tmp_path: Path, events: list[str]
) -> None:
    old = save_shards(tmp_path, 1, keep=1)
    events.clear()
    save_shards(tmp_path, 2, keep=1)
    draft = f"draft-{os.getpid()}.tmp"
    at = events.index(f"name {draft}")
    files = ["__0_0.distcp", "rest.pt", "manifest.json", draft]
    assert [one for one in events[:at] if one.startswith("sync")] == [f"sync {f}" for f in files]
    assert events[at + 1 : at + 3] == [f"sync {tmp_path.name}", f"name {old.name}"]


@pytest.mark.parametrize(
    "way", [lambda at, step: save(at, step, {}, 1), lambda at, step: save_shards(at, step, 1)]
)
def test_one_that_cannot_be_removed_is_no_failure_of_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    """Of somebody else in a shared folder, say. The run would end with its last step undone."""
    old, draft = way(tmp_path, 1), tmp_path / "draft-0.tmp"
    draft.write_text("half")
    with monkeypatch.context() as patched:
        for name in ("unlink", "rename"):
            real = getattr(Path, name)

            def refused(path: Path, *a: Any, real: Any = real, **k: Any) -> Any:
                if path in (old, draft):
                    raise PermissionError(1, "Operation not permitted", str(path))
                return real(path, *a, **k)

            patched.setattr(Path, name, refused)
        for step in (2, 3):
            with pytest.warns(UserWarning, match="old checkpoint stays, .*: .*not permitted.*step"):
                way(tmp_path, step)
    assert [checkpoint.step_of(path) for path in list_newest_first(tmp_path)] == [3, 1]
    way(tmp_path, 4)
    assert not old.exists() and not draft.exists()


def test_all_of_each_file_of_shards_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What still waits in a buffer is not."""
    synced: dict[str, int] = {}

    def note(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        synced[path.name] = os.fstat(handle).st_size

    monkeypatch.setattr(os, "fsync", note)
    path = save_shards(tmp_path, 1)
    assert {file.name: file.stat().st_size for file in path.iterdir()}.items() <= synced.items()


@pytest.mark.parametrize("is_damaged", [True, False])
def test_shards_saved_again_take_the_place_of_damaged_ones_of_their_name(
    tmp_path: Path, is_damaged: bool
) -> None:
    """The manifest, and so the name, is the same; that file alone was not damaged."""
    path = save_shards(tmp_path, 1)
    if is_damaged:
        (path / "rest.pt").write_bytes(b"half")
    assert save_shards(tmp_path, 1) == path
    assert find_good(tmp_path) == path and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_removed_loses_its_name_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed while it is emptied leaves no half of it under its name."""
    path = save_shards(tmp_path, 1)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    checkpoint.remove(path)
    assert not list_newest_first(tmp_path)
    (left_over,) = tmp_path.iterdir()
    assert left_over.name == f"draft-{path.name}.tmp"


def test_of_a_linked_folder_the_link_alone_is_removed(tmp_path: Path) -> None:
    save_shards(tmp_path / "elsewhere", 1)
    (kept,) = (tmp_path / "elsewhere").iterdir()
    link = tmp_path / kept.name
    link.symlink_to(kept)
    assert find_good(tmp_path) == link
    checkpoint.remove(link)
    assert (kept / "manifest.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


@pytest.mark.parametrize("left", ["a file", "a folder"])
@pytest.mark.parametrize("saved", [lambda at: save(at, 2, {}, 9), lambda at: save_shards(at, 2)])
def test_what_another_process_of_this_number_left_half_done_is_in_nobodys_way(
    tmp_path: Path, saved: Any, left: str
) -> None:
    """In a container a process has the number that the one before had."""
    draft = tmp_path / f"draft-{os.getpid()}.tmp"
    if left == "a file":
        draft.write_text("half")
    else:
        draft.mkdir()
        (draft / "rest.pt").write_text("half")
    path = saved(tmp_path)
    assert find_good(tmp_path) == path and list(tmp_path.iterdir()) == [path]


def test_the_name_has_nine_and_eight_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checksum that begins with noughts, too: one in sixteen does."""
    monkeypatch.setattr(checkpoint, "crc", lambda _: 0xAB)
    assert save(tmp_path, 7, {}, keep=9).name == "step_000000007-000000ab.pt"
    assert save_shards(tmp_path, 8).name == "step_000000008-000000ab.shards"


def test_steps_decide_and_no_clock(tmp_path: Path) -> None:
    """The clock was set back by a day between each and the next."""
    paths = [save(tmp_path, step, {}, keep=9) for step in (9, 10, 100)]
    for days, path in enumerate(paths):
        os.utime(path, (1e9 - 86400 * days, 1e9 - 86400 * days))
    assert list_newest_first(tmp_path) == paths[::-1]
    assert save(tmp_path, 101, {}, keep=2).exists()
    assert [checkpoint.step_of(p) for p in list_newest_first(tmp_path)] == [101, 100]


def test_of_one_step_the_file_written_last_is_the_first_and_all_count(tmp_path: Path) -> None:
    one, other = (save(tmp_path, 5, {"try": number}, keep=9) for number in (1, 2))
    for older, newer in ((one, other), (other, one)):
        os.utime(older, (1e9, 1e9))
        os.utime(newer, (1e9 + 1, 1e9 + 1))
        assert list_newest_first(tmp_path) == [newer, older]
    third = save(tmp_path, 5, {"try": 3}, keep=1)
    assert list_newest_first(tmp_path) == [third]


def test_the_next_step_is_a_later_one(tmp_path: Path) -> None:
    """A run that fell back from a damaged step 13 saves step 12."""
    save(tmp_path, 13, {}, keep=9)
    kept = save(tmp_path, 12, {}, keep=9)
    assert list_newest_first(tmp_path) == [kept]


def test_one_that_was_set_aside_is_none(tmp_path: Path) -> None:
    path = save(tmp_path, 5, {}, keep=9)
    path.rename(path.with_name(f"{path.name}.damaged"))
    assert find_good(tmp_path) is None
    (tmp_path / "step_000000006-00000000.pt").mkdir()
    with pytest.warns(UserWarning, match="is damaged"):
        assert find_good(tmp_path) is None


def test_the_one_of_a_step(tmp_path: Path) -> None:
    one, two, three = (save(tmp_path, step, {}, keep=9) for step in (1, 2, 3))
    assert find_good(tmp_path, 2) == two and list(good_ones(tmp_path, 1)) == [one]
    save(tmp_path, 3, {"try": 2}, keep=9)
    for step in (0, 4):
        with pytest.raises(UserError, match=rf"step={step}: .* is kept; there are: 1, 2, 3$"):
            find_good(tmp_path, step)
    with pytest.raises(UserError, match="there are: none"):
        find_good(tmp_path / "missing", 1)
    two.write_bytes(b"")
    with pytest.warns(UserWarning, match="no checkpoint in .* is good"):
        assert find_good(tmp_path, 2) is None
    assert three.exists()


def test_it_is_said_that_none_is_good_only_where_there_are_some(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(good_ones(tmp_path)) == []
        good = save(tmp_path, 1, {}, keep=9)
        assert list(good_ones(tmp_path)) == [good]
    save(tmp_path, 2, {}, keep=9).write_bytes(b"")
    with pytest.warns(UserWarning) as said:
        assert list(good_ones(tmp_path)) == [good]
    assert len(said) == 1 and "trying the one before it" in str(said[0].message)
    good.write_bytes(b"")
    with pytest.warns(UserWarning, match="no checkpoint in .* is good: starting anew"):
        assert list(good_ones(tmp_path)) == []


@pytest.mark.parametrize("text", ["[]", "7", '{"files": []}', '{"files": {"a/b": 1}}', "{}"])
def test_a_folder_of_shards_that_somebody_else_wrote_is_passed_over(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "manifest.json").write_text(text)
    checksum = shard_files.crc(tmp_path / "manifest.json")
    assert not shard_files.is_as_written(tmp_path, checksum)
