"""The command that checks a card: its time, its files, and what ends its parts."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import forked
import pytest
from card_lab import SCRIPTS, fail, written


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return runpy.run_path(str(SCRIPTS / "gpu_check.py"))["main"].__globals__


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def call(script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *arguments])
    return script["main"]()


def test_without_a_card_nothing_is_measured(
    script: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script["ROOT"] = tmp_path
    script["_in_process"] = lambda *_: ("done", [{"device": "cpu"}])
    assert call(script, monkeypatch) == 2
    assert "error: no CUDA card is visible" in capsys.readouterr().err
    script["_in_process"] = lambda *_: ("exit code 1", [])
    assert call(script, monkeypatch) == 2


def test_a_card_that_torch_does_not_see_is_no_rehearsal(
    script: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Minutes of a card would be spent on its host's CPU, and look like a check of it."""
    (tmp_path / "nvidiactl").touch()
    script["NODES"] = (str(tmp_path / "nvidiactl"),)
    facts = {"device": "cpu", "torch": "9.9", "why_no_card": "the driver is too old"}
    script["_in_process"] = lambda name, *_: ("done", [facts] if name == "facts" else [])
    out = str(tmp_path / "check.json")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert call(script, monkeypatch, "--out", out) == 2
    assert "torch 9.9 sees none (the driver is too old)" in capsys.readouterr().err
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert call(script, monkeypatch, "--out", out) == 0


