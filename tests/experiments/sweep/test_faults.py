"""Whatever happens to workers, their parent or the disk: each cell is done once, no row lost.

The ledgers are compared, row by row, with those of runs that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import swept

from experiments.sweep import local, worker
from experiments.sweep.manifest import Sweep
from experiments.table import read_runs

NUM_CELLS = 8
SETTINGS: dict[str, Any] = {"max_tries": 50}
RUN: dict[str, Any] = {"train__epochs": 6.0}

Reference = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The ledgers of the same cells, trained by one worker that nothing happens to."""
    root = tmp_path_factory.mktemp("calm")
    sweep = swept.sweep(root, swept.cells(root, NUM_CELLS, **RUN))
    assert swept.work(sweep.path) == 0
    calm = {cell.run_id: swept.rows(sweep, cell) for cell in sweep.cells}
    swept.check_whole(sweep, calm)
    return calm


def check(sweep: Sweep, reference: Reference, once: bool = True, killed: bool = False) -> None:
    swept.check_whole(sweep, reference, once, killed)
    table = read_runs(sweep.manifest["runs_dir"])
    assert table.run_id.nunique() == NUM_CELLS


def is_over(sweep: Sweep) -> bool:
    return set(sweep.states().values()) == {"finished"}


def kill(pid: int | None) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid or 0, signal.SIGKILL)


def test_workers_that_are_killed_at_random_moments(tmp_path: Path, reference: Reference) -> None:
    chance = random.Random(7)
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, NUM_CELLS, **RUN), **SETTINGS)
    workers = [swept.start(sweep.path) for _ in range(2)]
    for num_kills in range(5):
        forked.wait_for(lambda: {*sweep.states().values()} & {"running"} or is_over(sweep))
        if is_over(sweep):
            break
        time.sleep(chance.uniform(0.0, 0.2))  # the moment; nothing is waited for
        number = num_kills % len(workers)
        kill(workers[number].pid)
        workers[number].join()
        workers[number] = swept.start(sweep.path)
    assert [forked.join(process) for process in workers] == [0, 0]
    assert sum(None in of for of in swept.outcomes(sweep).values()) >= 1, "nobody died at work"
    check(sweep, reference, killed=True)


def test_the_parent_is_killed_and_called_again(
    tmp_path: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, NUM_CELLS, **RUN), **SETTINGS)
    for taken in (1, 3, 6):
        parent = launched(sweep.path, monkeypatch)
        forked.wait_for(lambda: sum(map(len, swept.outcomes(sweep).values())) >= taken)  # noqa: B023
        kill(parent.pid)
        parent.join()
    assert forked.join(launched(sweep.path, monkeypatch)) == 0
    check(sweep, reference, killed=True)


def launched(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The local launcher in a process of its own, with two workers."""

    def work() -> None:
        os.setsid()
        context = forked.Context()
        monkeypatch.setattr(local.multiprocessing, "get_context", lambda _: context)
        os._exit(local.launch(path, num_workers=2, threads=1))

    process = forked._fork.Process(target=work)
    process.start()
    return process


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(folder: Path) -> Path:
    """Writes until nothing fits any more."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 12))
    return ballast


def test_a_disk_that_is_full_for_a_while(
    small_disk: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, is_full_disk = forked._fork.Value("i", 0), worker.is_full_disk

    def counted(error: BaseException) -> bool:
        refused.value += 1
        return is_full_disk(error)

    monkeypatch.setattr(worker, "is_full_disk", counted)
    cells = swept.cells(small_disk, NUM_CELLS, **RUN)
    sweep = swept.sweep(small_disk, cells, max_tries=1)
    workers = [swept.start(sweep.path) for _ in range(2)]
    forked.wait_for(lambda: "finished" in sweep.states().values())
    ballast = fill(small_disk)
    forked.wait_for(lambda: refused.value)
    done_when_full = list(sweep.states().values()).count("finished")
    assert done_when_full < NUM_CELLS
    ballast.unlink()
    assert [forked.join(process) for process in workers] == [0, 0]
    assert not {"failed"} & set(sweep.states().values()), "a full disk is nobody's failure"
    check(sweep, reference, once=False)


def test_a_paused_worker_that_wakes_up_leaves_the_cell_to_its_new_holder(
    tmp_path: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system without locks between machines: only the lease tells."""
    from experiments.store import Folder

    monkeypatch.setattr(Folder, "locked", lambda self: contextlib.nullcontext(self._made()))
    monkeypatch.setattr(Folder, "_made", lambda s: s.path.mkdir(parents=True, exist_ok=True),
                        raising=False)  # fmt: skip
    monkeypatch.setattr(Folder, "is_held", lambda self: False)
    cells = swept.cells(tmp_path, NUM_CELLS, **RUN)
    sweep = swept.sweep(tmp_path, cells, max_tries=50, lease_seconds=1.0)
    first = swept.start(sweep.path)
    forked.wait_for(lambda: list(tmp_path.glob("runs/*/metrics.jsonl")))
    assert first.pid
    os.kill(first.pid, signal.SIGSTOP)
    second = swept.start(sweep.path)
    forked.wait_for(lambda: max(map(len, swept.outcomes(sweep).values())) > 1)
    os.kill(first.pid, signal.SIGCONT)
    assert (forked.join(first), forked.join(second)) == (75, 0)
    check(sweep, reference)
