"""Clocks of the device and of the host, and rows that are on the disk as soon as they are known."""

from __future__ import annotations

import gc
import importlib.util
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
IS_REHEARSAL = DEVICE.type == "cpu"
"""Without a card everything runs small on the CPU: to try the scripts, not to measure."""
WARM_SECONDS = 0.0 if IS_REHEARSAL else 0.2
"""For how long a card works before it is measured: an idle one has low clocks."""


class Rows:
    """What a part has found so far."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._ends = path, time.monotonic() + seconds
        self._rows: list[dict[str, Any]] = []
        self.is_cut = False  # whether something was left out for want of time

    @property
    def seconds_left(self) -> float:
        """Until the part should be over; negative after that."""
        return self._ends - time.monotonic()

    @property
    def is_time_over(self) -> bool:
        """Whether the part should begin nothing more; who asks leaves something out then."""
        self.is_cut = self.is_cut or self.seconds_left < 0
        return self.is_cut

    def add(self, **row: Any) -> None:
        """Prints a row, and writes all of them anew; what is not finite is null in JSON."""
        self._rows.append(_plain(row))
        print(json.dumps(self._rows[-1]), flush=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(self._rows, indent=1, allow_nan=False) + "\n")
        draft.replace(self._path)


def _plain(value: Any) -> Any:
    """As JSON has it, at any depth: one odd value in a row must not cost the rows after it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def wait() -> None:
    """Until the device has done all that it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def emptied() -> int:
    """Gives back the memory of what is not used any more; the bytes that stay in use."""
    if DEVICE.type != "cuda":
        return 0
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def in_a_line(error: BaseException) -> str:
    """What went wrong, for a row."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def is_too_large(error: BaseException) -> bool:
    """Whether memory was lacking, in whatever words of the suite it is said."""
    return any(isinstance(one, torch.OutOfMemoryError) for one in _causes(error))


def is_missing_package(error: BaseException) -> bool:
    """Whether something was not found that does not belong to the suite."""
    found = [one for one in _causes(error) if isinstance(one, ModuleNotFoundError)]
    names = [(one.name or "").partition(".")[0] for one in found]
    return bool(names) and names[-1] not in ("experiments", "lion", "gpu_lab")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def is_installed(package: str) -> bool:
    """Whether it can be found; half of an installation counts as none."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def check_alive() -> None:
    """Raises where an earlier error has left the device unusable, so that a part ends there."""
    if DEVICE.type == "cuda":
        torch.zeros(1, device=DEVICE).add_(1).cpu()


def times(work: Callable[[], Any], rounds: int = 30, warm_up: int = 5) -> tuple[float, float]:
    """Medians over rounds, in ms: of the host until the call returns, and from start to end.

    Each round begins on an idle device; on a card the second is measured by events on its stream.
    """
    began, number = time.perf_counter(), 0
    while number < warm_up or time.perf_counter() - began < WARM_SECONDS:
        work()
        wait()
        number += 1
    hosts, spans = [], []
    for _ in range(rounds):
        wait()
        began = time.perf_counter()
        if DEVICE.type == "cuda":
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            began = time.perf_counter()
            events[0].record()
            work()
            events[1].record()
            hosts.append(1e3 * (time.perf_counter() - began))
            events[1].synchronize()
            spans.append(events[0].elapsed_time(events[1]))
        else:
            work()
            hosts.append(1e3 * (time.perf_counter() - began))
            spans.append(hosts[-1])
    return statistics.median(hosts), statistics.median(spans)


def copy_roof() -> float:
    """Bytes per second that a plain copy on the device reads and writes together."""
    source, target = _twins(20 if IS_REHEARSAL else 28)
    _, span = times(lambda: target.copy_(source), rounds=10)
    return 2 * source.numel() * source.element_size() / (1e-3 * span)


def _twins(power: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tensors of 2^power numbers, or of fewer where others use the card, too."""
    try:
        return torch.zeros(1 << power, device=DEVICE), torch.empty(1 << power, device=DEVICE)
    except torch.OutOfMemoryError:
        if power <= 22:
            raise
    emptied()
    return _twins(power - 2)


def matmul_roof() -> float:
    """Floating-point operations per second of a large bfloat16 product."""
    n = 128 if IS_REHEARSAL else 8192
    a, b = (torch.randn(n, n, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    _, span = times(lambda: a @ b, rounds=10)
    return 2 * n**3 / (1e-3 * span)
