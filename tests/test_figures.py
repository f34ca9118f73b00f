"""scripts/figures.py: writes what is asked, notices what is outdated, explains what is wrong."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import study_folder

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch):
    """Calls the script with arguments and gives its exit code."""
    spec = importlib.util.spec_from_file_location("figures_script", ROOT / "scripts/figures.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["figures.py", *arguments])
        try:
            return script.main()
        except SystemExit as end:  # from argparse
            return int(end.code or 0)

    return run


def test_only_then_check(call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--only", "lit", "basic", "--out", str(tmp_path))
    assert call(*out, "--jobs", "2") == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["basic.png", "basic.svg", "lit.png", "lit.svg"]
    assert call(*out, "--check", "--jobs", "1") == 0, "one process draws what two drew"
    (tmp_path / "lit.svg").write_text("old")
    capsys.readouterr()
    assert call(*out, "--check") == 1
    said = capsys.readouterr().out
    assert said.startswith("lit: ") and "basic" not in said
    assert (tmp_path / "lit.svg").read_text() == "old"  # a check writes nothing


def test_a_changed_number_makes_the_figure_outdated(call, tmp_path: Path) -> None:
    results = study_folder.make(tmp_path)
    (results / "paper").unlink()
    (results / "paper").mkdir()
    text = (study_folder.RESULTS / "paper/lit.csv").read_text()
    (results / "paper/lit.csv").write_text(text)
    where = ("--only", "lit", "--results", str(results))
    assert call(*where) == 0
    assert call(*where, "--check") == 0
    (results / "paper/lit.csv").write_text(text.replace(",69.88,", ",69.89,"))
    assert call(*where, "--check") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--only", "nothing"), "invalid choice"), (("--results", "/nowhere"), "is missing")],
)
def test_mistakes_end_with_a_line_and_code_2(
    call, arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--out", str(tmp_path), *arguments) == 2
    assert said in capsys.readouterr().err
