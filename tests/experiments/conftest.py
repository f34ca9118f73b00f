"""What tests of a run may ask for."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from torch import Tensor, nn

from experiments.tasks.task import Loss


@pytest.fixture
def on_call(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int, Tensor, Any], Any]], Any]:
    """Gives every loss of the tiny task to a function, with its number from 1 and its batch."""

    def install(function: Callable[[int, Tensor, Any], Any]) -> None:
        calls, loss = itertools.count(1), tiny.Task.loss

        def watched(self: Any, model: nn.Module, batch: Any, world: Any) -> Loss:
            found = loss(self, model, batch, world)
            changed = function(next(calls), found.mean, batch)
            return found if changed is None else Loss(changed)

        monkeypatch.setattr(tiny.Task, "loss", watched)

    return install


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was sent to the disk, in order."""
    names: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: names.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
    )
    return names
