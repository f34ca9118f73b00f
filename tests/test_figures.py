"""scripts/figures.py: writes what is asked, notices what is outdated, explains what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import study_folder

ROOT = Path(__file__).resolve().parent.parent


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/figures.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_only_then_check(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    done = call("--only", "lit", "basic", *out)
    assert done.returncode == 0 and done.stderr == ""
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["basic.png", "basic.svg", "lit.png", "lit.svg"]
    assert call("--only", "lit", "basic", "--check", *out).returncode == 0
    (tmp_path / "lit.svg").write_text("old")
    checked = call("--only", "lit", "basic", "--check", *out)
    assert checked.returncode == 1
    assert checked.stdout.startswith("lit: ") and "basic" not in checked.stdout
    assert (tmp_path / "lit.svg").read_text() == "old"  # a check writes nothing


def test_a_changed_number_makes_the_figure_outdated(tmp_path: Path) -> None:
    results = study_folder.make(tmp_path)
    (results / "paper").unlink()
    (results / "paper").mkdir()
    text = (study_folder.RESULTS / "paper/lit.csv").read_text()
    (results / "paper/lit.csv").write_text(text)
    where = ("--only", "lit", "--results", str(results))
    assert call(*where).returncode == 0
    assert call(*where, "--check").returncode == 0
    (results / "paper/lit.csv").write_text(text.replace(",69.88,", ",69.89,"))
    assert call(*where, "--check").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--only", "nothing"), "invalid choice"), (("--results", "/nowhere"), "is missing")],
)
def test_mistakes_end_with_a_line_and_code_2(arguments: tuple[str, ...], said: str) -> None:
    done = call("--out", "/tmp/unused", *arguments)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
