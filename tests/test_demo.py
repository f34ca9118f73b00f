"""The main job, short: it trains, is interrupted, goes on, reports, and in the end only draws."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked
import pytest

from experiments.store import Folder, read_json

pytestmark = pytest.mark.usefixtures("signals_as_in_a_terminal")

ROOT = Path(__file__).resolve().parent.parent


SHORT = ["train.epochs=null", "train.steps=40", "eval.every_epochs=null"]


def command(out: Path) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "scripts/demo.py"),
        "--seeds",
        "1",
        "--out",
        str(out),
        *SHORT,
    ]


def called(*words: str) -> subprocess.CompletedProcess[str]:
    net = forked.NET_SECONDS
    return subprocess.run(words, capture_output=True, text=True, timeout=net, check=False)


def states(out: Path) -> list[str]:
    folders = [Folder(path) for path in sorted((out / "runs").glob("*"))]
    return [read_json(folder.status).get("state", "none") for folder in folders]


@pytest.mark.slow
def test_interrupted_goes_on_and_then_only_draws(tmp_path: Path) -> None:
    cells = runpy.run_path(str(ROOT / "scripts/demo.py"))["plan_cells"](
        "vit_proxy", 1, tmp_path / "runs", SHORT
    )
    with Folder(tmp_path / "runs" / cells[-1].run_id).locked():  # so that it cannot end before
        first = subprocess.Popen(
            command(tmp_path), stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        forked.wait_for(lambda: "finished" in states(tmp_path))
        os.killpg(first.pid, signal.SIGINT)  # as a terminal does
        said, _ = first.communicate(timeout=forked.NET_SECONDS)
    assert first.returncode == 130, said
    assert "call the same command again" in said
    finished_before = states(tmp_path).count("finished")
    assert 1 <= finished_before < 6

    second = called(*command(tmp_path))
    assert second.returncode == 0, second.stderr
    assert f"{6 - finished_before} of 6 cells to train" in second.stdout
    assert states(tmp_path) == ["finished"] * 6
    assert "Proxy verdict (digits, 39,322 parameters" in second.stdout
    assert (tmp_path / "vit_proxy.png").stat().st_size > 20_000

    headers = [read_json(path)["sessions"] for path in tmp_path.glob("runs/*/run.json")]
    third = called(*command(tmp_path))
    assert third.returncode == 0, third.stderr
    assert "to train" not in third.stdout and "Proxy verdict" in third.stdout
    assert headers == [read_json(p)["sessions"] for p in tmp_path.glob("runs/*/run.json")]


@pytest.mark.slow
def test_a_metric_that_nobody_measured_is_one_line(tmp_path: Path, capsys: Any) -> None:
    short = ["train.epochs=null", "train.steps=2", "eval.every_epochs=null"]
    words = ["--seeds", "1", "--workers", "1", "--out", str(tmp_path), "--metric", "nosuch"]
    demo = runpy.run_path(str(ROOT / "scripts/demo.py"))
    assert demo["main"]([*words, *short]) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("error: no evaluation has the metric nosuch; there are: loss, top1")
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "0"], "error: --seeds and --workers must be 1 or more"),
        (["--out", "/dev/null"], "error: cannot make the folder /dev/null/"),
        (["optimizer.lr=3"], "error: optimizer.lr=3: the comparison sets it itself"),
        (["seed=7"], "error: seed=7: the comparison sets it itself"),
    ],
)
def test_a_slip_is_one_line(arguments: list[str], said: str, capsys: Any) -> None:
    demo = runpy.run_path(str(ROOT / "scripts/demo.py"))
    assert demo["main"](arguments) == 2
    assert capsys.readouterr().err.startswith(said)
