"""A cell has one holder at a time, whoever dies, sleeps or wakes up."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest

from experiments.sweep import leases as module
from experiments.sweep.leases import Keeper, Lease, Leases, Tries

_fork = multiprocessing.get_context("fork")


def take(leases: Leases, run: str = "run", **facts: Any) -> Lease | None:
    return leases.claim(run, leases.of(run), **facts)


def write(leases: Leases, number: int, **facts: Any) -> Lease:
    """A lease of a process of another machine."""
    lease = Lease("run", number, leases.folder / f"run.{number}.lease")
    lease.path.write_text(json.dumps({"machine": "another", "pid": 1, "born": "1", **facts}))
    return lease


def age(lease: Lease, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(lease.path, (then, then))


def test_of_many_processes_one_gets_each_cell(tmp_path: Path) -> None:
    runs = [f"run-{number}" for number in range(40)]

    def claim_all(number: int) -> None:
        leases = Leases(tmp_path / "leases", 60)
        together.wait()
        mine = [run for run in runs if take(leases, run)]
        (tmp_path / f"mine-{number}").write_text(" ".join(mine))
        together.wait()  # alive until all have tried

    together = _fork.Barrier(6)
    processes = [_fork.Process(target=claim_all, args=(n,)) for n in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        assert forked.join(process) == 0
    taken = [run for path in tmp_path.glob("mine-*") for run in path.read_text().split()]
    assert sorted(taken) == sorted(runs)
    assert len(list((tmp_path / "leases").glob("*.lease"))) == len(runs)


def test_a_held_cell_is_free_again_when_its_outcome_is_noted(tmp_path: Path) -> None:
    leases = Leases(tmp_path, 60)
    first = take(leases, step=3)
    assert first is not None and take(leases) is None
    first.release("interrupted", "saved")
    assert first.facts["step"] == 3 and first.facts["message"] == "saved"
    second = take(leases)
    assert second is not None and second.number == 2
    assert [lease.outcome for lease in leases.of("run")] == ["interrupted", None]


def test_the_lease_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    leases = Leases(tmp_path, 3600)

    def hold() -> None:
        take(leases)
        signal.pause()

    process = _fork.Process(target=hold)
    process.start()
    forked.wait_for(lambda: leases.of("run") and "machine" in leases.of("run")[0].facts)
    assert take(leases) is None
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    # not waited for: a zombie must not hold a cell
    assert forked.wait_for(lambda: take(leases)).number == 2
    process.join()


def test_a_process_with_the_number_of_the_dead_holder_does_not_hold(tmp_path: Path) -> None:
    leases = Leases(tmp_path, 3600)
    write(leases, 1, machine=module.machine(), pid=os.getpid(), born="12345")
    assert take(leases) is not None


def test_another_machines_lease_runs_out_with_time(tmp_path: Path) -> None:
    leases = Leases(tmp_path, 30)
    lease = write(leases, 1)
    age(lease, 25)
    assert take(leases) is None
    age(lease, 35)
    assert take(leases) is not None


@pytest.mark.parametrize("skew", [-7200, 7200])
def test_the_clock_of_this_machine_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    """Ages are differences of the file system's own times."""
    leases = Leases(tmp_path, 30)
    write(leases, 1)
    real = time.time
    monkeypatch.setattr(module.time, "time", lambda: real() + skew)
    assert take(leases) is None


