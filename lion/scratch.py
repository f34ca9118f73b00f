"""Temporaries that are used again, and views of them: fresh ones would cost page faults."""

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lion.checkpoints import ordinary_tensors

MAX_VIEWS = 256  # sets of shapes whose views are kept


class _Memory(threading.local):
    """Of each thread."""

    def __init__(self) -> None:
        self.flat: dict[Any, Tensor] = {}
        self.views: dict[Any, tuple[Tensor, list[Tensor]]] = {}


_kept = _Memory()


def views(
    dtype: torch.dtype, like: Sequence[Tensor], use: str = "steps"
) -> tuple[Tensor, list[Tensor]]:
    """One piece of this thread's memory for a use, and its parts in the shapes of `like`."""
    key = (dtype, use, *[x.shape for x in like])
    found = _kept.views.get(key)
    if found is None:
        if len(_kept.views) >= MAX_VIEWS:
            _kept.views.clear()
        sizes = [x.numel() for x in like]
        with ordinary_tensors():
            flat = _memory(dtype, use, sum(sizes))
            parts = zip(flat.split(sizes), like, strict=True)
            found = _kept.views[key] = flat, [part.view(x.shape) for part, x in parts]
    return found


def _memory(dtype: torch.dtype, use: str, size: int) -> Tensor:
    key = (dtype, use)
    if key not in _kept.flat or _kept.flat[key].numel() < size:
        _kept.views.clear()  # of the old memory
        _kept.flat[key] = torch.empty(size, dtype=dtype, device="cpu")
    return _kept.flat[key][:size]
