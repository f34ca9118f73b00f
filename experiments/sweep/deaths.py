"""What is noted of a worker that has died, by whoever has started it."""

from __future__ import annotations

import contextlib
import signal

from experiments.sweep.holders import machine
from experiments.sweep.leases import FAILED, KILLED, Lease
from experiments.sweep.manifest import Sweep

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ends a process that is not at fault; a crash has other signals."""


def note_death(sweep: Sweep, pid: int | None, born: str | None, code: int) -> None:
    """Says in the leases of a worker of this machine that died what it died of.

    Killed from outside: that is not the fault of its cells. Nor can it be told whose fault it is
    where several were trained together.

    Args:
        sweep: That it worked on.
        pid: Its number.
        born: When it was started, as `holders.process_start` gives it.
        code: Its exit code, negative if a signal killed it.
    """
    word = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    for lease in leases_of(sweep, pid, born):
        if lease.outcome:
            continue
        is_outside = -code in _FROM_OUTSIDE or lease.facts.get("together", 1) != 1
        hint = "; perhaps the memory was full" if -code == signal.SIGKILL else ""
        with contextlib.suppress(OSError):
            lease.release(
                KILLED if is_outside else FAILED,
                f"its process died of {word}{hint} (once given up, {sweep.cure} tries again)",
            )


def leases_of(sweep: Sweep, pid: int | None, born: str | None) -> list[Lease]:
    """What a worker of this machine has held; another process may have had its number before."""
    return [
        lease
        for all_of in sweep.leases.scan().values()
        for lease in all_of
        if (facts := lease.facts)["pid"] == pid
        and facts.get("machine") == machine()
        and facts.get("born") == born
    ]
