"""What each session of a run adds to its folder, however it ends."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from experiments import files, recorder, store
from experiments.config import RunConfig, UserError
from experiments.distributed import World
from experiments.ledger import digest
from experiments.recorder import Recorder
from experiments.store import Folder, HeldError, read_json, read_rows

MAIN = World(0, 1, torch.device("cpu"))
FACTS = {"data": "tiny", "model": "Net", "num_params": 7}


def row(step: int, split: str = "val", **more: Any) -> dict[str, Any]:
    facts = {"step": step, "split": split, "metric": "loss", "value": 1.0, "weights": "raw"}
    return facts | more


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return tiny.config(tmp_path)


def test_rows_are_of_the_session_that_adds_them(config: RunConfig) -> None:
    for start in (0, 5):
        with Recorder.opened(config, MAIN) as writer:
            writer.start(start, 24, **FACTS)
            assert writer.read_status() == writer.read_status() | {
                "state": "running",
                "step": start,
            }
            writer.add([row(start + 1, session=9)])
            writer.end("interrupted", start + 1)
    with Recorder.opened(config, MAIN) as writer:  # job=evaluate
        writer.resume_rows()
        writer.add([row(6, "test")])
    rows = read_rows(writer.folder.metrics)
    assert [(r["step"], r["session"]) for r in rows] == [(1, 0), (6, 1), (6, 1)]
    writer.folder.header.unlink()
    writer.resume_rows()
    assert writer.session == 0


def test_the_last_status_counts_what_there_is(config: RunConfig) -> None:
    with Recorder.opened(config, MAIN) as writer:
        writer.start(0, 24, **FACTS)
        writer.add([row(12), row(24, "train"), row(24), row(24, "test"), row(24, "run")])
        writer.end("diverged", 24, "a word")
    status = read_json(writer.folder.status)
    expected = {"state": "diverged", "step": 24, "total_steps": 24, "message": "a word"}
    expected |= {"num_rows": 5, "num_evaluations": 2, "ledger": digest(writer.folder.metrics)}
    assert status == status | expected


def test_header_rows_and_last_status_survive_a_power_loss(
    config: RunConfig, synced: list[str]
) -> None:
    def files() -> list[str]:
        names = [name.partition(".")[0] for name in synced]
        synced.clear()
        return [name for name in names if name in ("config", "run", "metrics", "status")]

    with Recorder.opened(config, MAIN) as writer:
        writer.start(0, 24, **FACTS)
        assert files() == ["config", "run"]
        writer.add([row(24)])
        writer.end("finished", 24)
        assert files() == ["metrics", "status"]


@pytest.mark.parametrize("progressed", [False, True])
def test_a_failure_is_of_the_step_that_was_reached_and_rows_are_kept(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, progressed: bool
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with pytest.raises(ZeroDivisionError), Recorder.opened(config, MAIN) as writer:
        writer.start(5, 24, **FACTS)
        if progressed:
            writer.progress(7, 1.0, 1e-3, 0.0)
        with monkeypatch.context() as patch, pytest.warns(UserWarning, match="will try again"):
            patch.setattr(store.os, "write", full)
            writer.add([row(6)])
        raise ZeroDivisionError
    status = writer.read_status()
    assert (status["state"], status["step"]) == ("failed", 7 if progressed else 5)
    assert [r["step"] for r in read_rows(writer.folder.metrics)] == [6]


def test_a_disk_that_stays_full_hides_no_failure(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with pytest.raises(ZeroDivisionError), Recorder.opened(config, MAIN) as writer:
        writer.start(0, 24, **FACTS)
        monkeypatch.setattr(store.os, "write", full)
        with pytest.warns(UserWarning, match="will try again"):
            writer.add([row(6)])
        raise ZeroDivisionError


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_happens_after_the_end_changes_no_state(
    config: RunConfig, error: type[BaseException]
) -> None:
    with pytest.raises(error), Recorder.opened(config, MAIN) as writer:
        writer.start(0, 24, **FACTS)
        writer.end("finished", 24)
        raise error
    assert writer.read_status()["state"] == "finished"


@pytest.mark.parametrize(
    ("before", "now", "is_said"),
    [
        ("a", "b", True),
        ("a", "a", False),
        (None, "b", False),
        ("a", None, False),
        ("a", "a b", False),
        ("a", "ab", True),
        ("a b", "a c", True),  # of training alone, once
    ],  # fmt: skip
)
def test_data_are_compared_where_both_are_known(
    config: RunConfig, before: Any, now: Any, is_said: bool
) -> None:
    with Recorder.opened(config, MAIN) as writer:
        writer.start(0, 24, **FACTS, data_fingerprint=before)
        writer.compare_data(now)
    assert ("the data differ" in writer.folder.log.read_text()) == is_said


def test_which_measurements_of_a_step_are_lacking(config: RunConfig) -> None:
    there = [row(5), row(5, "test"), row(6, weights="ema"), row(6, metric="top1"), row(6, "train")]
    with Recorder.opened(config, MAIN) as writer:
        writer.start(0, 24, **FACTS)
        writer.add(there)
        wanted = [row(6), row(6, "test"), row(6, weights="ema"), row(6, metric="top1")]
        assert writer.lacks(6, wanted) == wanted[:2]


def test_an_evaluation_is_one_measurement_that_is_no_training(config: RunConfig) -> None:
    with Recorder.opened(config, MAIN) as writer:
        writer.start(0, 24, **FACTS)
        writer.add([row(6, split) for split in ("train", "run", "landscape", "telemetry")])
        assert not writer.has_evaluation(6) and writer.last_evaluation() == []
        writer.add([row(6), row(9, "train"), row(9, "telemetry")])
        assert writer.has_evaluation(6) and not writer.has_evaluation(9)
        assert [r["split"] for r in writer.last_evaluation()] == ["val"]
        writer.is_lacking = True
        assert not writer.has_evaluation(6)


def test_a_held_run_is_told_from_other_trouble(config: RunConfig) -> None:
    """A sweep's worker leaves a held run alone, and counts the others as failed."""
    with Recorder.opened(config, MAIN), pytest.raises(HeldError), Recorder.opened(config, MAIN):
        pass
    lock = Path(config.results_dir) / Recorder(config, MAIN).run_id / ".lock"
    lock.unlink()
    lock.mkdir()
    with pytest.raises(UserError, match="cannot write in .* say results_dir=") as caught:
        Recorder.opened(config, MAIN).__enter__()
    assert not isinstance(caught.value, HeldError)


