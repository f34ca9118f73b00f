"""Processes of this machine that work for a parent: started, told to stop, never left behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from experiments.launch import stop_signals


def leave_with_parent() -> None:
    """In a started process: tells it to save and leave when its parent dies."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait_for_end() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end, name="watch-parent", daemon=True).start()


@contextlib.contextmanager
def told_to_stop() -> Iterator[Callable[[], int]]:
    """Notes SIGINT, SIGTERM and SIGHUP, and passes them on to the started processes.

    What it gives tells the first signal so far, or 0.

    They are told by SIGTERM: Ctrl-C reaches the processes of a terminal by itself, and one that is
    passed on late, on a busy machine, must not be taken for an impatient second. A further Ctrl-C
    is passed on as it is.
    """
    noted: list[int] = []

    def note(number: int, _frame: Any) -> None:
        noted.append(number)
        is_impatient = len(noted) > 1 and number == signal.SIGINT
        told = signal.SIGINT if is_impatient else signal.SIGTERM
        for child in multiprocessing.active_children():
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, told)

    before = {n: signal.signal(n, note) for n in stop_signals()}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Sets variables while a process is started: thread pools read them when they are made."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
