"""Who works on which cell: leases as files that several processes and machines share.

A cell's n-th lease is the file `<run id>.<n>.lease`, made with O_CREAT | O_EXCL, which is atomic
on local disks and on NFS since version 3. Lease files are never removed or renamed: the highest
number holds, and it can be followed by exactly one next. So of two takers one wins, and one that
was asleep cannot win late. The holder touches its file; a lease has run out when

    its holder has noted an outcome,
    or was a process of this machine that is gone (kill -9: noticed at once),
    or has not touched it for `seconds`. One of this machine that lives, and is not stopped, has the
       time of two touches more: after a laptop's sleep, or a step of its clock, every lease is old.
       So has one that was touched in the future: the clock was set back since.

Ages are differences of times that the file system itself gives (a probe is touched beside the
lease), so clocks of machines that disagree do no harm. A holder that was paused past its time
finds the next lease when it wakes up, and must leave at once: see `Keeper`. Until it has noticed,
the lock of the run's folder (`store.Folder.locked`) keeps a second writer away. `seconds` must be
longer than file attributes may be cached (60 s on NFS).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.store import now, read_json, write_json
from experiments.sweep.holders import holder, is_stopped, machine, process_start

FAILED, KILLED, FORGIVEN = "failed", "killed", "forgiven"
"""Outcomes that are counted; see `Tries`."""
MAX_KILLS = 20
"""How often a cell may be killed in vain: not its fault, but it must end some time."""
PARTS = 6
"""How often a lease is touched within its time."""
LOST = 75
"""Exit code of a worker that found its lease taken over when it woke up."""
_NAME = re.compile(r"(.+)\.(\d+)\.lease")


@dataclass(frozen=True)
class Lease:
    """One lease, by whomever it is held."""

    run_id: str
    number: int  # 1 for the first
    path: Path

    @property
    def facts(self) -> dict[str, Any]:
        """What its holder has written: machine, pid, started, and in the end the outcome.

        `pid` and `host` are always there, 0 and "unknown" where the file does not tell.
        """
        found = read_json(self.path)
        pid, host = found.get("pid"), found.get("host")
        told = {"pid": pid if isinstance(pid, int) else 0, "host": host or "unknown"}
        return {**found, **told}

    @property
    def outcome(self) -> str | None:
        """None while its holder has noted none."""
        outcome = self.facts.get("outcome")
        return outcome if isinstance(outcome, str) else None

    def follower(self) -> Path:
        """The file of the lease that would come after this one."""
        return self.path.with_name(f"{self.run_id}.{self.number + 1}.lease")

    @property
    def is_lost(self) -> bool:
        """Whether somebody else has taken the cell over."""
        return self.follower().exists()

    def touch(self) -> None:
        """Shows that the holder lives. The file server sets the time."""
        os.utime(self.path)

    def release(self, outcome: str, message: str = "", **facts: Any) -> None:
        """Gives the cell back.

        Raises:
            OSError: e.g. on a full disk; then the lease runs out by itself.
        """
        ended = {"outcome": outcome, "message": message, "ended": now(), **facts}
        write_json(self.path, {**self.facts, **ended})


class Leases:
    """All leases of a sweep."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self.seconds = seconds
        self._names: set[str] = set()  # files that were seen
        self._found: dict[str, list[Lease]] = {}
        self._late: dict[Path, tuple[float, float]] = {}  # touched last, when it was seen to be old

    def of(self, run_id: str) -> list[Lease]:
        """The leases of a cell, the first one first."""
        return self.scan().get(run_id, [])

    def scan(self) -> dict[str, list[Lease]]:
        """The leases of every cell that had one. Only files that are new cost more than a look."""
        try:
            names = {name for name in os.listdir(self.folder) if name.endswith(".lease")}
        except FileNotFoundError:  # nobody has taken a cell yet
            names = set()
        if self._names - names:  # somebody has tidied up by hand
            self._names, self._found = set(), {}
        for name in names - self._names:
            self._names.add(name)
            if match := _NAME.fullmatch(name):
                lease = Lease(match[1], int(match[2]), self.folder / name)
                all_of = [*self._found.get(lease.run_id, []), lease]
                self._found[lease.run_id] = sorted(all_of, key=lambda one: one.number)
        return dict(self._found)

    def is_live(self, lease: Lease) -> bool:
        """Whether its holder still works."""
        facts = lease.facts
        if facts.get("outcome"):
            return False
        is_ours = facts.get("machine") == machine() and "born" in facts
        if is_ours and process_start(facts["pid"]) != facts["born"]:
            return False
        try:
            handle = os.open(lease.path, os.O_RDONLY)  # on NFS: asks the server anew
        except FileNotFoundError:
            return False
        try:
            touched = os.fstat(handle).st_mtime
        finally:
            os.close(handle)
        age = self._now() - touched
        if abs(age) < self.seconds:
            return True
        is_stepped = age < 0 or (is_ours and not is_stopped(facts["pid"]))
        return is_stepped and self._may_wake(lease, touched)

    def _may_wake(self, lease: Lease, touched: float) -> bool:
        """Whether the keeper of a lease, in a process that may live, has not had its turn yet."""
        now = time.monotonic()
        before, since = self._late.get(lease.path, (touched, now))
        if before != touched:
            since = now
        self._late[lease.path] = touched, since
        return now - since < 2 * self.seconds / PARTS

    def claim(self, run_id: str, before: list[Lease], **facts: Any) -> Lease | None:
        """Takes a cell, if none of the leases before is live and nobody is quicker.

        Args:
            run_id: The cell.
            before: Its leases as `scan` or `of` gave them.
            facts: To note in the file.

        Raises:
            OSError: e.g. on a full disk.
        """
        if before and self.is_live(before[-1]):
            return None
        number = before[-1].number + 1 if before else 1
        lease = Lease(run_id, number, self.folder / f"{run_id}.{number}.lease")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(lease.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return None
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({**holder(), "started": now(), **facts}, file)
        except OSError:
            os.utime(lease.path, (0, 0))  # nobody holds it: it has run out
            raise
        return lease

    def forgive(self, run_id: str) -> None:
        """Lets the tries of a cell count from here."""
        lease = self.claim(run_id, self.of(run_id))
        if lease is not None:
            lease.release(FORGIVEN)

    def _now(self) -> float:
        """The time by the clock that lease files are touched with."""
        probe = self.folder / f".clock-{os.getpid()}-{os.urandom(4).hex()}"  # nobody else's
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:  # a full disk
            return time.time()
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)


