"""Several processes of a run as threads of this one: for evaluations, which need no gradients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from experiments.distributed import World

T = TypeVar("T")
NET_SECONDS = 60.0
"""A last net, for a thread that waits for one that has failed."""


class _Threaded(World):
    """Exchanges through a list that all threads see."""

    def __init__(self, rank: int, shared: list[Tensor | None], barrier: threading.Barrier) -> None:
        super().__init__(rank, len(shared), torch.device("cpu"))
        vars(self).update(_shared=shared, _barrier=barrier)

    def _exchanged(self, mine: Tensor) -> list[Tensor]:
        shared, barrier = vars(self)["_shared"], vars(self)["_barrier"]
        shared[self.rank] = mine.detach().clone()
        barrier.wait(NET_SECONDS)
        found = list(shared)
        barrier.wait(NET_SECONDS)
        return found

    def sum(self, values: Tensor) -> Tensor:
        return values.copy_(torch.stack(self._exchanged(values)).sum(0))

    def gather(self, rows: Tensor) -> Tensor:
        return torch.cat(self._exchanged(rows))


def together(size: int, work: Callable[[World], T]) -> list[T]:
    """What `work` gives in each of so many processes, in the order of their ranks."""
    if size == 1:
        return [work(World(0, 1, torch.device("cpu")))]
    shared: list[Tensor | None] = [None] * size
    barrier = threading.Barrier(size)

    def one(rank: int) -> T:
        try:
            return work(_Threaded(rank, shared, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))
