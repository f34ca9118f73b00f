"""The files that CONTRIBUTING.md shows work as they stand, from outside the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from experiments.table import read_runs

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_everything_can_be_added_from_outside(tmp_path: Path) -> None:
    files = re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)```", TEXT, flags=re.S | re.M)
    assert len(files) == 5
    for name, content in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (command,) = re.findall(
        r"^PYTHONPATH=\. python /path/to/this/repository/(.*)$", TEXT, flags=re.M
    )
    script, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments, "launch.device=cpu"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    runs = read_runs(tmp_path / "results/runs")
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
    assert not (ROOT / "results/runs" / runs.run_id.iloc[0]).exists()


def test_the_rooms_named_are_there() -> None:
    for path in re.findall(r"`((?:experiments|tests|lion|conf|results|scripts)/[\w./]*)`", TEXT):
        assert (ROOT / path).exists() or path == "experiments/models/", path
