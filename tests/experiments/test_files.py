"""Showing a line never stops a run, and a full disk is one line, whenever it fills up."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import forked
import pytest
import tiny

from experiments import files, runner
from experiments.config import UserError
from experiments.live_line import LiveLine
from experiments.store import read_json

SHORT: dict[str, Any] = {"train__epochs": 1.0, "train__ema_decay": None}


def full() -> TextIO:
    return open("/dev/full", "w")


def closed() -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream


def broken_pipe() -> TextIO:
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


def gone() -> TextIO:
    """A terminal that was closed."""
    ours, theirs = os.openpty()
    stream = os.fdopen(theirs, "w")
    os.close(ours)
    return stream


def ascii_only() -> TextIO:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


STREAMS: list[Callable[[], TextIO | None]] = [
    full, closed, broken_pipe, gone, ascii_only, lambda: None
]  # fmt: skip


@pytest.mark.parametrize("stream", STREAMS)
def test_a_run_whose_lines_cannot_be_shown_goes_on(
    tmp_path: Path, stream: Callable[[], TextIO | None]
) -> None:
    """In a process of its own, with the exit of a process: streams are flushed at its end."""

    def work() -> int:
        for name in ("stdout", "stderr"):
            setattr(sys, name, stream())
        LiveLine.PLAIN_SECONDS = 0.0
        config = tiny.config(tmp_path / "größe", **SHORT, launch__progress=True)
        code = runner.main(config)
        for shown in (sys.stdout, sys.stderr):
            if shown is not None and not shown.closed:
                shown.flush()  # as Python does at its end
        return code

    process = forked._fork.Process(target=lambda: os._exit(work()))
    process.start()
    assert forked.join(process) == 0
    (folder,) = (tmp_path / "größe").iterdir()
    assert read_json(folder / "status.json")["state"] == "finished"
    assert "started at step 0" in (folder / "log.txt").read_text()


def test_what_a_full_disk_held_back_is_shown_once_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Disk(io.StringIO):
        is_full = True

        def flush(self) -> None:
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")

    stream = Disk()
    monkeypatch.setattr(sys, "stderr", stream)
    live = LiveLine(wanted=True)
    live.print("one")
    stream.is_full = False
    live.print("two")
    assert stream.getvalue() == "one\ntwo\n"


@pytest.mark.parametrize(("progress", "always", "shown"), [(True, False, True), (False, True, True),
                                                           (False, False, False)])  # fmt: skip
def test_a_line_that_must_be_seen_is_shown_without_progress(
    monkeypatch: pytest.MonkeyPatch, progress: bool, always: bool, shown: bool
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    LiveLine(wanted=progress).print("seen", always)
    assert (stream.getvalue() == "seen\n") == shown


def test_a_damaged_file_is_kept_under_another_name_each_time(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert files.set_aside(path) == ""
    for text, kept in (("a", "run.json.damaged"), ("b", "run.json.damaged-2")):
        path.write_text(text)
        assert files.set_aside(path) == kept
        assert (tmp_path / kept).read_text() == text and not path.exists()


# --- a disk without room --------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where we may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(folder: Path, room: int) -> Path:
    """Leaves so many bytes."""
    ballast = folder / "ballast"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    ballast.write_bytes(bytes(max(0, free - room)))
    return ballast


@pytest.mark.filterwarnings("ignore:cannot write")
@pytest.mark.parametrize("room", range(0, 100_000, 4096 * 2))
def test_a_disk_that_is_full_at_any_moment_is_one_line_and_the_run_goes_on_later(
    small_disk: Path, tmp_path: Path, room: int
) -> None:
    config = tiny.config(small_disk / "runs", **SHORT)
    ballast = fill(small_disk, room)
    try:
        runner.run(config)
    except UserError as error:
        assert "\n" not in str(error) and "No space left" in str(error)
        assert "call the same command again" in str(error) or room < 4096 * 2
    ballast.unlink()
    assert runner.run(config).state == "finished"
    whole = tiny.config(tmp_path / "whole", **SHORT)
    runner.run(whole)
    assert forked.rows(config) == forked.rows(whole)


def test_a_file_that_is_replaced_on_a_server_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, stale = Path.read_text, [OSError(errno.ESTALE, "stale file handle")]

    def gone_once(path: Path) -> str:
        if stale:
            raise stale.pop()
        return read(path)

    files.write_json(tmp_path / "file.json", {"state": "finished"})
    monkeypatch.setattr(Path, "read_text", gone_once)
    assert read_json(tmp_path / "file.json") == {"state": "finished"}


def test_two_that_replace_a_file_at_once_have_drafts_of_their_own(tmp_path: Path) -> None:
    """Also where both processes have one number, as in containers that share a disk."""
    path = tmp_path / "file"
    with files.replacing(path) as one, files.replacing(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_while_a_file_is_replaced_leaves_the_old_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "file"
    files.write_text(path, "old")
    monkeypatch.setattr(files.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_text(path, "new", durable=True)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_of_others_libraries_get_the_rights_that_ours_have(
    tmp_path: Path, mask: int, rights: int
) -> None:
    """safetensors makes its files for one user alone, whatever the umask says."""
    path = tmp_path / "weights"
    path.touch(0o600)
    before = os.umask(mask)
    try:
        files.share(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == rights and list(tmp_path.iterdir()) == [path]
    files.share(tmp_path / "gone" / "file")  # no reason to stop


def test_digits_of_a_table_are_not_cut_off_on_a_narrow_terminal() -> None:
    """Of 11.52 stood `11` and three dots there."""
    from rich.console import Console
    from rich.table import Table

    table = Table("optimizer", *(f"measured{number}" for number in range(6)))
    table.add_row("lion", *(f"11.52 ± 0.8{number}" for number in range(6)))
    console = Console(file=io.StringIO(), width=40)
    files.show_table(console, table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("11.52") == 6 and shown.count("measured") == 6 and "\u2026" not in shown
    assert console.width == 40