def test_any_line_can_be_logged_and_a_log_stops_nothing(config: RunConfig) -> None:
    with Recorder.opened(config, MAIN) as writer:
        writer.log("gr\u00f6\u00dfe \udce9 \u4e2d")  # in the middle: a file name in no encoding
        writer.log("two")
        lines = writer.folder.log.read_bytes().splitlines()
        assert [line.partition(b" ")[2] for line in lines] == [
            "gr\u00f6\u00dfe \\udce9 \u4e2d".encode(), b"two"
        ]  # fmt: skip
        assert all(line.startswith(b"20") for line in lines), "with the time"
        writer.folder.log.unlink()
        writer.folder.log.mkdir()
        writer.log("three")


def test_who_may_not_speak_is_silent(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    for world, speaks in ((MAIN, True), (MAIN, False), (World(1, 1, MAIN.device), True)):
        Recorder(config, world, speaks).tell(f"{world.rank} {speaks}")
    assert stream.getvalue() == "0 True\n"


def test_a_status_is_written_once_a_second_and_time_left_is_of_the_steps_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, shown = [100.0], list[str]()
    monkeypatch.setattr(recorder.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(recorder.LiveLine, "show", lambda _, line: shown.append(line))
    with Recorder.opened(tiny.config(tmp_path), MAIN) as writer:
        writer.start(0, 100, **FACTS)
        seen = []
        for second, step in ((0.0, 10), (0.9, 20), (1.1, 30), (1.3, 40)):
            clock[0] = 100.0 + second
            writer.progress(step, 1.0, 1e-3, 8.0)  # of 16 a step: half a step a second
            seen.append(writer.read_status()["step"])
        assert writer.step == 40 and not writer.wants_progress
        clock[0] += 0.6
        assert writer.wants_progress
    assert seen == [10, 10, 30, 30]
    assert [line.rpartition("s/s  ")[2] for line in shown][-1] == "2:00 left"
    other = Recorder(tiny.config(tmp_path), World(1, 1, MAIN.device))
    assert not other.wants_progress


def test_a_damaged_status_says_what_is_left_of_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    odd = {"state": 7, "message": 7, "step": "7", "total_steps": None, "num_rows": 7.5}
    folder.status.write_text(json.dumps({**odd, "num_evaluations": [], "pid": 7, "loss": None}))
    assert folder.read_status() == {"pid": 7, "loss": None}


def test_a_run_of_several_people_is_written_as_their_umask_says(config: RunConfig) -> None:
    """With 002 another of the group goes on where one has stopped."""
    before = os.umask(0o002)
    try:
        with Recorder.opened(config, MAIN) as writer:
            writer.start(0, 24, **FACTS)
            writer.add([row(24)])
            writer.end("finished", 24)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in writer.folder.path.iterdir()}
    files = ("config.yaml", "run.json", "metrics.jsonl", "status.json", "log.txt", ".lock")
    assert modes == dict.fromkeys(files, 0o664)


def test_drafts_of_a_killed_session_are_removed_by_the_next_and_nothing_else(
    config: RunConfig,
) -> None:
    with Recorder.opened(config, MAIN) as writer:
        folder = writer.folder.path
        with files.replacing(writer.folder.status) as draft:
            draft.write_text("half")
            (folder / f"{draft.name}.kept").write_text("half")
            os.link(draft, folder / "run.json.77-0123abcd.tmp")
        mine = {"notes.tmp", "a.7-xyz.tmp", f"{draft.name}.kept"}
        for name in mine:
            (folder / name).write_text("mine")
    with Recorder.opened(config, MAIN):
        assert {path.name for path in folder.iterdir()} == {*mine, ".lock", "status.json"}


def test_a_session_is_compared_with_the_one_before_and_the_first_alone_is_new(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has changed once is not said for ever; mirrors go on from the second session on."""
    resumed: list[bool] = []

    def note(*_: Any, is_resumed: bool, **__: Any) -> list[Any]:
        resumed.append(is_resumed)
        return []

    monkeypatch.setattr(recorder, "open_mirrors", note)
    for start, code in enumerate(("a", "b", "b")):
        monkeypatch.setattr(recorder.sources, "hashes", lambda _, code=code: {"task": code})
        with Recorder.opened(config, MAIN) as writer:
            writer.start(start, 24, **FACTS)
    assert resumed == [False, True, True]
    assert writer.folder.log.read_text().count("going on, though the code of its task") == 1


def test_a_session_says_how_many_runs_are_trained_together(config: RunConfig) -> None:
    with Recorder.opened(config, MAIN) as writer:
        writer.start(0, 24, together=3, **FACTS)
    (session,) = read_json(writer.folder.header)["sessions"]
    assert session["launcher"].endswith(", 3 runs together")


def test_a_file_system_without_locks_is_one_line(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(store.fcntl, "flock", none)
    with pytest.raises(UserError, match="No locks available"), Recorder.opened(config, MAIN):
        pass


def test_the_holder_is_named_in_full_and_alone(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.socket, "gethostname", lambda: "a-node-with-a-long-name")
    folder = Folder(Path(config.results_dir) / "run")
    folder.path.mkdir(parents=True)
    (folder.path / ".lock").write_text("x" * 150)
    with folder.locked():
        said = (folder.path / ".lock").read_text()
        with (
            pytest.raises(HeldError, match=f"already, by {re.escape(said)}: wait"),
            folder.locked(),
        ):
            pass
    assert said == f"process {os.getpid()} on a-node-with-a-long-name"


class Second(World):
    """One of two processes, and what the main one says."""

    said: Any = None

    def share(self, value: Any) -> Any:
        return Second.said


def test_the_other_processes_take_the_main_ones_word(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Recorder(config, Second(1, 2, MAIN.device))
    for word in (True, False):
        monkeypatch.setattr(Second, "said", word)
        assert other.has_evaluation(6) == word
        monkeypatch.setattr(Second, "said", (word, ""))
        assert other.is_over == word
    monkeypatch.setattr(Second, "said", (False, "its ledger cannot be read"))
    with pytest.raises(UserError, match="its ledger cannot be read"):
        _ = other.is_over
