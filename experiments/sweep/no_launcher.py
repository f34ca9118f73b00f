"""The launcher that starts nothing: workers are started by hand, on any machine."""

from __future__ import annotations

from pathlib import Path


def only_written(path: Path) -> int:
    """The launcher that starts nothing."""
    print(f"written: {path}; start workers with: python -m experiments.sweep.worker {path}")
    return 0
