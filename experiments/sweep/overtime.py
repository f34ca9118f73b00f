"""Ends a worker whose run takes longer than its sweep allows: what hangs does not end itself."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from experiments.files import say
from experiments.sweep.leases import FAILED, LOST, Lease


@contextlib.contextmanager
def watched(
    leases: Sequence[Lease], limit: Any, leave: Callable[[int], object] = os._exit
) -> Iterator[None]:
    """While runs are trained: notes that they have failed, and ends this process, after their time.

    The launcher starts a worker anew, as where a lease was lost.

    Args:
        leases: Of what is trained together; each adds its time.
        limit: `seconds` of one run, and `reason` to note; None: runs may take as long as they do.
        leave: Ends the process; with whatever it waits for.
    """
    if limit is None:
        yield
        return

    def end() -> None:
        for lease in leases:
            if not (lease.is_lost or lease.outcome):
                with contextlib.suppress(OSError):  # then the lease runs out by itself
                    lease.release(FAILED, limit["reason"], limit=limit["seconds"])
        names = ", ".join(lease.run_id for lease in leases)
        say(f"{names}: {limit['reason']}; leaving\n", sys.stderr)
        leave(LOST)

    timer = threading.Timer(limit["seconds"] * len(leases), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
