"""Starts the processes of one run on this machine, and watches them. Standard library only.

`torchrun` does the same from outside and across machines; this spares its imports and its second
report of each error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.config import RunConfig, to_dict
from experiments.files import say
from experiments.left_alone import EXIT_CODE as LEFT_ALONE

STORE_VARIABLE = "LION_PROCESS_STORE"
"""Environment variable with the file that the processes meet through."""
ERROR_VARIABLE = "LION_ERROR_FILE"
"""Environment variable with the file that a process writes its one-line error to."""

LAUNCHER_VARIABLE = "LION_LAUNCHER"
"""Environment variable with the name of the launcher that started a process."""

GRACE_SECONDS = 15.0
"""How long the other processes may take to leave after one has failed."""


def run(config: RunConfig, causes: list[str] | None = None) -> int:
    """Runs `launch.num_processes` processes of `experiments.runner`.

    SIGINT, SIGTERM and SIGHUP are passed on; the processes save and leave. They leave, too, when
    this process dies.

    Args:
        config: Of the run.
        causes: Gets what has gone wrong, in the words of the processes in which it did.

    Returns:
        The exit code of the first process that failed, or 0.
    """
    count = config.launch.num_processes
    with tempfile.TemporaryDirectory(prefix="lion-run-") as name:
        scratch = Path(name)
        (scratch / "config.json").write_text(json.dumps(to_dict(config)))
        processes: list[subprocess.Popen[bytes]] = []
        told: list[int] = []
        handler = _pass_on(processes, told)
        before = {number: signal.signal(number, handler) for number in stop_signals()}
        try:
            for rank in range(count):
                if not told:
                    processes.append(_start(rank, count, scratch))
            if told:  # perhaps before the last one was in the list
                _tell(processes, signal.SIGTERM)
            code = _wait(processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
            for number, old in before.items():
                signal.signal(number, old)
        if told:
            hand_on(told[0], before)
        errors, faults = (
            sorted({path.read_text("utf-8") for path in scratch.glob(names)})
            for names in ("error-*", "fault-*")
        )
    causes = [] if causes is None else causes
    causes += errors or faults
    for line in errors:
        say(f"error: {line}\n", sys.stderr)
    if errors:
        return 2
    # Told before they could listen, they died of it; there was nothing to save.
    stopped = (-signal.SIGTERM, 128 + signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGINT)
    if told and (code in stopped or len(processes) < count):
        return 128 + told[0]
    if code >= 0:
        return code
    killed = f"a process was killed by signal {-code} (9: perhaps the machine ran out of memory)"
    causes.append(killed)
    say(f"error: {killed}; call the same command again to go on\n", sys.stderr)
    return 1


def stop_signals() -> tuple[signal.Signals, ...]:
    """What means: save and leave. A closed terminal (SIGHUP) does, unless under nohup."""
    is_heard = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if is_heard else ()))


def hand_on(number: int, handlers: Mapping[signal.Signals, Any]) -> None:
    """Tells a signal that was noted to who listened before, unless that is Python itself."""
    handler = handlers[signal.Signals(number)]
    if callable(handler) and handler is not signal.default_int_handler:
        handler(number, None)


def _start(rank: int, count: int, scratch: Path) -> subprocess.Popen[bytes]:
    """One process, in a session of its own (so that Ctrl-C reaches it once, through us).

    Its standard input is a pipe that nobody writes to: it ends when this process does.
    """
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        STORE_VARIABLE: str(scratch / "store"),
        ERROR_VARIABLE: str(scratch / f"error-{rank}"),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "experiments.runner", str(scratch / "config.json")]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)


def _pass_on(
    processes: list[subprocess.Popen[bytes]], told: list[int]
) -> Callable[[int, object], None]:
    """Tells the processes once to save and leave; a further Ctrl-C reaches them as it is.

    SIGTERM, because a process that still imports dies of it without a traceback.
    """

    def handler(number: int, _frame: object) -> None:
        told.append(number)
        is_impatient = len(told) > 1 and number == signal.SIGINT
        _tell(processes, signal.SIGINT if is_impatient else signal.SIGTERM)

    return handler


def _tell(processes: list[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _wait(processes: list[subprocess.Popen[bytes]]) -> int:
    """Waits for all; once one has failed, the others have `GRACE_SECONDS` to leave.

    Returns:
        The exit code of the first that failed by itself, negative if a signal killed it, or 0.
    """
    first_failure, failed_at = 0, 0.0
    while True:
        codes = [process.poll() for process in processes]
        failures = [code for code in codes if code]
        own = [code for code in failures if code != LEFT_ALONE]
        first_failure = first_failure or next(iter(own), 0)
        if None not in codes:
            return first_failure or next(iter(failures), 0)
        if failures:
            failed_at = failed_at or time.monotonic()
            if time.monotonic() - failed_at > GRACE_SECONDS:
                for process in processes:
                    process.kill()
        time.sleep(0.05)


def note_fault(error: Exception) -> None:
    """In a started process: says what `run` then gives as a cause; a traceback is shown besides."""
    path = Path(os.environ[ERROR_VARIABLE])
    path.with_name(f"fault-{path.name}").write_text(f"{type(error).__name__}: {error}", "utf-8")


def watch_parent() -> None:
    """In a started process: asks it to save and leave when its starter dies."""

    def wait_for_end() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock must be free when Python ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end, name="watch-parent", daemon=True).start()
