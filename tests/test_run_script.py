"""run.sh sets up one environment, however many calls begin at once or were killed before."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import forked
import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON = """#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
"-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; touch .venv/bin/pip .venv/has-pip
    chmod +x .venv/bin/pip ;;
"-m ensurepip") touch .venv/has-pip ;;
"-m pip --version") [ -f .venv/has-pip ] ;;
"-m pip install"*) read -r _ <"$GATE" ;;
esac
"""


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as on a fresh machine, with a Python that only notes what it is told.

    What it installs takes until somebody writes to the gate.
    """
    for name in ("run.sh", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "fake").write_text(PYTHON)
    (tmp_path / "fake").chmod(0o755)
    os.mkfifo(tmp_path / "gate")
    for name, value in {"PYTHON": "fake", "LOG": "log", "GATE": "gate"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    return tmp_path


def call(house: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(["./run.sh", "setup"], cwd=house, stderr=subprocess.PIPE, text=True)


def told(house: Path, word: str) -> int:
    """How often Python was called for something."""
    path = house / "log"
    return path.read_text().count(f"-m {word}") if path.exists() else 0


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is missing")
def test_two_calls_at_once_set_up_one_environment(house: Path) -> None:
    first = call(house)
    forked.wait_for(lambda: told(house, "pip install"))
    second = call(house)
    assert second.stderr is not None
    assert second.stderr.readline().startswith("Another call is setting up .venv")
    (house / "gate").write_text("go on\n")
    assert first.wait(forked.NET_SECONDS) == 0
    assert second.wait(forked.NET_SECONDS) == 0
    assert told(house, "venv") == told(house, "pip install") == 1
    third = call(house)
    assert third.wait(forked.NET_SECONDS) == 0 and told(house, "pip install") == 1


def test_an_environment_that_was_killed_before_it_had_pip_is_mended(house: Path) -> None:
    (house / ".venv/bin").mkdir(parents=True)
    shutil.copy(house / "fake", house / ".venv/bin/python")
    running = call(house)
    forked.wait_for(lambda: told(house, "pip install"))
    (house / "gate").write_text("go on\n")
    assert running.wait(forked.NET_SECONDS) == 0
    assert told(house, "ensurepip") == 1 and told(house, "venv") == 0


def test_the_python_that_was_asked_for_is_taken_or_refused(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one in its place would be tried under its name."""
    (house / "fake").write_text("#!/bin/sh\nexit 1\n")  # "are you new enough?"
    for asked in (str(house / "fake"), str(house / "nowhere"), "python3.99"):
        monkeypatch.setenv("PYTHON", asked)
        running = call(house)
        _, said = running.communicate(timeout=forked.NET_SECONDS)
        assert running.returncode == 1 and not (house / ".venv").exists()
        assert said == f"error: PYTHON={asked} is no Python 3.10 or newer\n"


@pytest.mark.parametrize("newest", ["python3.14", "python3.10"])
def test_a_new_python_is_found_beside_an_old_one(
    newest: str, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (house / "bin").mkdir()
    for minor in range(10, 15):
        (house / f"bin/python3.{minor}").write_text("#!/bin/sh\nexit 1\n")
    (house / "bin/python3").write_text("#!/bin/sh\nexit 1\n")
    shutil.copy(house / "fake", house / "bin" / newest)
    for path in (house / "bin").iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{house / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PYTHON")
    running = call(house)
    forked.wait_for(lambda: told(house, "pip install"))
    (house / "gate").write_text("go on\n")
    assert running.wait(forked.NET_SECONDS) == 0 and told(house, "venv") == 1
