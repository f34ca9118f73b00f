"""scripts/step_sizes.py: every run that is wanted is called by its command, then tabled."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import tiny

from experiments import runner
from experiments.analysis import step_sizes
from scripts import step_sizes as script


def test_runs_are_called_and_their_looks_are_tabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"train__epochs": None, "train__steps": 12, "tracking__telemetry_every_steps": 2}
    run = runner.run(tiny.config(tmp_path / "runs", **words))
    row = {"run_id": run.run_id, "steps": 12, "command": "python run.py experiment=x 'a=[1, 2]'"}
    monkeypatch.setattr(step_sizes, "wanted", lambda: pd.DataFrame([row]))
    calls, codes = [], [0, 130]

    def call(command: list[str], **_: object) -> SimpleNamespace:
        calls.append(command[1:])
        return SimpleNamespace(returncode=codes[len(calls) - 1])

    monkeypatch.setattr(subprocess, "run", call)
    where = ["--runs-dir", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert script.main(where) == 0
    assert calls[0][:3] == ["run.py", "experiment=x", "a=[1, 2]"]
    assert calls[0][3] == f"results_dir={(tmp_path / 'runs').resolve()}"
    (path,) = (tmp_path / "out").glob("*/step_sizes/sizes.csv")
    written = pd.read_csv(path)
    assert set(written.run_id) == {run.run_id} and set(written.steps) == {12}
    assert written.commit.notna().all() and written.step_over_lr.between(0.8, 1.2).all()
    path.unlink()
    assert script.main(where) == 130, "stopped: nothing is written of what is not whole"
    assert not path.exists()
