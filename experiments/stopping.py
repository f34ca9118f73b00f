"""When to save and when to leave: signals and the clock, agreed on by all processes."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

from experiments.config import CheckpointConfig
from experiments.distributed import Agreement, World
from experiments.launch import hand_on, stop_signals

SAVE, STOP = 1, 2
IMPATIENT_SECONDS = 2.0
"""A second Ctrl-C after this long means: now. (torchrun passes each one on twice, at once.)"""


class Stopper:
    """Collects wishes; use `listening`."""

    def __init__(self, settings: CheckpointConfig, world: World) -> None:
        self._settings = settings
        self._agreement = Agreement(world)
        self._is_main = world.is_main
        self._saved_at = time.monotonic()
        self._signal = 0
        self._signal_at = 0.0

    @classmethod
    @contextlib.contextmanager
    def listening(cls, settings: CheckpointConfig, world: World) -> Iterator[Stopper]:
        """Turns SIGINT, SIGTERM and SIGHUP into the wish to stop, until left.

        A run whose last step is done does not stop, but what it is a part of must: who listened
        before hears of the signal, too.
        """
        stopper = cls(settings, world)
        in_main_thread = threading.current_thread() is threading.main_thread()
        numbers = stop_signals() if in_main_thread else ()
        before = {n: signal.signal(n, stopper._note) for n in numbers}
        try:
            yield stopper
            stopper._agreement.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if stopper._signal:
            hand_on(stopper._signal, before)

    def wish(self) -> int:
        """0, SAVE or STOP; the same in every process. Call once per step."""
        wish = 0
        if self._signal:
            wish = STOP
        elif self._is_main and self._settings.every_seconds is not None:
            overdue = time.monotonic() - self._saved_at > self._settings.every_seconds
            wish = SAVE if overdue else 0
        return self._agreement.highest(wish)

    def saved(self) -> None:
        """Restarts the clock of `checkpoint.every_seconds`."""
        self._saved_at = time.monotonic()

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells count; SIGTERM where another process was told."""
        return 128 + (self._signal or signal.SIGTERM)

    def _note(self, number: int, _frame: object) -> None:
        now = time.monotonic()
        impatient = self._signal and now - self._signal_at > IMPATIENT_SECONDS
        if impatient and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal, self._signal_at = number, self._signal_at or now
