"""How many processes load images where nobody says: by this process's share of the cores."""

from __future__ import annotations

from experiments.processor import share

MOST = 16
"""So many feed any card of today; more would only hold more batches in shared memory."""


def num_loading(num_workers: int | None, num_batches: int) -> int:
    """Loading processes of this training process.

    Args:
        num_workers: As a page says; None: this process's share of the cores, less one for the
            process itself, from 1 to `MOST`.
        num_batches: No process is started that would have nothing to do.
    """
    if num_workers is None:
        num_workers = min(MOST, max(1, share() - 1))
    return min(num_workers, num_batches)
