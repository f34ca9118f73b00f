"""A worker does every cell that can be done, once; no cell takes another with it."""

from __future__ import annotations

import os
import signal
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import forked
import pytest
import swept
import tiny

from experiments import launch, recorder
from experiments.config import RunConfig, to_dict
from experiments.store import Folder, read_json, read_rows
from experiments.sweep import manifest, picking, pool, signals, worker
from experiments.sweep.manifest import Cell
from experiments.sweep.picking import Picker
from experiments.sweep.pool import Finished

pytestmark = pytest.mark.usefixtures("signals_as_in_a_terminal")

SHORT: dict[str, Any] = {"train__epochs": 1.0}
LONG: dict[str, Any] = {"train__epochs": 200.0, "eval__every_epochs": None}


def wild(root: Path) -> Cell:
    optimizer = {"_target_": "torch.optim.SGD", "lr": 1e30}
    config = tiny.config(
        root / "runs", seed=8, optimizer=optimizer, schedule={}, train__grad_clip_norm=None
    )
    return swept.cell_of(config)


def wrong(root: Path) -> Cell:
    return swept.cell_of(tiny.config(root / "runs", seed=7, model__widht=3))


def test_finished_and_diverged_cells_are_never_repeated(tmp_path: Path) -> None:
    cells = [*swept.cells(tmp_path, 3, **SHORT), wild(tmp_path)]
    sweep = swept.sweep(tmp_path, cells)
    assert swept.work(sweep.path) == 0
    assert list(sweep.states().values()) == ["finished"] * 3 + ["diverged"]
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert swept.work(sweep.path) == 0
    assert files == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


def test_a_cell_that_this_version_would_train_as_another_run_counts_as_no_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever starts a worker of the right version next finds all tries left."""
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 1, **SHORT))
    assert not sweep.leases.folder.exists()  # reading writes nothing
    assert list(sweep.states().values()) == ["waiting"] and not sweep.leases.folder.exists()
    file = sweep.path / "manifest.json"
    planned = file.read_text()
    file.write_text(planned.replace(sweep.cells[0].run_id, "another-run"))
    assert worker.main([str(sweep.path)]) == 2
    assert "was planned by another version" in capsys.readouterr().err
    assert [lease.outcome for lease in sweep.leases.of("another-run")] == ["interrupted"]


def test_a_signal_in_the_last_step_of_a_run_is_heard_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That run has nothing left to stop; the rest of the sweep has."""
    monkeypatch.setattr(recorder.Recorder, "end", told_while(recorder.Recorder.end))
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 3, **SHORT))
    assert swept.work(sweep.path) == 128 + signal.SIGTERM
    assert list(sweep.states().values()) == ["finished", "waiting", "waiting"]


