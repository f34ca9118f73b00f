"""The SLURM launcher: what it submits, and what a task does when it is told to leave.

The whole cycle on a real SLURM is `scripts/slurm_smoke.sh`; LION_TEST_SLURM=1 runs it here.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import swept

from experiments.config import ConfigError, UserError
from experiments.sweep import slurm

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
        gpus_per_task=2, mem_gb=1.5, setup=["module load cuda"],
        extra={"qos": "idle", "reservation": None, "exclusive": False},
    )  # fmt: skip
    script = (cluster / "script.sh").read_text()
    for line in (
        *("--array=0-2%3", "--partition=low", "--time=33", "--signal=USR2@44", "--requeue"),
        *("--gpus-per-task=2", "--mem=1536M", "--qos=idle", "--cpus-per-task=2"),
    ):
        assert f"#SBATCH {line}\n" in script, line
    assert "module load cuda" in script and f"export PYTHONPATH={ROOT}$" in script
    assert "reservation" not in script and "exclusive" not in script
    assert script.index("module load") < script.index("export PYTHONPATH")  # which it may set
    assert code == 1 and "3 cells are not done and no job is left" in capsys.readouterr().out
    assert slurm.launch(sweep.path, wait=False) == 0


def test_what_slurm_refuses_is_one_line(cluster: Path, capsys: Any) -> None:
    sbatch = cluster / "bin" / "sbatch"
    sweep = swept.sweep(cluster, swept.cells(cluster, 2))
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2; exit 1\n")
    with pytest.raises(UserError, match="^SLURM refuses the job: invalid partition$"):
        slurm.launch(sweep.path, partition="nix")
    sbatch.write_text("#!/bin/sh\necho 'Invalid job array specification' >&2; exit 1\n")
    with pytest.raises(UserError, match="refuses .*: lower launcher.num_workers .*MaxArraySize"):
        slurm.launch(sweep.path)
    assert capsys.readouterr() == ("", "")


def test_what_no_task_could_train_is_refused_before_it_is_sent(cluster: Path) -> None:
    sweep = swept.sweep(cluster, swept.cells(cluster, 2))
    with pytest.raises(ConfigError, match="told to save before it trains; set .*timeout_min=4 or"):
        slurm.launch(sweep.path, timeout_min=3, signal_delay_s=120)
    manifest = sweep.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("tiny-lion-s0-", "tiny-lion-s0-0"))
    with pytest.raises(ConfigError, match="was planned by another version, or changed"):
        slurm.launch(sweep.path)
    assert not (cluster / "script.sh").exists()


def test_a_job_that_is_sent_from_another_inherits_nothing_of_it(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a lone job submitit would take the number for that of the array it was sent from."""
    line = f"#!/bin/sh\nenv >{cluster}/environment; echo Submitted batch job 77\n"
    (cluster / "bin" / "sbatch").write_text(line)
    inherited = {"SLURM_JOB_ID": "5", "SLURM_ARRAY_JOB_ID": "5", "SLURM_MEM_PER_CPU": "9"}
    for name, value in {**inherited, "SLURM_CONF": "kept", "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    sweep = swept.sweep(cluster, swept.cells(cluster, 1))
    assert slurm.launch(sweep.path, wait=False) == 0
    names = {line.partition("=")[0] for line in (cluster / "environment").read_text().split()}
    assert not names & {*inherited, "RANK", "WORLD_SIZE"} and "SLURM_CONF" in names


def test_nobody_waits_for_tasks_that_would_find_nothing_to_do(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy cluster may start the last of them tomorrow."""
    for name, line in (("squeue", "echo PENDING"), ("scancel", f"echo $* >{cluster}/cancelled")):
        (cluster / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (cluster / "bin" / name).chmod(0o755)
    sweep = swept.sweep(cluster, swept.cells(cluster, 1, **SHORT))
    assert swept.work(sweep.path) == 0
    assert slurm._watch(sweep, ["77", "78"], 8, cluster) == 0
    assert (cluster / "cancelled").read_text() == "--state=PENDING 77 78\n"


def test_tasks_of_an_earlier_call_are_not_sent_again(cluster: Path, capsys: Any) -> None:
    """Whoever looks again (Ctrl-C lets the jobs go on) does not want twice as many."""
    sweep = swept.sweep(cluster, swept.cells(cluster, 3))
    script, squeue = cluster / "script.sh", cluster / "bin" / "squeue"
    assert slurm.launch(sweep.path, num_workers=2, wait=False) == 0
    script.unlink()
    asked = f'echo "$*" >>{cluster}/squeue\n'
    squeue.write_text(f"#!/bin/sh\n{asked}echo PENDING Priority; echo RUNNING None\n")
    assert slurm.launch(sweep.path, num_workers=2, wait=False) == 0
    said = capsys.readouterr().out
    assert "2 tasks of this sweep wait or run already: job array 77." in said
    assert "scancel 77, and this command again" in said and not script.exists()
    assert f"--jobs=77 --name=sweep-{sweep.name}" in (cluster / "squeue").read_text()

    assert slurm.launch(sweep.path, num_workers=8, wait=False) == 0  # more are wanted: one lacks
    assert "#SBATCH --array" not in script.read_text()
    script.unlink()
    squeue.write_text("#!/bin/sh\necho COMPLETING None\n")  # cancelled, they still save
    assert slurm.launch(sweep.path, num_workers=2, wait=False) == 0
    assert "#SBATCH --array=0-1%2\n" in script.read_text()


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
@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING"])
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

        pid = 0
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


def test_a_worker_that_is_killed_is_followed_by_another(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one too little memory a task, and no task is left for the other cells."""
    sweep = swept.sweep(cluster, swept.cells(cluster, 1, train__epochs=10.0))
    (cell,) = sweep.cells
    process = task(sweep.path, monkeypatch, cluster / "requeued")
    status = forked.wait_for(lambda: sweep.folder(cell).read_status())
    os.kill(status["pid"], signal.SIGKILL)
    assert forked.join(process) == 0 and not (cluster / "requeued").exists()
    assert swept.outcomes(sweep)[cell.run_id] == ["killed", "finished"]


@pytest.mark.parametrize(
    ("codes", "num_started"), [([-9, -9, -9], 3), ([2], 1), ([1, 75, 0], 3), ([-15], 1)]
)
def test_workers_that_die_before_they_take_a_cell_are_given_up(
    cluster: Path,
    monkeypatch: pytest.MonkeyPatch,
    listening_as_a_task: Path,
    codes: list[int],
    num_started: int,
) -> None:
    sweep = swept.sweep(cluster, swept.cells(cluster, 1))
    left = iter(codes)
    started: list[int] = []

    def start(_: slurm.Task) -> Any:
        started.append(next(left))
        return types.SimpleNamespace(pid=0, poll=lambda: started[-1])

    monkeypatch.setattr(slurm.Task, "_start", start)
    assert slurm.Task(sweep.path, 1)(0) == codes[-1] and len(started) == num_started
    assert listening_as_a_task.exists() == (codes[-1] == -signal.SIGTERM)


def test_a_worker_has_the_cores_of_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM may bind nobody to them; what the user has set stands."""
    given: list[dict[str, str]] = []
    monkeypatch.setattr(slurm.subprocess, "Popen", lambda _, env: given.append(env))
    for threads in (6, None):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if threads is None:
            monkeypatch.setenv("OMP_NUM_THREADS", "1")
        slurm.Task(Path("x"), 1, threads=6)._start()
    assert [env["OMP_NUM_THREADS"] for env in given] == ["6", "1"]


def test_a_requeued_task_is_the_same_task(tmp_path: Path) -> None:
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
