"""scripts/landscape.py from the outside."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import tiny

from experiments import runner

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def script() -> ModuleType:
    path = ROOT / "scripts" / "landscape.py"
    spec = importlib.util.spec_from_file_location("landscape_script", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_named_runs_are_measured_and_tabled(script, monkeypatch, tmp_path: Path, capsys) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    names = [
        runner.run(tiny.config(runs, seed=seed, train__epochs=1.0)).run_id for seed in (0, 1, 2)
    ]
    words = ["landscape.num_draws=4", "landscape.sigmas=[0.01]", "landscape.relative_scales=[]"]
    words += ["landscape.num_examples=32", "landscape.batch_size=32"]
    words += ["landscape.hessian_examples=16", "launch.progress=false"]
    where = ["--runs-dir", str(runs), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["landscape.py", *names[:2], *words, *where])
    assert script.main() == 0
    noise = pd.read_csv(out / "noise.csv")
    assert sorted(noise.run_id.unique()) == sorted(names[:2])
    assert noise.scale.tolist() == [0.0, 0.01, 0.0, 0.01]
    assert pd.read_csv(out / "hessian.csv").seed.tolist() == [0, 1]
    first = (out / "noise.csv").read_bytes()
    monkeypatch.setattr(sys, "argv", ["landscape.py", *where])
    assert script.main() == 0  # only collects
    assert (out / "noise.csv").read_bytes() == first
    monkeypatch.chdir(tmp_path)
    study = (
        tmp_path / "results/studies" / pd.read_csv(out / "noise.csv").experiment[0] / "landscape"
    )
    study.mkdir(parents=True)
    (study / "noise.csv").write_bytes(first.replace(names[0].encode(), b"a-run-of-a-study"))
    monkeypatch.setattr(sys, "argv", ["landscape.py", "--runs-dir", str(runs)])
    assert script.main() == 2
    assert "has 1 other runs, which would be lost: name another" in capsys.readouterr().err


def test_mistakes_cost_a_line(script, monkeypatch, tmp_path: Path, capsys) -> None:
    for words in ([], ["no-such-run"], ["no-such-run", "optimizer.lr=1"]):
        where = ["--runs-dir", str(tmp_path), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["landscape.py", *words, *where])
        assert script.main() == 2
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()
