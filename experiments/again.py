"""The command line that makes a run again. Standard library only."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.pages import script


def command_of(
    experiment: str,
    optimizer: str,
    settings: Mapping[str, Any],
    seed: int,
    fixed: Sequence[str] = (),
) -> str:
    """The command for one cell of a sweep; it repeats every setting of the sweep.

    Args:
        experiment: Page.
        optimizer: Page.
        settings: Dotted key to value, as the manifest has them.
        seed: Of the run.
        fixed: Overrides that hold for every cell, as the manifest has them.
    """
    words = [*script("run").split(), f"experiment={experiment}", f"optimizer={optimizer}", *fixed]
    words += [f"{key}={as_override(value)}" for key, value in settings.items()]
    return shlex.join([*words, f"seed={seed}"])


def as_override(value: Any) -> str:
    """A value as Hydra reads it back: 64.0 is 64, and no digit is lost."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_override, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(float(value))
    return str(value)
