"""Loads batches of images in background processes, so that nothing depends on their number.

A request names whole batches by the numbers of their examples, and every example is transformed
after its own seed, so the order of the work does not show in the result.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import struct
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from experiments.config import UserError
from experiments.data.decoders import DECODERS, Transform
from experiments.data.image_readers import LabelledImages
from experiments.data.order import BatchPlan

Request = tuple[int, np.ndarray]
"""Epoch (0-based) and example numbers of one batch."""

_START = "fork" if sys.platform == "linux" else None
"""How loading processes begin: with all that this one has imported and read, in memory once. Of
Python 3.14 that must be asked for: it would import anew in each, and send it a copy.
"""

UNREADABLE = (
    OSError,
    SyntaxError,  # PIL: broken PNG
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow is known to raise for damaged files."""


_ADDRESS = re.compile(r" ?<_io\.\w+ object at 0x\w+>")  # says nothing, and is never the same


LOST = {
    "shared memory|killed by signal: Bus error": "loading processes hand their batches over in "
    "shared memory, and /dev/shm has no room for them: give the container more (docker run "
    "--shm-size=8g, or --ipc=host), or set data.num_workers lower (0 needs none)",
    "killed by signal: Killed": "a loading process was killed, perhaps because the machine "
    "ran out of memory: set data.num_workers lower, and call the same command again to go on",
}
"""What torch says of loading processes that fail without a fault of the data, and what helps."""


class UnreadableImage(UserError):
    """An image file that cannot be read or decoded."""


class ImageBatches(Dataset):
    """Gives a batch for a request.

    Args:
        images: The reader.
        rows: Row of the reader for each example, (N,).
        targets: Label of each example, (N,) int64 or (N, num_classes) bool.
        transform: From an RGB image of Pillow's to (3, H, W) uint8.
        plan: Gives the seed of an example; None where the transform draws nothing.
        decoder: A key of `DECODERS`.
    """

    def __init__(
        self,
        images: LabelledImages,
        rows: np.ndarray,
        targets: np.ndarray,
        transform: Transform,
        plan: BatchPlan | None = None,
        decoder: str = "pil",
    ) -> None:
        self.images = images
        self.rows = rows
        self.targets = targets
        self.plan = plan
        self.decoder = DECODERS[decoder](transform)

    def __getitem__(self, request: Request) -> tuple[Tensor, Tensor] | UserError:
        epoch, numbers = request
        with nullcontext() if get_worker_info() else _generators_kept():
            try:
                pixels = [self._pixels(epoch, int(number)) for number in numbers]
            except UserError as error:
                return error  # raised here it would reach the user inside a DataLoader traceback
        return default_collate(pixels), torch.from_numpy(self.targets[numbers])

    def _pixels(self, epoch: int, number: int) -> Tensor:
        row = int(self.rows[number])
        if self.plan is not None:
            _seed_generators(self.plan.example_seed(epoch, number))
        try:
            with self.images.open(row) as image:
                decoded = self.decoder.decode(image)
        except UNREADABLE as error:
            reason = " ".join(_ADDRESS.sub("", str(error)).split())
            raise UnreadableImage(
                f"cannot read the image {self.images.name(row)} ({reason}): restore or convert "
                "that file"
            ) from error
        return self.decoder.finish(decoded)


def _seed_generators(seed: int) -> None:
    """Like `order.seed_all`, but touches no GPU: in a loading process that would be slow."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Without loading processes, the run's own generators stay as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def load(
    batches: ImageBatches, requests: Iterable[Request], num_workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Gives the requested batches in order, loaded ahead by `num_workers` processes.

    Raises:
        UserError: from the first batch that cannot be read; where loading processes have no room.
    """
    loader: DataLoader[Any] = DataLoader(
        batches,
        batch_size=None,  # a request is a whole batch
        sampler=requests,
        num_workers=num_workers,
        multiprocessing_context=_START if num_workers else None,
        pin_memory=torch.cuda.is_initialized(),  # by a run on the CPU beside a GPU it never is
        worker_init_fn=_prepare_worker,
        generator=torch.Generator(),  # otherwise it draws from the run's own generator
    )
    with _sigterm_blocked():
        loaded = iter(loader)
    try:
        for batch in loaded:
            if isinstance(batch, UserError):
                raise batch
            yield batch
    except RuntimeError as error:
        said = f"{error} {error.__cause__}"
        if remedies := [remedy for words, remedy in LOST.items() if re.search(words, said)]:
            raise UserError(remedies[0]) from error
        raise


@contextmanager
def _sigterm_blocked() -> Iterator[None]:
    """For starting workers: every thread of theirs, a library's too, begins with SIGTERM blocked.

    A thread that does not block it, such as one that a library starts anew after a fork, would take
    the signal before `_leave_when_told` and end the worker. In this process it is only held up.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_worker(_: int) -> None:
    """Leaves stopping to the main process, which first saves, and then ends its workers.

    Ctrl-C, and SIGTERM from a scheduler, reach every process of the job; a worker that obeyed
    them would fail the run before it could save. Only a SIGTERM from the main process counts.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None or not hasattr(signal, "sigwaitinfo"):  # macOS cannot tell the sender
        if hasattr(signal, "pthread_sigmask"):  # it would never end when told
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGTERM, lambda *_: None)  # should a thread that does not block it get it
    threading.Thread(target=_leave_when_told, args=(parent.pid,), daemon=True).start()


def _leave_when_told(parent: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