def test_two_that_ask_for_the_time_at_once_both_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also two with one number and one name, as containers have them."""
    leases = Leases(tmp_path, 30)
    touch = Path.touch

    def overtaken(path: Path) -> None:
        touch(path)
        monkeypatch.setattr(Path, "touch", touch)
        leases._now()

    monkeypatch.setattr(module.time, "time", lambda: pytest.fail("by this machine's clock"))
    monkeypatch.setattr(Path, "touch", overtaken)
    leases._now()
    assert not list(tmp_path.iterdir())


def test_a_lease_that_a_full_disk_left_empty_runs_out(tmp_path: Path) -> None:
    leases = Leases(tmp_path, 30)
    (tmp_path / "run.1.lease").touch()
    assert take(leases) is None
    age(leases.of("run")[0], 31)
    assert take(leases) is not None


def test_a_lease_that_could_not_be_written_is_free_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = Leases(tmp_path, 3600)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(module.json, "dump", full)
    with pytest.raises(OSError, match="no space"):
        take(leases)
    monkeypatch.undo()
    second = take(leases)
    assert second is not None and second.number == 2


def test_a_keeper_comes_six_times_within_the_time_of_a_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    class Waits(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return True

    watched = SimpleNamespace(Event=Waits, Thread=threading.Thread)
    monkeypatch.setattr(module, "threading", watched)
    Keeper(90, lambda lease: None).close()
    assert pauses == [15.0]


def test_a_taker_that_was_asleep_cannot_win_late(tmp_path: Path) -> None:
    """It saw the cell free, slept, and meanwhile others came and went."""
    leases = Leases(tmp_path, 60)
    seen: list[Lease] = []
    for _ in range(3):
        lease = take(leases)
        assert lease is not None
        lease.release("interrupted")
    assert leases.claim("run", seen) is None
    assert leases.claim("run", leases.of("run")[:1]) is None
    assert leases.claim("run", leases.of("run")) is not None


def test_a_cell_whose_first_leases_were_tidied_away_can_be_taken(tmp_path: Path) -> None:
    """Leases are numbered by the last, not by how many there are."""
    leases = Leases(tmp_path, 60)
    for number in (2, 4):
        write(leases, number, outcome="interrupted")
    found = take(leases)
    assert found is not None and found.number == 5


def test_a_holder_that_was_paused_finds_its_lease_gone(tmp_path: Path) -> None:
    """SIGSTOP for longer than the lease: another takes over; on waking up the holder leaves."""
    leases = Leases(tmp_path, 3600)

    def hold() -> None:
        mine = take(leases)
        assert mine is not None
        keeper = Keeper(0.06, on_loss=lambda lease: os._exit(75))
        with keeper.holding(mine):
            signal.pause()

    process = _fork.Process(target=hold)
    process.start()
    forked.wait_for(lambda: leases.of("run") and "machine" in leases.of("run")[0].facts)
    (mine,) = leases.of("run")
    age(mine, 4000)
    forked.wait_for(lambda: leases.is_live(mine))  # it touches its lease
    assert process.pid
    os.kill(process.pid, signal.SIGSTOP)
    forked.wait_for(lambda: Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "T")
    age(mine, 4000)
    second = take(leases)
    assert second is not None and second.number == 2
    os.kill(process.pid, signal.SIGCONT)
    assert forked.join(process) == 75


def test_after_a_sleep_of_the_machine_holders_that_live_may_touch_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every lease is old then, and none of the keepers has had its turn."""
    leases, clock = Leases(tmp_path, 60), [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    mine = take(leases)
    assert mine is not None
    for _ in range(2):  # touched since: old for a time of its own, the next time
        age(mine, 4000 + clock[0])
        assert take(leases) is None
        clock[0] += 19
        assert take(leases) is None
    clock[0] += 2
    second = take(leases)
    assert second is not None and second.number == 2, "it lives, but it does not touch its lease"


def test_after_a_clock_was_set_back_the_lease_of_a_dead_holder_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would hold until the clock comes to that time again."""
    leases, clock = Leases(tmp_path, 60), [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    lease = write(leases, 1)  # of another machine
    age(lease, -4000)
    assert take(leases) is None
    clock[0] += 19
    assert take(leases) is None
    clock[0] += 2
    assert take(leases) is not None


def test_a_keeper_outlives_a_server_that_is_away_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = [OSError(errno.EIO, "input/output error")]

    def look(_: Lease) -> bool:
        if away:
            raise away.pop()
        return False

    leases = Leases(tmp_path, 3600)
    mine = take(leases)
    assert mine is not None
    age(mine, 4000)
    monkeypatch.setattr(Lease, "is_lost", property(look))
    keeper = Keeper(0.06, lambda lease: None)
    with keeper.holding(mine):
        forked.wait_for(lambda: time.time() - mine.path.stat().st_mtime < 2000)
    keeper.close()


def test_a_lease_that_is_given_back_while_its_keeper_looks_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, taken, lost = threading.Event(), threading.Event(), list[Lease]()
    look = Lease.is_lost.fget
    assert look is not None

    def slow(lease: Lease) -> bool:
        asked.set()
        assert taken.wait(forked.NET_SECONDS)
        return look(lease)

    leases = Leases(tmp_path, 3600)
    mine = take(leases)
    assert mine is not None
    monkeypatch.setattr(Lease, "is_lost", property(slow))
    keeper = Keeper(0.06, lost.append)
    with keeper.holding(mine):
        assert asked.wait(forked.NET_SECONDS)
    mine.release("interrupted")
    assert take(leases) is not None
    taken.set()
    keeper.close()
    assert lost == []


def test_failures_count_since_the_last_pardon_and_interruptions_do_not(tmp_path: Path) -> None:
    leases = Leases(tmp_path, 60)
    for number, outcome in enumerate(["failed", "interrupted", "full", "failed"], 1):
        write(leases, number, outcome=outcome)
    assert Tries.count(leases.of("run"), 0) == Tries(failures=2, kills=0)
    leases.forgive("run")
    assert Tries.count(leases.of("run"), 0) == Tries()
    write(leases, 6, outcome="failed")
    assert Tries.count(leases.of("run"), 0) == Tries(failures=1)


def test_a_death_is_no_failure_and_counts_unless_the_run_had_got_further(tmp_path: Path) -> None:
    leases = Leases(tmp_path, 60)
    write(leases, 1, step=0)  # died, having saved step 10
    write(leases, 2, step=10)  # died, having saved nothing
    write(leases, 3, step=10, outcome="killed")  # its launcher said so; it had saved step 15
    assert Tries.count(leases.of("run"), checkpoint_step=15) == Tries(kills=1)
    assert Tries.count(leases.of("run"), checkpoint_step=10) == Tries(kills=2)


DAMAGED = ["", "{}", "[]", "nonsense", '{"machine": 7, "pid": "x", "step": "y", "outcome": []}']


@pytest.mark.parametrize("text", [*DAMAGED, "no pid", "no birth"])
def test_a_damaged_lease_holds_for_its_time_and_breaks_nothing(tmp_path: Path, text: str) -> None:
    leases = Leases(tmp_path, 30)
    known = {"machine": module.machine(), "pid": 2**22 + 1, "born": "5", "started": "now"}
    known.pop({"no pid": "pid", "no birth": "born"}.get(text, ""), None)
    (tmp_path / "run.1.lease").write_text(json.dumps(known) if text.startswith("no ") else text)
    (lease,) = leases.of("run")
    assert {"pid", "host"} <= set(lease.facts)
    if text != "no pid":  # a process without a number is gone
        assert take(leases) is None
    age(lease, 31)
    assert Tries.count([lease], 0).failures == 0
    assert take(leases) is not None


def test_the_tenth_lease_comes_behind_the_ninth(tmp_path: Path) -> None:
    for number in range(1, 12):
        (tmp_path / f"run.{number}.lease").write_text("{}")
    found = Leases(tmp_path, 120.0).of("run")
    assert [lease.number for lease in found] == list(range(1, 12))
