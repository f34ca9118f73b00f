"""`scripts/slurm_train.sh` with commands that look like SLURM's: what it starts and requeues."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "scontrol": 'case "$1" in show) echo first;; --oneliner) cat job;; *) echo "$*" >>asked; esac',
    "srun": 'echo "$*" >srun; env >environment; SLURM_PROCID=1 SLURM_LOCALID=1 SLURM_NTASKS=4 '
    'SLURM_STEP_TASKS_PER_NODE="2(x2)" "${@:4}"; exit $(cat code)',
    "python": 'echo "$RANK of $WORLD_SIZE, $LOCAL_RANK of $LOCAL_WORLD_SIZE: $*" >process',
}


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder with SLURM's commands, which write down how they were called."""
    (tmp_path / "bin").mkdir()
    for name, line in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def train(cluster: Path, code: int = 0, state: str = "RUNNING") -> int:
    (cluster / "code").write_text(str(code))
    (cluster / "job").write_text(f"JobId=77 JobState={state} Reason=None")
    mine = {"PATH": f"{cluster}/bin:{os.environ['PATH']}", "PYTHON": f"{cluster}/bin/python"}
    mine |= {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_CPUS_PER_TASK": "6"}
    command = [str(ROOT / "scripts" / "slurm_train.sh"), "experiment=vit_proxy", "a=b c"]
    return subprocess.run(command, cwd=cluster, env={**os.environ, **mine}).returncode


def test_each_process_knows_its_place_and_has_its_cores(cluster: Path) -> None:
    assert train(cluster) == 0 and not (cluster / "asked").exists()
    said = "1 of 4, 1 of 2: run.py experiment=vit_proxy a=b c\n"
    assert (cluster / "process").read_text() == said
    given = (cluster / "environment").read_text().splitlines()
    assert {"MASTER_ADDR=first", "MASTER_PORT=20077", "SRUN_CPUS_PER_TASK=6"} <= set(given)
    options = (cluster / "srun").read_text()
    assert "--kill-on-bad-exit=0 --wait=" in options  # all may save; a dead one ends the others


@pytest.mark.parametrize(
    ("code", "state", "comes_back"),
    [(143, "RUNNING", True), (143, "COMPLETING", False), (137, "RUNNING", False)],
)
def test_only_a_run_that_was_told_and_has_saved_is_queued_again(
    cluster: Path, code: int, state: str, comes_back: bool
) -> None:
    assert train(cluster, code, state) == code
    asked = (cluster / "asked").read_text() if (cluster / "asked").exists() else ""
    assert asked == ("requeue 77\n" if comes_back else "")
