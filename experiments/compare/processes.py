"""One run as a group of processes: watched, and ended with all that it has begun."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.compare.asking import Ask

POLL_SECONDS = 0.02
GRACE_SECONDS = 5.0


@dataclass
class Run:
    """One that goes on."""

    ask: Ask
    number: int  # of the try
    process: subprocess.Popen[bytes]
    output: Path
    folder: Path  # {run_dir}
    began: float  # by a clock that nobody sets
    slot: int
    stamps: dict[str, tuple[int, ...]]  # of the files with its numbers, from before it
    ended_at: float | None = None  # when it was told to end
    ended_since: str = ""  # why
    limit: float | None = None  # seconds, after which it was

    def signal(self, number: int) -> None:
        """To all processes of the run that have not left its group."""
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, number)

    def end(self, now: float, why: str, limit: float) -> None:
        """Tells it to end; `is_over` makes it."""
        self.ended_at, self.ended_since, self.limit = now, why, limit
        self.signal(signal.SIGTERM)

    def is_over(self, now: float) -> bool:
        """Whether it has ended. One that was told to and does not is killed; one that not even
        that ends, as where a disk or a GPU no longer answers, is over for us."""
        is_gone = self.process.poll() is not None
        if self.ended_at is None:
            return is_gone
        if is_gone or now > self.ended_at + GRACE_SECONDS:
            self.signal(signal.SIGKILL)
        return is_gone or now > self.ended_at + 2 * GRACE_SECONDS


def end_all(running: Sequence[Run]) -> None:
    """Asks what still goes on to end, then makes it; at once where it is interrupted again."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(KeyboardInterrupt):
            for one in running:
                one.signal(number)
            end = time.monotonic() + GRACE_SECONDS
            while time.monotonic() < end and any(r.process.poll() is None for r in running):
                time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal stop like Ctrl-C."""

    def stop(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                before[number] = signal.signal(number, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
