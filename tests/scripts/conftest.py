"""The parts of `scripts/gpu_check.py`, imported for a test and forgotten after it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from card_lab import SCRIPTS


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import gpu_lab.correctness
    import gpu_lab.facts
    import gpu_lab.observing
    import gpu_lab.optimizer_step
    import gpu_lab.whole_runs

    yield gpu_lab
    for name in [name for name in sys.modules if name.startswith("gpu_lab")]:
        del sys.modules[name]
