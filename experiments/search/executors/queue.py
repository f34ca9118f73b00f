"""Workers of any number of machines on a folder that they share: for SLURM, or started by hand.

A batch is the file `TICKET.job`; a worker takes it by a lease (`experiments.sweep.leases`), so the
batch of a killed worker is taken over; it answers with `TICKET.answer`. Files are removed once they
were collected. A file `closed` sends the workers home. Tickets carry the session's name: what a
killed controller has left is removed by the next.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.config import UserError
from experiments.search.evaluation import Job, Outcome, Tier
from experiments.search.executors.executor import MAX_TRIES, Answer
from experiments.search.executors.pool import answer, check_answer
from experiments.search.language import parse
from experiments.search.proxies import families
from experiments.store import read_json, write_json, write_text
from experiments.sweep.leases import Keeper, Lease, Leases

POLL_SECONDS = 0.05
LEASE_SECONDS = 120.0
"""Longer than file attributes are cached, and than a batch may leave its keeper without a turn."""


class Queue:
    """The controller's side."""

    def __init__(self, folder: Path, num_workers: int) -> None:
        self.folder, self.num_workers = folder, num_workers
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if old.suffix in (".job", ".answer", ".lease") or old.name == "closed":
                old.unlink(missing_ok=True)
        self._session = f"{os.getpid():x}-{time.time_ns():x}"
        self._open: dict[str, tuple[int, int]] = {}  # ticket and number of jobs

    def room(self) -> int:
        """See `Executor`."""
        return self.num_workers + max(1, self.num_workers // 4) - len(self._open)

    def submit(self, ticket: int, jobs: Sequence[Job]) -> None:
        """See `Executor`."""
        name = f"{self._session}-{ticket:08d}"
        self._open[name] = ticket, len(jobs)
        codes = {family: families.code(family) for family in {job.tier.family for job in jobs}}
        batch = {"jobs": [_to_json(job) for job in jobs], "codes": codes}
        write_json(self.folder / f"{name}.job", batch)

    def collect(self) -> list[Answer]:
        """See `Executor`."""
        answers: list[Answer] = []
        for name in [n for n in self._open if (self.folder / f"{n}.answer").exists()]:
            ticket, count = self._open[name]
            outcomes = _read_answer(self.folder / f"{name}.answer", count)
            if outcomes is not None:
                del self._open[name]
                answers.append((ticket, outcomes))
                self._remove(name)
        if not answers:
            self._check_tries()
            time.sleep(POLL_SECONDS)
        return answers

    def close(self) -> None:
        """See `Executor`."""
        write_text(self.folder / "closed", "")

    def _remove(self, name: str) -> None:
        """The job first: a worker never begins on a lease whose job is gone."""
        for suffix in (".job", ".answer"):
            (self.folder / f"{name}{suffix}").unlink(missing_ok=True)
        for lease in self.folder.glob(f"{name}.*.lease"):
            lease.unlink(missing_ok=True)

    def _check_tries(self) -> None:
        for name in self._open:
            if (self.folder / f"{name}.{MAX_TRIES + 1}.lease").exists():
                raise UserError(
                    f"{MAX_TRIES} workers died at one batch, {self.folder / name}.job: is there "
                    "memory for it? Lower search.batch_size, then call again"
                )


class QueueWorker:
    """The other side: takes batches until the folder is closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.leases = Leases(folder, LEASE_SECONDS)
        self.keeper = Keeper(LEASE_SECONDS, lambda lease: None)  # an answer twice is the same one

    def work(self, wait: bool = True) -> int:
        """Judges batch after batch.

        Args:
            wait: For more, until the folder is closed; else leaves when there is none.

        Returns:
            How many batches were judged.
        """
        count = 0
        try:
            while not (self.folder / "closed").exists():
                if lease := self._take():
                    with self.keeper.holding(lease):
                        count += self._judge(lease)
                elif not wait:
                    break
                else:
                    time.sleep(POLL_SECONDS)
        finally:
            self.keeper.close()
        return count

    def _take(self) -> Lease | None:
        leases = self.leases.scan()
        for job in sorted(self.folder.glob("*.job")):
            if job.with_suffix(".answer").exists():
                continue
            if lease := self.leases.claim(job.stem, leases.get(job.stem, [])):
                return lease
        return None

    def _judge(self, lease: Lease) -> bool:
        path = self.folder / f"{lease.run_id}.job"
        batch = read_json(path)
        rows = batch.get("jobs")
        if rows is None and not path.exists():  # collected since it was seen
            lease.path.unlink(missing_ok=True)
            return False
        if rows is None:
            state, content = "refused", f"{path} is damaged: call again"
        elif differing := _differing(batch.get("codes", {})):
            state, content = "refused", differing
        else:
            state, content = answer([_from_json(row) for row in rows])
        told: dict[str, Any] = {state: content}
        if state == "done":
            assert not isinstance(content, str)
            told = {"outcomes": [outcome.to_json() for outcome in content]}
        if path.exists():
            answered = path.with_suffix(".answer")
            write_text(answered, json.dumps(told), durable=True)
            if not path.exists():  # another's answer was collected meanwhile, and the job removed
                answered.unlink(missing_ok=True)
        return True  # the lease goes with the job


def _read_answer(path: Path, count: int) -> list[Outcome] | None:
    """The outcomes of so many jobs. A damaged answer is removed: the batch is judged once more."""
    content = read_json(path)
    for state in ("fault", "refused"):
        if state in content:
            check_answer(state, content[state])
    try:
        outcomes = [Outcome.from_json(row) for row in content["outcomes"]]
    except (KeyError, TypeError):
        outcomes = []
    if len(outcomes) == count:
        return outcomes
    path.unlink(missing_ok=True)
    return None


def _to_json(job: Job) -> dict[str, Any]:
    tier = dict(vars(job.tier))
    return {"program": job.program.text(), "tier": tier, "round": job.round_number}


def _differing(codes: dict[str, str]) -> str:
    """Where this worker would train on other data, or by other code, than its controller; or ""."""
    others = [name for name, code in codes.items() if code != families.code(name)]
    if not others:
        return ""
    other = f"the {families.part(others[0])} of {others[0]} differs from the controller's"
    return f"a worker on {platform.node()}: {other} (other packages, or another Python)"


def _from_json(row: dict[str, Any]) -> Job:
    tier = Tier(**{**row["tier"], "lrs": tuple(row["tier"]["lrs"])})
    return Job(parse(row["program"]), tier, row["round"])
