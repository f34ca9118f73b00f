"""What a run's folder says of it: header, sessions, status, log; and who may write there."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml

from experiments import header, recorder, runner, store
from experiments.config import RunConfig, UserError, from_dict
from experiments.distributed import World
from experiments.identity import run_id
from experiments.live_line import LiveLine, duration
from experiments.recorder import Recorder
from experiments.store import read_json, read_rows
from experiments.sweep.signals import Told

MAIN = World(0, 1, torch.device("cpu"))
OTHER = World(1, 1, torch.device("cpu"))
FACTS = {"data": "tiny", "model": "Net", "num_params": 7}


def row(step: int, split: str = "val") -> dict[str, Any]:
    return {"step": step, "split": split, "metric": "loss", "value": 1.0, "weights": "raw"}


def test_the_header_says_what_was_run_and_each_session_where(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, provenance__source="Table 12", stands_for="vit_b16")
    for start in (0, 5):
        with Recorder.opened(config, MAIN) as writer:
            writer.start(start, 24, **FACTS)
            writer.add([row(start + 1)])
            writer.end("interrupted", start + 1)
    header = read_json(writer.folder.header)
    assert header["run_id"] == writer.folder.path.name == run_id(config)
    expected = {"optimizer": "lion", "lr": 3e-3, "weight_decay": 0.1, "batch_size": 16, "seed": 0}
    expected |= {"provenance": "Table 12", "stands_for": "vit_b16", "scale": "proxy", **FACTS}
    assert header == header | expected
    settings = json.loads(header["hyper_parameters"])
    assert settings == {"_target_": "lion.Lion", "lr": 3e-3, "weight_decay": 0.1}
    assert [s["start_step"] for s in header["sessions"]] == [0, 5]
    for session in header["sessions"]:
        assert session["device"] == "cpu x 1"
        assert json.loads(session["versions"])["torch"] == version("torch")
        assert re.fullmatch(r"([0-9a-f]{12}\+?)?", session["commit"])
    assert [(r["step"], r["session"]) for r in read_rows(writer.folder.metrics)] == [(1, 0), (6, 1)]
    log = writer.folder.log.read_text()
    assert "started at step 0 of 24" in log and "resumed at step 5 of 24" in log


def test_the_saved_configuration_gives_the_run_back(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    folder = runner.run(config).folder
    again = from_dict(yaml.safe_load((folder / "config.yaml").read_text()))
    assert again == config
    assert run_id(again) == folder.name


def test_a_run_that_breaks_is_failed_with_its_reason_and_keeps_its_rows(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    with pytest.raises(ZeroDivisionError), Recorder.opened(config, MAIN) as writer:
        writer.start(0, 24, **FACTS)
        writer.add([row(1)])
        raise ZeroDivisionError("by nought")
    status = read_json(writer.folder.status)
    assert status["state"] == "failed"
    assert status["message"] == "ZeroDivisionError: by nought"
    assert len(read_rows(writer.folder.metrics)) == 1
    assert not writer.folder.is_held()


def test_a_run_that_is_told_to_stop_before_it_listens_has_not_failed(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    with pytest.raises(Told), Recorder.opened(config, MAIN) as writer:
        writer.start(0, 24, **FACTS)
        raise Told  # by a sweep's worker; Ctrl-C is another KeyboardInterrupt
    status = writer.read_status()
    assert status["state"] == "interrupted" and "goes on" in status["message"]


def test_a_wrong_configuration_leaves_no_state(tmp_path: Path) -> None:
    with pytest.raises(UserError), Recorder.opened(tiny.config(tmp_path), MAIN) as writer:
        raise UserError("before the start")
    assert not writer.folder.status.exists()


def test_a_second_writer_leaves_the_state_of_the_first_alone(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    with Recorder.opened(config, MAIN) as writer:
        writer.start(0, 24, **FACTS)
        before = writer.folder.status.read_text()
        with pytest.raises(UserError, match="is being trained already, by process"):
            runner.run(config)
        assert writer.folder.status.read_text() == before


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        runner.run(tiny.config(tmp_path / "file"))


def test_the_other_processes_write_nothing(tmp_path: Path) -> None:
    with Recorder.opened(tiny.config(tmp_path / "runs"), OTHER) as writer:
        writer.start(0, 24, **FACTS)
        writer.add([row(1)])
        writer.log("hello")
        assert not writer.wants_progress
        writer.end("finished", 24)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("state", "is_over"), [("finished", True), ("diverged", True), ("failed", False)]
)
def test_what_is_over_and_what_is_not(tmp_path: Path, state: str, is_over: bool) -> None:
    with Recorder.opened(tiny.config(tmp_path), MAIN) as writer:
        assert not writer.is_over
        writer.start(0, 24, **FACTS)
        assert not writer.is_over
        writer.end(state, 24)
        assert writer.is_over == is_over


def test_a_run_whose_rows_cannot_be_written_is_not_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(UserError, match="No space left on device; free some space and call the"),
        Recorder.opened(tiny.config(tmp_path), MAIN) as w,
    ):
        w.start(0, 24, **FACTS)
        monkeypatch.setattr(store.os, "write", full)
        with pytest.warns(UserWarning, match="will try again"):
            w.add([row(1)])
        w.end("finished", 24)
    assert read_json(w.folder.status)["state"] == "failed"


def test_a_run_whose_last_status_cannot_be_written_has_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store.write_json

    def full(path: Path, content: dict[str, Any], durable: bool) -> None:
        if content.get("state") == "finished":
            raise OSError(28, "No space left on device")
        write(path, content, durable)

    monkeypatch.setattr(store, "write_json", full)
    assert runner.run(tiny.config(tmp_path, train__epochs=1.0)).state == "finished"


def test_the_last_evaluation_is_that_of_the_last_step(tmp_path: Path) -> None:
    with Recorder.opened(tiny.config(tmp_path), MAIN) as writer:
        writer.start(0, 24, **FACTS)
        assert writer.last_evaluation() == []
        for step in (3, 6):
            writer.add([row(step), row(step, "test"), row(step, "train")])
        writer.add([row(8, "train"), row(8, "run")])
        assert [(r["step"], r["split"]) for r in writer.last_evaluation()] == [
            (6, "val"),
            (6, "test"),
        ]


def config_with_progress(tmp_path: Path) -> RunConfig:
    return tiny.config(tmp_path, launch__progress=True)


def test_status_and_live_line_tell_how_far_the_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Recorder.opened(config_with_progress(tmp_path), MAIN) as writer:
        writer.start(0, 100, **FACTS)
        assert writer.wants_progress
        writer.progress(1, 1.5, 1e-3, 0.0)
        assert not writer.wants_progress
        writer.progress(20, 1.25, 1e-3, 160.0)
        status = read_json(writer.folder.status)
    assert status == status | {"state": "running", "step": 20, "total_steps": 100, "loss": 1.25}
    assert "step 20/100  loss 1.2500  lr 1.00e-03  160 samples/s  0:08 left" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[2K")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("columns", "shown"), [(8, "0123456"), (80, "0123456789"), (0, "0123456789")]
)
def test_a_narrow_terminal_gets_what_it_can_take_back(
    monkeypatch: pytest.MonkeyPatch, columns: int, shown: str
) -> None:
    """Of a line that is broken only the last row would be rewritten."""
    stream = Terminal()
    monkeypatch.setattr(stream, "fileno", lambda: 2)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("os.get_terminal_size", lambda handle: os.terminal_size((columns, 24)))
    LiveLine(wanted=True).show("0123456789")
    assert stream.getvalue() == f"\r\x1b[2K{shown}"


def test_a_pipe_gets_plain_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    now = [0.0]
    monkeypatch.setattr(recorder.time, "monotonic", lambda: now[0])
    live = LiveLine(wanted=True)
    for second in range(70):
        now[0] = float(second)
        live.show(f"at {second}")
    live.print("kept")
    live.close()
    assert stream.getvalue() == "at 30\nat 60\nkept\n"


def test_without_progress_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    live = LiveLine(wanted=False)
    live.show("x")
    live.print("y")
    live.close()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3661, "1:01:01")]
)
def test_time_left_reads_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert duration(float("inf")).count(":") == 2


@pytest.mark.parametrize(
    "damage", ["garbage", '{"run_id": 7, "sessions": [{}]}', '{"run_id": "x", "sessions": null}']
)
def test_a_finished_run_whose_header_is_damaged_makes_it_again(tmp_path: Path, damage: str) -> None:
    """As the table promises: until the run's command is called again."""
    config = tiny.config(tmp_path, train__epochs=1.0)
    folder = runner.run(config).folder
    num_params = read_json(folder / "run.json")["num_params"]
    rows = (folder / "metrics.jsonl").read_text()
    (folder / "run.json").write_text(damage)
    assert runner.run(config).state == "finished"
    assert read_json(folder / "run.json")["num_params"] == num_params
    assert (folder / "metrics.jsonl").read_text().startswith(rows)


def test_a_finished_run_without_header_and_checkpoints_stays_finished(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, train__epochs=1.0)
    folder = runner.run(config).folder
    rows = (folder / "metrics.jsonl").read_text()
    shutil.rmtree(folder / "checkpoints")
    (folder / "run.json").unlink()
    assert runner.run(config).state == "finished"
    assert (folder / "metrics.jsonl").read_text() == rows


@pytest.mark.parametrize("num_sessions", [0, 1, 2])
def test_a_header_made_anew_does_not_guess_what_the_run_began_with(
    tmp_path: Path, num_sessions: int
) -> None:
    """A session that resumes has loaded no foreign weights: only the first one knows of them."""
    config = replace(tiny.config(tmp_path), start_from={"source": "another"})
    rows = [{**row(1), "session": number} for number in range(num_sessions)]
    facts = {**FACTS, "start_from": "", "init_optimizer": ""}
    made, _ = header.whole(store.Folder(tmp_path), config, facts, rows)
    assert made["sessions"] == [{}] * num_sessions and made["num_params"] == 7
    assert ("start_from" in made) == ("init_optimizer" in made) == (num_sessions == 0)
