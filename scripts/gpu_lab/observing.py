"""What a training step of the runner holds and where it waits, seen from outside."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gpu_lab.measuring import DEVICE, IS_REHEARSAL, Rows, emptied, wait
from gpu_lab.training import MODELS, OPTIMIZERS, fitting, parts_of, step_of


def memory(rows: Rows) -> None:
    """Most memory that the allocator gave during steps, for each optimizer."""
    for model in MODELS[:1] if IS_REHEARSAL else MODELS:
        for name in OPTIMIZERS:
            if rows.is_time_over:
                return

            def measure(micro: int, model: str = model, name: str = name) -> None:
                before = emptied()
                work = step_of(parts_of(model, name, micro))
                for _ in range(2):
                    work()
                wait()
                peak = torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else 0
                rows.add(
                    part="memory", model=model, what=name, micro=micro,
                    peak_mebibytes=(peak - before) >> 20, held_before_mebibytes=before >> 20,
                )  # fmt: skip

            fitting(rows, measure, part="memory", model=model, what=name)


def sync(rows: Rows) -> None:
    """Every place within a step where the host waits for the device, with its line."""

    def measure(micro: int) -> None:
        parts = parts_of(MODELS[0], "lion", micro, ema_decay=0.999, grad_clip_norm=1.0)
        work = step_of(parts)
        for _ in range(2):
            work()
        places = waits_of(work)
        rows.add(
            part="sync", what="places that wait", count=len(places), places=sorted(set(places))
        )

    fitting(rows, measure, part="sync")


def waits_of(work: Callable[[], Any]) -> list[str]:
    """File and line of the suite's code behind each warning that the host waits."""
    root = Path(__file__).resolve().parents[2]
    rooms = tuple(f"{root / room}/" for room in ("experiments", "lion"))
    places: list[str] = []

    def note(message: Any, *_: Any, **__: Any) -> None:
        if "synchronizing CUDA operation" not in str(message):
            return
        ours = [f for f in traceback.extract_stack()[:-1] if f.filename.startswith(rooms)]
        places.append(f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "torch")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        _warn_of_waits("warn")
        try:
            work()
        finally:
            _warn_of_waits("default")
    return places


def _warn_of_waits(mode: str) -> None:
    if DEVICE.type == "cuda":
        torch.cuda.set_sync_debug_mode(mode)