class Keeper:
    """Touches the leases of this process, from a thread, and notices a lost one."""

    def __init__(self, seconds: float, on_loss: Callable[[Lease], None]) -> None:
        self._pause = seconds / PARTS
        self._on_loss = on_loss
        self._held: set[Lease] = set()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def holding(self, lease: Lease) -> Iterator[None]:
        """Keeps a lease alive until left."""
        self._held.add(lease)
        try:
            yield
        finally:
            self._held.discard(lease)

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._closed.wait(self._pause):
            for lease in list(self._held):
                with contextlib.suppress(OSError):  # a server that is away; perhaps not for long
                    if not lease.is_lost:  # asked first: a touch would not bring it back
                        lease.touch()
                    elif lease in self._held:  # else it was given back since, and taken by the next
                        self._on_loss(lease)


@dataclass(frozen=True)
class Tries:
    """How often a cell was tried in vain since it was last forgiven."""

    failures: int = 0
    """It raised an error, or crashed its process: its own fault."""
    kills: int = 0
    """Its process was killed from outside (SIGKILL, a lost machine), or died or broke down with
    several cells in it, before the cell had a newer checkpoint."""

    @classmethod
    def count(cls, leases: list[Lease], checkpoint_step: int) -> Tries:
        """Counts; interruptions are no tries.

        Args:
            leases: Of the cell, none of them live.
            checkpoint_step: Of the newest checkpoint, 0 without one.
        """
        failures, kills, later = 0, 0, checkpoint_step
        for lease in reversed(leases):
            facts = lease.facts
            outcome = lease.outcome
            if outcome == FORGIVEN:
                break
            step = facts.get("step")
            step = step if isinstance(step, int) else later
            is_dead = outcome is None and "machine" in facts
            failures += outcome == FAILED
            kills += (is_dead or outcome == KILLED) and later <= step
            later = step
        return cls(failures, kills)
