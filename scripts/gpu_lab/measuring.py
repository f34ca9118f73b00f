"""Clocks of the device and of the host, and rows that are on the disk as soon as they are known."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IS_REHEARSAL = DEVICE.type == "cpu"
"""Without a card everything runs small on the CPU: to try the scripts, not to measure."""


class Rows:
    """What a part has found so far."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._ends = path, time.monotonic() + seconds
        self._rows: list[dict[str, Any]] = []

    @property
    def is_time_over(self) -> bool:
        """Whether the part should begin nothing more."""
        return time.monotonic() > self._ends

    def add(self, **row: Any) -> None:
        """Prints a row, and writes all of them anew."""
        self._rows.append(row)
        print(json.dumps(row), flush=True)
        draft = self._path.with_suffix(".tmp")
        draft.write_text(json.dumps(self._rows, indent=1) + "\n")
        draft.replace(self._path)


def wait() -> None:
    """Until the device has done all that it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def times(work: Callable[[], Any], rounds: int = 30, warm_up: int = 5) -> tuple[float, float]:
    """Medians over rounds, in ms: of the host until the call returns, and from start to end.

    Each round begins on an idle device; on a card the second is measured by events on its stream.
    """
    for _ in range(warm_up):
        work()
    hosts, spans = [], []
    for _ in range(rounds):
        wait()
        began = time.perf_counter()
        if DEVICE.type == "cuda":
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
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
    source = torch.empty(1 << (20 if IS_REHEARSAL else 28), device=DEVICE)
    target = torch.empty_like(source)
    _, span = times(lambda: target.copy_(source), rounds=10)
    return 2 * source.numel() * source.element_size() / (1e-3 * span)


def matmul_roof() -> float:
    """Floating-point operations per second of a large bfloat16 product."""
    n = 128 if IS_REHEARSAL else 8192
    a, b = (torch.randn(n, n, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    _, span = times(lambda: a @ b, rounds=10)
    return 2 * n**3 / (1e-3 * span)
