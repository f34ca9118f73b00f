"""The main job, short: it trains, is interrupted, goes on, reports, and in the end only draws.

Only the first call is a process of its own: the others import nothing anew, and train with one
worker.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import forked
import pytest

from experiments.store import Folder, read_json

pytestmark = pytest.mark.usefixtures("signals_as_in_a_terminal")

ROOT = Path(__file__).resolve().parent.parent


SHORT = ["train.epochs=null", "train.steps=12", "eval.every_epochs=null"]


def words(out: Path) -> list[str]:
    return ["--seeds", "1", "--out", str(out), *SHORT]


def states(out: Path) -> list[str]:
    folders = [Folder(path) for path in sorted((out / "runs").glob("*"))]
    return [read_json(folder.status).get("state", "none") for folder in folders]


@pytest.mark.slow
def test_interrupted_goes_on_and_then_only_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = runpy.run_path(str(ROOT / "scripts/demo.py"))
    cells = demo["plan_cells"]("vit_proxy", 1, tmp_path / "runs", SHORT)
    command = [sys.executable, str(ROOT / "scripts/demo.py"), *words(tmp_path)]
    with Folder(tmp_path / "runs" / cells[-1].run_id).locked():  # so that it cannot end before
        first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        forked.wait_for(lambda: "finished" in states(tmp_path))
        os.killpg(first.pid, signal.SIGINT)  # as a terminal does
        said, _ = first.communicate(timeout=forked.NET_SECONDS)
    assert first.returncode == 130, said
    assert "call the same command again" in said
    finished_before = states(tmp_path).count("finished")
    assert 1 <= finished_before < 6

    assert demo["main"]([*words(tmp_path), "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert f"{6 - finished_before} of 6 cells to train" in said
    assert states(tmp_path) == ["finished"] * 6
    assert "Proxy verdict (digits, 39,322 parameters" in said
    assert (tmp_path / "vit_proxy.png").stat().st_size > 20_000

    headers = [read_json(path)["sessions"] for path in tmp_path.glob("runs/*/run.json")]
    assert demo["main"](words(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "to train" not in said and "Proxy verdict" in said
    assert headers == [read_json(p)["sessions"] for p in tmp_path.glob("runs/*/run.json")]

    assert demo["main"]([*words(tmp_path), "--metric", "nosuch"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.endswith("error: no evaluation has the metric nosuch; there are: loss, top1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "0"], "error: --seeds and --workers must be 1 or more"),
        (
            ["--out", "/dev/null"],
            "error: cannot make the folder /dev/null (File exists): choose another with --out",
        ),
        (["optimizer.lr=3"], "error: optimizer.lr=3: the comparison sets it itself"),
        (["seed=7"], "error: seed=7: the comparison sets it itself"),
    ],
)
def test_a_slip_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = runpy.run_path(str(ROOT / "scripts/demo.py"))
    assert demo["main"](arguments) == 2
    assert capsys.readouterr().err.startswith(said)
