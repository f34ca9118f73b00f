"""The SLURM launcher: what it submits, and what a task does when it is told to leave.

The whole cycle on a real SLURM is `scripts/slurm_smoke.sh`; LION_TEST_SLURM=1 runs it here.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import swept

from experiments.config import UserError
from experiments.sweep import slurm, worker

submitit = pytest.importorskip("submitit")
ROOT = Path(__file__).resolve().parent.parent.parent.parent
SHORT: dict[str, Any] = {"train__epochs": 1.0}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that look like SLURM's: sbatch accepts and keeps the script, nothing runs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    answers = {
        "sbatch": f'cp "$1" {tmp_path}/script.sh; echo "Submitted batch job 77"',
        "srun": "true",
        "squeue": "true",
        "scontrol": f'echo "scontrol $*" >>{tmp_path}/asked; cat {tmp_path}/job',
    }
    for name, line in answers.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod((programs / name).stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (tmp_path / "job").write_text("JobId=77 JobState=RUNNING")
    return tmp_path


@pytest.fixture
def listening_as_a_task(tmp_path: Path) -> Iterator[Path]:
    """The handlers of a task of submitit; it leaves a file when it requeues."""
    numbers = (signal.SIGUSR2, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGUSR2, lambda *_: (tmp_path / "requeued").touch())
    yield tmp_path / "requeued"
    for number, handler in before.items():
        signal.signal(number, handler)


def test_without_slurm_the_other_launcher_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 1))
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda _: -1))
    with pytest.raises(UserError, match="there is no SLURM here .no srun.; use launcher=local"):
        slurm.launch(sweep.path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match="pip install 'submitit"):
        slurm.launch(sweep.path)


def test_the_job_array_has_a_task_per_worker_and_can_be_requeued(
    cluster: Path, capsys: Any
) -> None:
    sweep = swept.sweep(cluster, swept.cells(cluster, 3))
    code = slurm.launch(
        sweep.path, num_workers=8, partition="low", timeout_min=33, signal_delay_s=44,
        gpus_per_task=2, mem_gb=1.5, setup=["module load cuda"], extra={"qos": "idle"},
    )  # fmt: skip
    script = (cluster / "script.sh").read_text()
    for line in (
        *("--array=0-2%3", "--partition=low", "--time=33", "--signal=USR2@44", "--requeue"),
        *("--gpus-per-task=2", "--mem=1536M", "--qos=idle", "--cpus-per-task=2"),
    ):
        assert f"#SBATCH {line}\n" in script, line
    assert "module load cuda" in script and f'PYTHONPATH="{ROOT}:' in script
    assert code == 1 and "3 cells are not done and no job is left" in capsys.readouterr().out
    assert slurm.launch(sweep.path, wait=False) == 0


def test_what_slurm_refuses_is_one_line(cluster: Path) -> None:
    (cluster / "bin" / "sbatch").write_text("#!/bin/sh\necho 'invalid partition' >&2; exit 1\n")
    sweep = swept.sweep(cluster, swept.cells(cluster, 1))
    with pytest.raises(UserError, match="SLURM refuses the job: .*invalid partition"):
        slurm.launch(sweep.path, partition="nix")


def task(path: Path, monkeypatch: pytest.MonkeyPatch, requeued: Path) -> Any:
    """A task as submitit starts it, with a forked worker; it leaves a file when it requeues."""

    class Forked:
        """What Popen gives, but forking."""

        def __init__(self) -> None:
            self.process = swept.start(path, wait=False)
            self.pid = self.process.pid

        def poll(self) -> int | None:
            self.process.join(0)
            return self.process.exitcode

        def terminate(self) -> None:
            self.process.terminate()

    monkeypatch.setattr(slurm.Task, "_start", lambda self: Forked())

    def work() -> None:
        signal.signal(signal.SIGUSR2, lambda *_: requeued.touch())
        os._exit(slurm.Task(path, 1)(0))

    process = forked._fork.Process(target=work)
    process.start()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
@pytest.mark.parametrize("state", ["RUNNING", "CANCELLED by 0"])
def test_a_task_that_is_told_saves_and_queues_itself_again_unless_cancelled(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, state: str
) -> None:
    (cluster / "job").write_text(f"JobId=77 JobState={state} Reason=None")
    cells = swept.cells(cluster, 1, train__epochs=200.0, eval__every_epochs=None)
    sweep = swept.sweep(cluster, cells)
    process = task(sweep.path, monkeypatch, cluster / "requeued")
    forked.wait_for(lambda: (m := sweep.folder(cells[0]).metrics).exists() and m.stat().st_size)
    os.kill(process.pid, number)
    assert forked.join(process) == 143
    assert sweep.checkpoint_step(cells[0]) > 0
    assert swept.outcomes(sweep)[cells[0].run_id] == ["interrupted"]
    assert (cluster / "requeued").exists() == (state == "RUNNING")


def test_a_task_that_is_told_while_its_worker_starts_tells_it_too(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, listening_as_a_task: Path
) -> None:
    class Deaf:
        """A worker that nobody could tell yet."""

        code: int | None = None
        num_looks = 0

        def poll(self) -> int | None:
            self.num_looks += 1
            assert self.num_looks < 9, "nobody tells it to stop"
            return self.code

        def terminate(self) -> None:
            self.code = -signal.SIGTERM

    def start(_: slurm.Task) -> Any:
        signal.raise_signal(signal.SIGUSR2)
        return Deaf()

    monkeypatch.setattr(slurm.Task, "_start", start)
    assert slurm.Task(cluster, 1)(0) == -signal.SIGTERM
    assert listening_as_a_task.exists()


def test_a_task_whose_worker_has_done_all_is_not_queued_again(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = swept.sweep(cluster, swept.cells(cluster, 2, **SHORT))
    process = task(sweep.path, monkeypatch, cluster / "requeued")
    assert forked.join(process) == 0 and not (cluster / "requeued").exists()
    assert set(sweep.states().values()) == {"finished"}


def test_a_requeued_task_is_the_same_task(tmp_path: Path) -> None:
    assert slurm._WORKER_LOST == worker.LOST
    delayed = slurm.Task(tmp_path, 3).checkpoint(5)
    assert (delayed.function.path, delayed.function.max_group) == (tmp_path, 3)
    assert delayed.args == (5,)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("LION_TEST_SLURM") != "1", reason="LION_TEST_SLURM=1 runs it")
@pytest.mark.timeout(600)
def test_a_real_slurm_preempts_one_of_six_cells_and_all_finish() -> None:
    command = [str(ROOT / "scripts" / "slurm_smoke.sh")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED: 6 of 6 cells finished" in done.stdout
