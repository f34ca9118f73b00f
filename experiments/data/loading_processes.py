"""How many processes load images where nobody says: by the cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

MOST = 16
"""So many feed any card of today; more would only hold more batches in shared memory."""
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def num_loading(num_workers: int | None, num_batches: int) -> int:
    """Loading processes of this training process.

    Args:
        num_workers: As a page says; None: this process's share of the cores, less one for the
            process itself, from 1 to `MOST`.
        num_batches: No process is started that would have nothing to do.
    """
    if num_workers is None:
        processes = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        num_workers = min(MOST, max(1, usable_cores() // processes - 1))
    return min(num_workers, num_batches)


def usable_cores() -> int:
    """Cores that this process may run on, and that a container's quota pays for."""
    is_known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if is_known else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no control group, or "max"
        return cores
