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
from collections.abc import Callable
from pathlib import Path

from experiments.config import RunConfig, to_dict

STORE_VARIABLE = "LION_PROCESS_STORE"
"""Environment variable with the file that the processes meet through."""
ERROR_VARIABLE = "LION_ERROR_FILE"
"""Environment variable with the file that a process writes its one-line error to."""

LAUNCHER_VARIABLE = "LION_LAUNCHER"
"""Environment variable with the name of the launcher that started a process."""

GRACE_SECONDS = 15.0
"""How long the other processes may take to leave after one has failed."""


def run(config: RunConfig) -> int:
    """Runs `launch.num_processes` processes of `experiments.runner`.

    SIGINT and SIGTERM are passed on; the processes save and leave. They leave, too, when this
    process dies.

    Returns:
        The exit code of the first process that failed, or 0.
    """
    count = config.launch.num_processes
    with tempfile.TemporaryDirectory(prefix="lion-run-") as name:
        scratch = Path(name)
        (scratch / "config.json").write_text(json.dumps(to_dict(config)))
        processes = [_start(rank, count, scratch) for rank in range(count)]
        signals = (signal.SIGINT, signal.SIGTERM)
        told: list[int] = []
        before = {number: signal.signal(number, _pass_on(processes, told)) for number in signals}
        try:
            code = _wait(processes)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for process in processes:
                process.kill()
                process.wait()
        errors = sorted({path.read_text() for path in scratch.glob("error-*")})
    for line in errors:
        print(f"error: {line}", file=sys.stderr)
    if errors:
        return 2
    if code < 0 and told:  # it was stopped before it could listen, so there was nothing to save
        return 128 + told[0]
    if code < 0:
        print(
            f"error: a process was killed by signal {-code} (9: perhaps the machine ran out of "
            "memory); call the same command again to go on",
            file=sys.stderr,
        )
        return 1
    return code


def _start(rank: int, count: int, scratch: Path) -> subprocess.Popen[bytes]:
    """One process, in a session of its own (so that Ctrl-C reaches it once, through us).

    Its standard input is a pipe that nobody writes to: it ends when this process does.
    """
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        STORE_VARIABLE: str(scratch / "store"),
        ERROR_VARIABLE: str(scratch / f"error-{rank}"),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "experiments.runner", str(scratch / "config.json")]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)


def _pass_on(
    processes: list[subprocess.Popen[bytes]], told: list[int]
) -> Callable[[int, object], None]:
    def handler(number: int, _frame: object) -> None:
        told.append(number)
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    return handler


def _wait(processes: list[subprocess.Popen[bytes]]) -> int:
    """Waits for all; once one has failed, the others have `GRACE_SECONDS` to leave.

    Returns:
        The exit code of the first that failed, negative if a signal killed it, or 0.
    """
    first_failure, failed_at = 0, 0.0
    while True:
        codes = [process.poll() for process in processes]
        first_failure = first_failure or next((code for code in codes if code), 0)
        if None not in codes:
            return first_failure
        if first_failure:
            failed_at = failed_at or time.monotonic()
            if time.monotonic() - failed_at > GRACE_SECONDS:
                for process in processes:
                    process.kill()
        time.sleep(0.05)


def watch_parent() -> None:
    """In a started process: asks it to save and leave when its starter dies."""

    def wait_for_end() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock must be free when Python ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end, name="watch-parent", daemon=True).start()
