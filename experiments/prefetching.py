"""Micro-batches on their way to a GPU: copied on a stream of their own while it computes.

The host never waits. It puts copies and computations into two queues of the device, and events tell
these of each other: no computation begins before its batch is there, and no copy overwrites a batch
that is still computed with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from experiments.tasks.task import Batch

NUM_SLOTS = 2
"""Micro-batches that are on the device: one that is computed with, and the next."""


class Streams(Protocol):
    """Two queues of a device: one computes, one copies."""

    def empty_like(self, tensor: Tensor, layout: torch.memory_format) -> Tensor:
        """Memory on the device."""
        ...

    def copy(self, targets: Sequence[Tensor], sources: Sequence[Tensor], after: Any) -> Any:
        """Queues a copy for when the event `after` has happened; returns the event of its end."""
        ...

    def wait(self, event: Any) -> None:
        """What is computed from here on begins after an event."""
        ...

    def mark(self) -> Any:
        """The event that all computations queued so far are done."""
        ...


class CudaStreams:
    """Those of a GPU: the current stream computes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copying = torch.cuda.Stream(device)

    def empty_like(self, tensor: Tensor, layout: torch.memory_format) -> Tensor:
        return torch.empty_like(tensor, device=self._device, memory_format=layout)

    def copy(self, targets: Sequence[Tensor], sources: Sequence[Tensor], after: Any) -> Any:
        # A copy from memory that is not pinned would make the host wait. Pinned memory is given
        # back when its last copy is done: torch's allocator keeps account of it.
        pinned = [s if s.is_cuda or s.is_pinned() else s.pin_memory() for s in sources]
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copying):
            self._copying.wait_event(after)
            if any(source.is_cuda for source in pinned):  # made by what may still be computed
                self._copying.wait_stream(computing)
            for target, source in zip(targets, pinned, strict=True):
                target.copy_(source, non_blocking=True)
                if source.is_cuda:  # else its memory may be given away before it is copied
                    source.record_stream(self._copying)
            return self._copying.record_event()

    def wait(self, event: Any) -> None:
        torch.cuda.current_stream(self._device).wait_event(event)

    def mark(self) -> Any:
        return torch.cuda.current_stream(self._device).record_event()


@dataclass
class _Slot:
    """Memory for a micro-batch, used again and again."""

    batch: Batch = ()
    copied: Any = None  # when the batch is there
    free: Any = None  # when nothing computes with it any more
    shapes: list[Any] = field(default_factory=list)


class Prefetcher:
    """Gives micro-batches on the device; the next one's copy is queued before each is given.

    The host is a step ahead of a busy device, so the first of a step is copied meanwhile, too.

    Args:
        streams: Of the device.
        channels_last: Whether images, and whatever else has four dimensions, get that layout.
    """

    def __init__(self, streams: Streams, channels_last: bool) -> None:
        self._streams, self._channels_last = streams, channels_last
        self._slots = [_Slot() for _ in range(NUM_SLOTS)]
        self._next = 0

    def __call__(self, batches: Sequence[Batch]) -> Iterator[Batch]:
        """All micro-batches in order. One is valid until the next but one is asked for."""
        coming = self._send(batches[0]) if batches else None
        for number in range(len(batches)):
            slot = coming
            assert slot is not None
            is_last = number + 1 == len(batches)
            coming = None if is_last else self._send(batches[number + 1])
            self._streams.wait(slot.copied)
            try:
                yield slot.batch
            finally:
                slot.free = self._streams.mark()

    def _send(self, batch: Batch) -> _Slot:
        slot = self._slots[self._next]
        self._next = (self._next + 1) % NUM_SLOTS
        shapes = [(tensor.shape, tensor.dtype) for tensor in batch]
        if shapes != slot.shapes:
            slot.batch = tuple(self._streams.empty_like(t, self._layout(t)) for t in batch)
            slot.shapes = shapes
            slot.free = self._streams.mark()  # the memory may have been another tensor's
        slot.copied = self._streams.copy(slot.batch, batch, slot.free)
        return slot

    def _layout(self, tensor: Tensor) -> torch.memory_format:
        is_image = self._channels_last and tensor.dim() == 4
        return torch.channels_last if is_image else torch.preserve_format


def prefetcher(device: torch.device, channels_last: bool) -> Prefetcher | None:
    """For a GPU; None: batches are used where they lie."""
    return Prefetcher(CudaStreams(device), channels_last) if device.type == "cuda" else None
