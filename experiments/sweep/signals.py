"""What a worker does when it is told to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from experiments.launch import stop_signals


class Told(KeyboardInterrupt):
    """Raised where a run is built or imported: there is nothing to save yet."""


class Listener:
    """Notes signals. Within `armed` it raises `Told`, until a run listens itself.

    `experiments.stopping` takes SIGINT, SIGTERM and SIGHUP over once a run can save; SIGUSR2
    (SLURM's and submitit's word for preemption) is passed on to it as SIGTERM.
    """

    def __init__(self) -> None:
        self.told = 0
        self._is_armed = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Listener:
        if threading.current_thread() is threading.main_thread():
            numbers = (*stop_signals(), signal.SIGUSR2)
            self._before = {n: signal.signal(n, self._note) for n in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """While a run is built and trained."""
        self._is_armed = True
        try:
            if self.told:
                raise Told
            yield
        finally:
            self._is_armed = False

    def sleep(self, seconds: float) -> None:
        """Waits, unless told to stop."""
        end = time.monotonic() + seconds
        while not self.told and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))

    def _note(self, number: int, _frame: FrameType | None) -> None:
        is_first = not self.told
        self.told = signal.SIGTERM if number == signal.SIGUSR2 else number
        handler = signal.getsignal(signal.SIGTERM)
        if number == signal.SIGUSR2 and handler != self._note:
            signal.raise_signal(signal.SIGTERM)
        elif self._is_armed and is_first:
            raise Told