def told_while(end: Any) -> Any:
    """`end`, in a process that is told to stop at its beginning."""

    def told(*arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return end(*arguments, **named)

    return told


def test_a_failing_cell_is_tried_again_as_often_as_stated_and_harms_no_other(
    tmp_path: Path,
) -> None:
    cells = [wrong(tmp_path), *swept.cells(tmp_path, 2, **SHORT)]
    sweep = swept.sweep(tmp_path, cells, max_tries=2)
    assert swept.work(sweep.path) == 0
    assert list(sweep.states().values()) == ["failed", "finished", "finished"]
    leases = sweep.leases.of(cells[0].run_id)
    assert [lease.outcome for lease in leases] == ["failed", "failed"]
    message = leases[1].facts["message"]
    assert message.startswith("ConfigError: model.widht: no such argument")
    assert message.endswith(f"{sweep.cure} tries again)") and "--retry-failed" in sweep.cure
    sweep.leases.forgive(cells[0].run_id)
    assert sweep.states()[cells[0].run_id] == "interrupted"
    assert swept.work(sweep.path) == 0
    assert [lease.outcome for lease in sweep.leases.of(cells[0].run_id)] == [
        "failed", "failed", "forgiven", "failed", "failed"
    ]  # fmt: skip


def test_a_cell_that_kills_its_workers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later than one that fails, for who kills it is not known; and the cure is said."""
    monkeypatch.setenv(tiny.KILL_VARIABLE, "2")
    monkeypatch.setattr(manifest, "MAX_KILLS", 3)
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 1, **SHORT), max_tries=1)
    assert [swept.work(sweep.path) for _ in range(4)] == [*[-signal.SIGKILL] * 3, 0]
    assert list(sweep.states().values()) == ["failed"]
    (cell,) = sweep.cells
    last = sweep.leases.of(cell.run_id)[-1]
    assert "times in vain; python scripts/sweep.py resume" in last.facts["message"]
    assert last.facts["message"].endswith("trial --retry-failed tries again")
    sweep.leases.forgive(cell.run_id)
    monkeypatch.delenv(tiny.KILL_VARIABLE)
    assert swept.work(sweep.path) == 0 and list(sweep.states().values()) == ["finished"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2])
def test_a_signal_saves_and_the_next_worker_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 1, **LONG, checkpoint__every_steps=None))
    process = swept.start(sweep.path)
    (cell,) = sweep.cells
    forked.wait_for(lambda: read_rows(sweep.folder(cell).metrics))
    assert process.pid
    os.kill(process.pid, number)
    told = signal.SIGTERM if number == signal.SIGUSR2 else number
    assert forked.join(process) == 128 + told
    assert sweep.checkpoint_step(cell) > 0
    assert swept.outcomes(sweep)[cell.run_id] == ["interrupted"]
    assert sweep.states()[cell.run_id] == "interrupted"


def test_a_signal_while_a_run_is_built_ends_the_worker_and_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "run_one", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 2, **SHORT))
    assert swept.work(sweep.path) == 128 + signal.SIGTERM
    assert list(swept.outcomes(sweep).values()) == [["interrupted"]]


def test_a_run_that_somebody_else_trains_is_left_alone_and_does_not_fail(tmp_path: Path) -> None:
    cells = swept.cells(tmp_path, 2, **SHORT)
    sweep = swept.sweep(tmp_path, cells, max_tries=1)
    with sweep.folder(cells[0]).locked():
        process = swept.start(sweep.path)
        forked.wait_for(lambda: sweep.states()[cells[1].run_id] == "finished")
        assert process.is_alive()
    assert forked.join(process) == 0
    assert set(sweep.states().values()) == {"finished"}
    tried = swept.outcomes(sweep)[cells[0].run_id]
    assert set(tried[:-1]) == {"busy"} and tried[-1] == "finished"


def test_without_waiting_a_worker_leaves_the_last_cells_to_their_holders(tmp_path: Path) -> None:
    cells = swept.cells(tmp_path, 2, **SHORT)
    sweep = swept.sweep(tmp_path, cells)
    assert sweep.leases.claim(cells[0].run_id, []) is not None
    assert swept.work(sweep.path, wait=False) == 0
    assert list(sweep.states().values()) == ["running", "finished"]


def test_a_worker_that_waits_for_the_last_cells_asks_soon_at_first(
    tmp_path: Path, monkeypatch: Any
) -> None:
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 1))
    other = sweep.leases.claim(sweep.cells[0].run_id, [])
    assert other is not None
    slept: list[float] = []

    def sleep(_: Any, seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:  # at once after it was seen to live
            other.release("failed")
        if len(slept) > 20:
            raise AssertionError("the cell's end was not noticed")

    monkeypatch.setattr(signals.Listener, "sleep", sleep)
    monkeypatch.setattr(worker.Worker, "_train", lambda *_: sys.exit(7))
    with pytest.raises(SystemExit):
        worker.Worker(sweep.path).work()
    assert slept == [0.25, 0.5]


def test_a_take_looks_at_no_more_cells_than_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 60))
    mine, looks = Picker(sweep, 1, 0.05), []
    monkeypatch.setattr(picking.time, "monotonic", lambda: 1000.0)  # however long it takes here
    state = manifest.Sweep.state
    monkeypatch.setattr(
        manifest.Sweep, "state", lambda self, *of: (looks.append(of), state(self, *of))[1]
    )
    taken = [mine.take()[0][0][0].run_id for _ in range(4)]
    assert taken == [cell.run_id for cell in sweep.cells[:4]]
    assert len(looks) == 4 + 3  # each new one, and once each of those that are held


def test_a_cell_that_is_trained_outside_is_left_alone_for_longer_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 1))
    mine, clock, pauses = Picker(sweep, 1, 0.5), [1000.0], []
    monkeypatch.setattr(picking.time, "monotonic", lambda: clock[0])
    left = clock[0]
    while len(pauses) < 13:
        taken, is_left = mine.take()
        assert is_left
        for cell, lease in taken:
            pauses.append(clock[0] - left)
            left = clock[0]
            lease.release("busy")
            mine.leave_alone(cell)
        clock[0] += 0.5
    assert pauses == [0, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_cell_that_ends_while_it_is_looked_at_is_not_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = swept.cells(tmp_path, 1)
    sweep = swept.sweep(tmp_path, [cell])
    lease = sweep.leases.claim(cell.run_id, [])

    def ends(*_: Any) -> bool:
        with sweep.folder(cell).locked():
            sweep.folder(cell).write_status("finished", 6, 6)
        return False

    monkeypatch.setattr(manifest.Leases, "is_live", ends)
    assert lease is not None and sweep.state(cell, [lease]) == "finished"


def test_a_worker_takes_cells_that_are_added_while_it_works(tmp_path: Path) -> None:
    cells = swept.cells(tmp_path, 3, **SHORT)
    sweep = swept.sweep(tmp_path, [cells[0]])
    held = sweep.leases.claim(cells[0].run_id, [])
    assert held is not None
    process = swept.start(sweep.path)
    swept.sweep(tmp_path, cells)
    sweep.refresh()
    forked.wait_for(lambda: sweep.states()[cells[2].run_id] == "finished")
    held.release("interrupted")
    assert forked.join(process) == 0 and set(sweep.states().values()) == {"finished"}


def test_a_signal_before_several_processes_listen_is_no_second_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is that of the session before, until they have begun."""
    config = tiny.config(tmp_path, launch__num_processes=2, **SHORT)
    folder = Folder(worker._folder_of(config))
    monkeypatch.setattr(launch, "run", lambda *_: 128 + signal.SIGTERM)
    with folder.locked():
        folder.write_status("failed", 0, 6, message="of the first try")
    assert worker.run_one(config) == Finished(0, "interrupted")
    with folder.locked():  # told in the last step
        folder.write_status("finished", 6, 6)
    assert worker.run_one(config) == Finished(0, "finished")


def test_a_cell_of_several_processes_runs_inside_a_sweep(tmp_path: Path, monkeypatch: Any) -> None:
    """The processes themselves are tested in test_launch; here they are forked."""

    def run_forked(config: RunConfig, _: list[str]) -> int:
        seen.append(config.launch.num_processes)
        return max(forked.run_ranks(config, config.launch.num_processes))

    seen: list[int] = []
    monkeypatch.setattr(launch, "run", run_forked)
    single, pair = (
        tiny.config(tmp_path / name, launch__num_processes=n, **SHORT)
        for name, n in (("single", 1), ("pair", 2))
    )
    assert worker.run_one(pair) == Finished(0, "finished", "")
    assert seen == [2]
    assert forked.run(single) == 0
    ours, theirs = forked.rows(pair), forked.rows(single)
    assert [r["step"] for r in ours] == [r["step"] for r in theirs]


def test_a_failing_cell_of_several_processes_says_why(tmp_path: Path, monkeypatch: Any) -> None:
    config = tiny.config(tmp_path, launch__num_processes=2)
    monkeypatch.setattr(launch, "run", lambda *_: 2)
    assert worker.run_one(config) == Finished(0, "failed", "its processes ended with exit code 2")
    monkeypatch.setattr(launch, "run", lambda *_: 143)
    assert worker.run_one(config).state == "interrupted"


class Together(types.ModuleType):
    """A stand-in for vectorised training: groups by batch size, notes what it was given."""

    def __init__(self, log: Path) -> None:
        super().__init__("experiments.sweep.vectorised")
        self.log = log

    def groups(self, configs: Sequence[RunConfig]) -> list[list[int]]:
        found: dict[int, list[int]] = {}
        for index, config in enumerate(configs):
            found.setdefault(config.train.batch_size, []).append(index)
        return list(found.values())

    def run_group(self, configs: Sequence[RunConfig], on_change: Any = None) -> list[Finished]:
        with self.log.open("a") as file:
            file.write(f"{len(configs)}\n")
        ended = [worker.run_one(config).state for config in configs[:-1]]
        last = Finished(len(configs) - 1, "failed", "a member that fails")
        return [*(Finished(i, state) for i, state in enumerate(ended)), last]


def test_cells_are_trained_together_in_groups(tmp_path: Path, monkeypatch: Any) -> None:
    together = Together(tmp_path / "log")
    monkeypatch.setitem(sys.modules, "experiments.sweep.vectorised", together)
    monkeypatch.setattr("experiments.sweep.vectorised", together, raising=False)
    cells = [*swept.cells(tmp_path, 5, **SHORT)]
    cells += swept.cells(tmp_path, 1, **SHORT, train__batch_size=32)
    sweep = swept.sweep(tmp_path, cells, max_tries=2)
    assert swept.work(sweep.path, max_group=3) == 0
    sizes = [int(line) for line in together.log.read_text().split()]
    assert sizes[0] == 3 and max(sizes) == 3
    assert set(sweep.states().values()) == {"finished"}
    states = [o for of in swept.outcomes(sweep).values() for o in of]
    assert states.count("finished") == 6 and "failed" in states


def test_what_died_in_a_group_is_tried_alone(tmp_path: Path, monkeypatch: Any) -> None:
    """One cell's crash must not cost its companions their tries."""
    together = Together(tmp_path / "log")
    together.run_group = lambda configs, on_change=None: os._exit(9)  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "experiments.sweep.vectorised", together)
    monkeypatch.setattr("experiments.sweep.vectorised", together, raising=False)
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 3, **SHORT), max_tries=1)
    assert swept.work(sweep.path, max_group=3) == 9
    assert set(sweep.states().values()) == {"retry"}
    assert [of[0].facts["together"] for of in sweep.leases.scan().values()] == [3, 3, 3]
    assert swept.work(sweep.path, max_group=3) == 0
    assert set(sweep.states().values()) == {"finished"}


