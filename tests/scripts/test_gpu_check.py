"""The check of a card, rehearsed on the CPU: every part runs, and what it finds is on the disk."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the rehearsal is of the CPU")


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import gpu_lab.optimizer_step
    import gpu_lab.training

    yield gpu_lab
    for name in [name for name in sys.modules if name.startswith("gpu_lab")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("room", "part"),
    [("optimizer_step", "correct"), ("optimizer_step", "step"), ("training", "sync"),
     ("training", "train"), ("training", "memory")],
)  # fmt: skip
def test_a_part_writes_its_rows(lab: Any, tmp_path: Path, room: str, part: str) -> None:
    from gpu_lab.measuring import Rows

    path = tmp_path / "rows.json"
    getattr(getattr(lab, room), part)(Rows(path, 600.0))
    rows = json.loads(path.read_text())
    assert rows and {row["part"] for row in rows} == {part}
    assert all(row.get("bit_equal", True) for row in rows)
    assert not [row for row in rows if "error" in row]


def test_a_wrong_step_is_seen(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    step = lab.optimizer_step.Lion.step

    def twice(self: Any) -> None:
        step(self)
        if self.defaults["fused"] is not False:
            step(self)

    monkeypatch.setattr(lab.optimizer_step.Lion, "step", twice)
    assert not lab.optimizer_step._agrees(torch.float32, {}, "from the start")


def test_without_a_card_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    assert runpy.run_path(str(SCRIPTS / "gpu_check.py"))["main"]() == 2
    assert "error: no CUDA card is visible" in capsys.readouterr().err
