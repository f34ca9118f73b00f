"""Runs a program of the user's: any shell command that takes its settings and prints its number.

A run that fails is tried once more with the same seed, then recorded with its last lines. What is
printed goes to files of the comparison; nothing of the user's is written or removed. One that takes
too long is ended, and has failed.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.compare.asking import Answer, Ask
from experiments.compare.going_on import first_value, hint, note_carried
from experiments.compare.ledger import NUM_FAILURES_AT_FIRST, Ledger, writing_to
from experiments.compare.left_files import LeftFiles
from experiments.compare.metric import Metric, MetricError, last_lines
from experiments.compare.placeholders import filled_for_shell, in_full
from experiments.compare.processes import POLL_SECONDS, Run, end_all, stopping_on_signals
from experiments.compare.time_limit import TimeLimit, tried_again
from experiments.config import UserError
from experiments.sweep.holders import holder, machine, process_start
from experiments.sweep.local import find_gpus

MAX_TRIES = 2
WHEN_TOLD = 'read -r _ && exec /bin/sh -c "$1" </dev/null'
"""What a run waits with until it is written down: killed before that, nobody would know of it."""
Show = Callable[[list[Ask], int, str], None]
"""Told what goes on now, how many of the batch are done, and what is to be said of the oldest."""


@dataclass(frozen=True)
class Program:
    """What to run, and what to read."""

    command: str
    tune: Metric
    report: Metric
    beside: Metric | None = None
    folder: Path = Path(".")  # where it runs

    @property
    def metrics(self) -> list[Metric]:
        """Each number once."""
        named = (self.tune, self.report, self.beside)
        return list({metric.text: metric for metric in named if metric is not None}.values())


class Runner:
    """Runs batches, several runs at a time."""

    def __init__(
        self,
        program: Program,
        ledger: Ledger,
        num_workers: int = 1,
        time_limit: TimeLimit | None = None,
        *,
        say: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._program = program
        self._ledger = ledger
        self._num_workers = num_workers
        self._limit = time_limit or TimeLimit()
        self._say = say
        self._clock = clock
        self._gpus = find_gpus() if num_workers > 1 else []
        self._left = LeftFiles(program.command, program.folder, ledger.path, num_workers)
        self._end_leftovers()
        ledger.forget_pilot(only_failed=True)
        for line in tried_again(ledger, self._limit):
            say(line)

    def run(self, asks: Sequence[Ask], show: Show = lambda now, done, remark: None) -> list[Answer]:
        """Runs what is not known yet.

        Args:
            asks: A batch.
            show: Told what goes on, often.

        Raises:
            UserError: where an optimizer does nothing but fail.
            KeyboardInterrupt: after the runs were stopped.
        """
        waiting = [(ask, 1) for ask in asks if self._ledger.answer(ask) is None]
        free, running = list(range(self._num_workers)), list[Run]()
        with stopping_on_signals():
            try:
                while waiting or running:
                    while waiting and free:
                        self._start(*waiting.pop(0), free.pop(0), running)
                    done = len(asks) - len(waiting) - len(running)
                    for one in self._over(running, done, show):
                        running.remove(one)
                        free.append(one.slot)
                        if not self._ended(one):
                            waiting.insert(0, (one.ask, one.number + 1))
                show([], len(asks), "")
                self._ledger.refuse_hopeless(asks)
                self._refuse_broken(running, len(asks), show)
            finally:
                end_all(running)
        return [answer for ask in asks if (answer := self._ledger.answer(ask)) is not None]

    def _over(self, running: Sequence[Run], done: int, show: Show) -> list[Run]:
        """Shows what goes on, waits a moment, and ends what takes too long; who is over."""
        now, slowest = self._clock(), self._ledger.slowest()
        limit = self._limit.seconds(slowest)
        show([r.ask for r in running], done, self._limit.remark(now - running[0].began, slowest))
        time.sleep(POLL_SECONDS)
        self._left.look()
        over = [one for one in running if one.is_over(now)]
        for one in running:
            if one not in over and one.ended_at is None and now - one.began > limit:
                one.end(now, self._limit.reason(slowest), limit)
                self._say(_said_of_ended(one))
        if over:
            self._left.end()
            note_carried(self._ledger, self._left.read_again(2))
        return over

    def _start(self, ask: Ask, number: int, slot: int, running: list[Run]) -> None:
        with writing_to(self._ledger.path):
            output, folder = _empty_place(self._ledger.path / "runs" / _folder_name(ask))
        values = self._values(ask, folder)
        environment = dict(os.environ)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        stamps = {metric.text: metric.stamp(values) for metric in self._program.metrics}
        command = filled_for_shell(self._program.command, values)
        self._left.begin()
        began = self._clock()
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["/bin/sh", "-c", WHEN_TOLD, "/bin/sh", command],
                cwd=self._program.folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert process.stdin is not None
        facts = {"pid": process.pid, "born": process_start(process.pid)}
        with contextlib.suppress(BrokenPipeError), process.stdin as gate:
            self._ledger.note("started", ask, machine=holder()["machine"], **facts)
            running.append(Run(ask, number, process, output, folder, began, slot, stamps))
            gate.write(b"\n")

    def _refuse_broken(self, running: list[Run], done: int, show: Show) -> None:
        """Whether failures are of the settings, or of the machine: then they say nothing of them.

        A full disk or a lost GPU would fail all that comes, and pass for a bad optimizer.

        Raises:
            UserError: where a run that went well fails now; the failures before are forgotten.
        """
        failed, good = self._ledger.failed_last(), self._ledger.finished()
        if len(failed) < NUM_FAILURES_AT_FIRST or good is None:
            return
        self._start(good, MAX_TRIES + 1, 0, running)
        while not self._over(running, done, show):
            pass
        _, state, message = self._read(running.pop())
        if state in ("failed", "unread"):
            self._ledger.forget(failed)
            raise UserError(
                f"the last {len(failed)} runs failed, and so does one that went well before "
                f"({message}){hint(self._left.read_again(1))}: mend it, and the same command tries "
                "them again"
            )

    def _values(self, ask: Ask, folder: Path) -> dict[str, Any]:
        texts = {"optimizer": ask.optimizer, "run_dir": str(folder.resolve())}
        numbers = {"lr": in_full(ask.lr), "weight_decay": in_full(ask.weight_decay)}
        return {**texts, **numbers, "seed": ask.seed}

    def _ended(self, one: Run) -> bool:
        """Notes the end of a run; False where it is to be tried once more.

        Raises:
            UserError: where the first run that ends well says no number: nor would the others.
        """
        answer, state, message = self._read(one)
        if state == "unread" and self._ledger.finished() is None:
            raise UserError(
                f"the first run went well, but {message} (all of it: {one.output}): mend the "
                "option that says where its number is, or the program"
            )
        state = "failed" if state == "unread" else state
        if state == "failed" and one.number < MAX_TRIES:
            self._ledger.note("retried", one.ask, message=message)
            return False
        limit = {} if one.limit is None else {"limit": one.limit}
        self._ledger.end(one.ask, answer, state, message, tries=one.number, **limit)
        return True

    def _read(self, one: Run) -> tuple[Answer, str, str]:
        seconds, program = self._clock() - one.began, self._program
        one.signal(signal.SIGTERM)  # what it has left behind would hold memory and GPUs
        text = one.output.read_text(errors="replace")
        values = self._values(one.ask, one.folder)
        if one.ended_since:  # what it may have said after that is of half a run
            return Answer(seconds=seconds), "failed", f"{one.ended_since}: {last_lines(text)}"
        if code := one.process.returncode:
            why = f"signal {-code}" if code < 0 else f"exit code {code}"
            return Answer(seconds=seconds), "failed", f"{why}: {last_lines(text)}"
        try:
            found = {m.text: m.read(text, values, one.stamps[m.text]) for m in program.metrics}
        except MetricError as error:
            return Answer(seconds=seconds), "unread", f"{error}: {last_lines(text)}"
        tune, report = found[program.tune.text], found[program.report.text]
        beside = found[program.beside.text] if program.beside else math.nan
        for metric in (program.tune, program.report):
            if not math.isfinite(value := found[metric.text]):
                return Answer(seconds=seconds), "diverged", f"{metric.name} {value}"
        return Answer(tune, report, beside, seconds), "finished", ""

    def doubts(self) -> Iterator[str]:
        """What to beware of in how the numbers of a run were read, as far as its output is kept."""
        good = self._ledger.finished()
        if good is None or (kept := self._kept(good)) is None:
            return
        for metric in self._program.metrics:
            with contextlib.suppress(MetricError):
                if doubt := metric.doubt(*kept):
                    yield (
                        f"Beware: {metric.option} {metric.text!r} {doubt}: if another number is "
                        "meant, write its whole name, or a group that takes all its digits."
                    )

    def pilot_runs(self) -> list[tuple[float, float]]:
        """First and last number of each run of the pilot, where one has followed the other."""
        metric, found = self._program.tune, list[tuple[float, float]]()
        for ask, answer in self._ledger.pilot() if self._num_workers == 1 else []:
            if metric.file or (kept := self._kept(ask)) is None:
                return []
            found.append((first_value(metric, kept[0]), answer.tune))
        return found

    def _kept(self, ask: Ask) -> tuple[str, dict[str, Any]] | None:
        """What a run has printed, and its values; None where that is gone."""
        folder = self._ledger.path / "runs" / _folder_name(ask)
        number = _next_number(folder) - 1
        output = folder / f"output{number}.txt"
        if not output.exists():
            return None
        return output.read_text(errors="replace"), self._values(ask, folder / f"try{number}")

    def _end_leftovers(self) -> None:
        """Ends runs that a killed comparison has left: they would be run twice."""
        for event in self._ledger.events():
            if event["event"] != "started" or event["machine"] != machine():
                continue
            if event["born"] and process_start(event["pid"]) == event["born"]:
                with contextlib.suppress(OSError):
                    os.killpg(event["pid"], signal.SIGKILL)


def _said_of_ended(one: Run) -> str:
    ask = one.ask
    run = f"{ask.optimizer} {ask.phase}: lr {ask.lr:g}, wd {ask.weight_decay:g}, seed {ask.seed}"
    then = "it is tried once more" if one.number < MAX_TRIES else "it counts as failed"
    return f"{run} is ended, {then}: {one.ended_since}"


def _folder_name(ask: Ask) -> str:
    copy = "-again" if ask.copy else ""
    name = re.sub(r"[^\w.+-]", "-", ask.optimizer)
    return f"{name}-lr{ask.lr:g}-wd{ask.weight_decay:g}-s{ask.seed}{copy}"


def _empty_place(folder: Path) -> tuple[Path, Path]:
    """Where a try's output goes, and its {run_dir}: of its own, since a program may refuse a folder
    that holds anything, or go on from what a try before has left there."""
    folder.mkdir(parents=True, exist_ok=True)
    number = _next_number(folder)
    place = folder / f"try{number}"
    place.mkdir(exist_ok=True)
    return folder / f"output{number}.txt", place


def _next_number(folder: Path) -> int:
    """Of the next try of a run."""
    return next(n for n in itertools.count(1) if not (folder / f"output{n}.txt").exists())