def test_a_group_that_breaks_down_costs_no_cell_a_try(tmp_path: Path, monkeypatch: Any) -> None:
    """Memory for one may not do for all of them: each is then tried alone."""
    together = Together(tmp_path / "log")
    together.run_group = lambda configs, on_change=None: 1 / 0  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "experiments.sweep.vectorised", together)
    monkeypatch.setattr("experiments.sweep.vectorised", together, raising=False)
    cells = swept.cells(tmp_path, 2, **SHORT)
    cells += swept.cells(tmp_path, 1, **SHORT, train__batch_size=32)
    cells.append(wrong(tmp_path))
    sweep = swept.sweep(tmp_path, cells, max_tries=1)
    assert swept.work(sweep.path, max_group=4) == 0
    assert list(sweep.states().values()) == [*["finished"] * 3, "failed"]
    told = [swept.outcomes(sweep)[cell.run_id] for cell in cells]
    assert told == [*[["killed", "finished"]] * 2, ["finished"], ["killed", "failed"]]


def test_what_a_full_disk_looks_like(tmp_path: Path) -> None:
    from experiments.checkpoint import CheckpointError

    full, other = OSError(28, "No space left on device"), PermissionError(13, "denied")
    assert worker.is_full_disk(full) and not worker.is_full_disk(other)
    for cause, expected in ((full, True), (RuntimeError("write failed"), True), (other, False)):
        try:
            raise CheckpointError("cannot save") from cause
        except CheckpointError as error:
            assert worker.is_full_disk(error) is expected


def test_the_command_line_names_a_missing_sweep(tmp_path: Path, capsys: Any) -> None:
    assert worker.main([str(tmp_path / "nothing")]) == 2
    assert "nothing: no sweep there" in capsys.readouterr().err


def test_cells_in_the_manifest_are_the_configurations_themselves(tmp_path: Path) -> None:
    (cell,) = swept.cells(tmp_path, 1)
    sweep = swept.sweep(tmp_path, [cell])
    config = sweep.config(cell)
    assert to_dict(config)["train"] == cell.config["train"] and not config.launch.progress
    assert read_json(Folder(tmp_path).status) == {} and pool.MAX_TRIES == 2