def test_a_folder_that_cannot_be_written_is_said_at_once(
    script: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    script["_in_process"] = lambda *_: fail(AssertionError("nothing may be measured"))
    assert call(script, monkeypatch, "--out", str(tmp_path / "file" / "check.json")) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_time_that_a_part_leaves_is_the_next_ones(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And what one takes too much, the next ones have less: the whole keeps its time."""
    now, given = [0.0], {}
    takes = {"facts": 10.0, "correct": 5.0, "runs": 0.0, "step": 400.0}

    def in_process(name: str, seconds: float, ends: float, *_: Any) -> tuple[str, Any]:
        given[name] = seconds
        assert ends == 600.0
        now[0] += takes.get(name, seconds)
        return "done", [{"device": "cpu"}] if name == "facts" else []

    monkeypatch.setattr(script["time"], "monotonic", lambda: now[0])
    script["_in_process"] = in_process
    out = tmp_path / "check.json"
    assert call(script, monkeypatch, "--out", str(out), "--minutes", "10") == 0
    assert now[0] == pytest.approx(600.0)
    assert given["correct"] == pytest.approx(118.0)
    assert given["step"] == pytest.approx(585 * 0.2 / 0.65)
    assert list(json.loads(out.read_text())["parts"]) == list(script["PARTS"])


STANDS_IN = """
import json, os, subprocess, sys, time
rows = sys.argv[sys.argv.index("--rows") + 1]
def write(*found):
    with open(rows + "x", "w") as file:
        json.dump(list(found), file)
    os.replace(rows + "x", rows)
"""
"""What every part of the tests below begins with."""


def part(script: dict[str, Any], folder: Path, does: str, seconds: float = 60.0) -> Any:
    """What comes of a process that does that; `told` is what was known while it ran."""
    (folder / "part.py").write_text(STANDS_IN + does)
    script["__file__"], told = str(folder / "part.py"), []
    ends = script["time"].monotonic() + seconds
    state, rows = script["_in_process"]("step", seconds, ends, folder, told.append)
    assert [p.name for p in folder.glob("gpu-check-*")] == []
    return state, rows, told


def test_rows_are_known_while_a_part_runs_and_outlive_its_crash(
    script: dict[str, Any], tmp_path: Path
) -> None:
    does = 'write({"n": 1})\nwhile not os.path.exists(rows + ".seen"): time.sleep(0.01)\n'
    does += 'write({"n": 1}, {"n": 2}); os.kill(os.getpid(), 11)'
    script["POLL_SECONDS"] = 0.02
    told: list[Any] = []
    (tmp_path / "part.py").write_text(STANDS_IN + does)
    script["__file__"] = str(tmp_path / "part.py")

    def on_rows(rows: list[Any]) -> None:
        told.append(rows)
        for path in tmp_path.glob("gpu-check-*.tmp"):
            Path(f"{path}.seen").touch()

    ends = script["time"].monotonic() + 60
    state, rows = script["_in_process"]("step", 60.0, ends, tmp_path, on_rows)
    assert told[0] == [{"n": 1}] and rows == [{"n": 1}, {"n": 2}]
    assert state == "exit code -11"


def test_a_part_that_hangs_is_ended_with_all_that_it_has_started(
    script: dict[str, Any], tmp_path: Path
) -> None:
    script["GRACE_SECONDS"], script["POLL_SECONDS"] = 0.0, 0.02
    script["LEAST_SECONDS"] = 0.0
    does = 'child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])\n'
    does += 'write({"child": child.pid}); time.sleep(600)'
    state, rows, _ = part(script, tmp_path, does, 2.0)
    assert state == "cut"
    forked.wait_for(lambda: is_gone(rows[0]["child"]))  # a moment after it was killed


def test_half_a_file_of_rows_costs_nothing_else(script: dict[str, Any], tmp_path: Path) -> None:
    state, rows, _ = part(script, tmp_path, 'open(rows, "w").write("[{"); sys.exit(75)')
    assert (state, rows) == ("cut", [])


def test_what_no_time_is_left_for_is_not_begun(script: dict[str, Any], tmp_path: Path) -> None:
    script["subprocess"] = None
    assert script["_in_process"]("step", 0.5, 0.0, tmp_path) == ("cut", [])


def test_compilers_have_room_where_the_home_has_none(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    monkeypatch.setenv("LION_CACHE_DIR", "of the user")
    found = script["_environment"](tmp_path)
    assert found["TRITON_CACHE_DIR"] == str(tmp_path / "gpu-check-caches" / "triton")
    assert found["LION_CACHE_DIR"] == "of the user"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert script["_environment"](tmp_path).get("TRITON_CACHE_DIR") is None


def test_a_module_that_cannot_be_imported_is_a_row(
    lab: Any, script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gpu_lab.language", None)
    with pytest.raises(ImportError):
        script["run_part"]("language", tmp_path / "rows.json", 60.0)
    assert "ModuleNotFoundError" in written(tmp_path)[0]["error"]


def test_a_folder_is_given_in_place_of_a_file(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Compilers' files are gone in the end: whoever fetches results takes a few files."""
    monkeypatch.setenv("HOME", str(tmp_path / "none"))

    def in_process(name: str, seconds: float, ends: float, folder: Path, *_: Any) -> Any:
        Path(script["_environment"](folder)["LION_CACHE_DIR"]).mkdir(parents=True, exist_ok=True)
        return "done", [{"device": "cpu"}] if name == "facts" else []

    script["_in_process"], script["NODES"] = in_process, ()
    monkeypatch.delenv("LION_CACHE_DIR", raising=False)
    assert call(script, monkeypatch, "--out", str(tmp_path)) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["gpu_cpu.json"]


def test_a_disk_that_is_full_for_a_while_ends_nothing(
    script: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "check.json"
    (tmp_path / "check.json.draft").mkdir()
    script["_write"](out, {"rows": [1]})
    assert "is not written" in capsys.readouterr().err and not out.exists()
    (tmp_path / "check.json.draft").rmdir()
    script["_write"](out, {"rows": [1, 2]})
    assert json.loads(out.read_text()) == {"rows": [1, 2]}


def test_what_goes_wrong_beside_a_part_leaves_no_process(
    script: dict[str, Any], tmp_path: Path
) -> None:
    script["POLL_SECONDS"], found = 0.02, []
    does = 'write({"pid": os.getpid()}); time.sleep(600)'
    (tmp_path / "part.py").write_text(STANDS_IN + does)
    script["__file__"] = str(tmp_path / "part.py")

    def on_rows(rows: list[Any]) -> None:
        found.extend(rows)
        raise ValueError("of the caller")

    ends = script["time"].monotonic() + 60
    with pytest.raises(ValueError, match="of the caller"):
        script["_in_process"]("step", 60.0, ends, tmp_path, on_rows)
    assert is_gone(found[0]["pid"])


def test_a_crash_is_tried_once_without_native_code(script: dict[str, Any], tmp_path: Path) -> None:
    """It would end every part alike; what a part had found before is kept."""
    called: list[tuple[str, str | None]] = []

    def in_process(name: str, *rest: Any) -> tuple[str, list[Any]]:
        extra = rest[-1]
        called.append((name, extra.get("CXX")))
        is_broken = name == "sync" or not extra
        return ("exit code -11" if is_broken else "done"), [{"part": name, "n": len(called)}]

    script["_in_process"] = in_process
    content: dict[str, Any] = {"parts": {}}
    names = ["correct", "sync", "memory"]
    script["_run_all"](names, script["time"].monotonic() + 60, tmp_path / "check.json", content)
    assert called == [("correct", None), *((name, "false") for name in names)]
    assert content["parts"] == {"correct": "done", "sync": "exit code -11", "memory": "done"}
    assert content["without_native_code"] == "since correct: exit code -11"
    assert [row.get("n") for row in content["rows"]] == [1, None, 2, 3, 4]
