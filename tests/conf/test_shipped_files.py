"""Files below results/ that pages name are found from any folder, and go into the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import run
from experiments.identity import run_id
from experiments.pages import shipped

ROOT = Path(__file__).resolve().parents[2]
VALUE = re.compile(r"^[^#\n]*:\s+[\"']?(results/[\w./-]+\.\w+)", flags=re.M)
NAMED = sorted(
    {path for page in (ROOT / "conf").rglob("*.yaml") for path in VALUE.findall(page.read_text())}
)


def test_pages_name_files() -> None:
    assert len(NAMED) >= 3


@pytest.mark.parametrize("path", NAMED)
def test_a_named_file_is_found_from_elsewhere_and_is_packed(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(shipped(path)).read_bytes() == (ROOT / path).read_bytes()
    folder = str(Path(path).parent)
    assert f'"{folder}"' in (ROOT / "setup.py").read_text()
    assert f"graft {folder}\n" in (ROOT / "MANIFEST.in").read_text()


def test_a_file_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAMED[0]).parent.mkdir(parents=True)
    (tmp_path / NAMED[0]).write_text("mine")
    assert shipped(NAMED[0]) == NAMED[0]
    assert shipped("setup.py") == "setup.py"  # ours is only what lies below results/


@pytest.mark.parametrize(
    "arguments",
    [
        ["experiment=lit_proxy"],
        ["experiment=vit_proxy", "optimizer=program", f"optimizer.path={NAMED[-1]}"],
    ],
)
def test_the_run_is_the_same_from_any_folder(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    here = run_id(run.compose(arguments))
    monkeypatch.chdir(tmp_path)
    assert run_id(run.compose(arguments)) == here
