"""The files that CONTRIBUTING.md shows work as they stand, from outside the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.config import UserError
from experiments.data.tokenizer import WordTokenizer
from experiments.store import read_sweep
from experiments.table import read_runs

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
GUIDE = (ROOT / "experiments/README.md").read_text()
OUTSIDE = ROOT / "tests/support/outside"


FILES = dict(re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)```", TEXT, flags=re.S | re.M))
COMMANDS = re.findall(r"^PYTHONPATH=\. python /path/to/this/repository/(.*)$", TEXT, flags=re.M)


def run_as_written(folder: Path, command: str) -> pd.DataFrame:
    """The runs that a command of the text leaves in a folder with the text's files."""
    call_as_written(folder, command)
    runs = read_runs(folder / "results/runs")
    assert not (ROOT / "results/runs" / runs.run_id.iloc[0]).exists()
    return runs


def call_as_written(folder: Path, command: str, *more: str) -> None:
    """Calls a command of the text in a folder with the text's files."""
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    script, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments, "launch.device=cpu", *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_optimizer_model_and_data_can_be_added_from_outside(tmp_path: Path) -> None:
    runs = run_as_written(tmp_path, COMMANDS[0])
    facts = runs[["experiment", "optimizer", "data", "model", "lr", "provenance", "state"]]
    assert facts.drop_duplicates().to_dict("records") == [
        {
            "experiment": "stripes_mlp",
            "optimizer": "sign_descent",
            "data": "stripes",
            "model": "small_mlp",
            "lr": 3e-3,
            "provenance": "tried three learning rates by hand",
            "state": "finished",
        }
    ]
    final = runs[(runs.split == "test") & (runs.metric == "top1")].value.iloc[-1]
    assert final > 90.0


def test_an_optimizer_from_outside_is_swept_beside_ours(tmp_path: Path) -> None:
    call_as_written(tmp_path, COMMANDS[1], "launcher=none")  # which plans, and trains nothing
    manifest = read_sweep(tmp_path / "results/sweeps/stripes_mlp-mine")
    assert manifest["budget"] == {"adamw": 5, "lion": 5, "sign_descent": 5}
    assert manifest["axes"]["sign_descent"]["lr"] == [3.333e-4, 1e-3, 3e-3, 9e-3, 2.7e-2]
    assert all(name in TEXT for name in ("status stripes_mlp-mine", "collect stripes_mlp-mine"))


def test_the_statistics_that_the_guide_calls_read_a_study(capsys: pytest.CaptureFixture) -> None:
    (block,) = re.findall(r"```python\n([^`]*read_study[^`]*)```", GUIDE)
    path = "results/studies/vit_proxy/mine/runs.csv"
    assert path in block
    exec(block.replace(path, str(ROOT / "results/studies/vit_proxy/heatmap/runs.csv")), {})
    said = capsys.readouterr().out
    assert "adamw" in said and "verdict" in said and "reference" in said


def test_a_task_can_be_added_from_outside(tmp_path: Path) -> None:
    runs = run_as_written(tmp_path, COMMANDS[2])
    assert set(runs.state) == {"finished"} and set(runs.example) == {"line of 12 characters"}
    losses = runs[(runs.split == "val") & (runs.metric == "loss")].value.tolist()
    assert losses == sorted(losses, reverse=True)
    assert {name for name in FILES if (OUTSIDE / name).exists()} == {
        "my_text.py", "pages/task/fill_in.yaml", "pages/experiment/fill_in.yaml",
        "pages/recipe/fill_in/lion.yaml",
    }  # fmt: skip
    for name in ("my_text.py", "pages/experiment/fill_in.yaml"):  # what the other tests try
        assert (OUTSIDE / name).read_text() == FILES[name]


def test_the_rooms_named_are_there() -> None:
    for path in re.findall(r"`((?:experiments|tests|lion|conf|results|scripts)/[\w./]*)`", TEXT):
        assert (ROOT / path).exists(), path


def test_pairs_of_texts_can_be_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = WordTokenizer(["one", "two", "eins", "zwei"])
    monkeypatch.setattr("experiments.data.tokenizer.open_tokenizer", lambda *_: tokenizer)
    made: dict[str, Any] = {}
    exec(FILES["my_pairs.py"], made)
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.en").write_text("one\u2028two\r\ntwo\n", "utf-8", newline="")
        (tmp_path / f"{split}.de").write_text("eins zwei\nzwei\n")
    data = made["parallel"](tmp_path, "words.model", "")
    inputs, is_real, answers = data.batch(data.exams[1].pairs, [0, 1])
    assert [tokenizer.decode(row.tolist()) for row in inputs] == ["one two", "two"]
    assert is_real.tolist() == [[True] * 3, [True, True, False]]
    assert answers.tolist() == [[5, 6, 1], [6, 1, -100]]
    (tmp_path / "train.de").write_text("eins zwei\n")
    with pytest.raises(UserError, match="2 inputs, but 1 answers: give each input its own"):
        made["parallel"](tmp_path, "words.model", "")
