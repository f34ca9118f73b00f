"""Settings of the tasks: one file and one dataclass for each family, found by listing this folder.

`TASKS` maps the name of a page (`task=NAME`) to its dataclass; composing refuses what a dataclass
does not know, `experiments.identity` leaves out what stands at its default. A file states in
`RANGES` which values each field may have; `RANGES` here has them by `_target_`. Standard library
only.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Any

from experiments.ranges import Range


def _schema(name: str) -> type[Any]:
    """The one dataclass of a file that has a `_target_`."""
    module = importlib.import_module(f"{__name__}.{name}")
    found = [
        value
        for value in vars(module).values()
        if dataclasses.is_dataclass(value)
        and isinstance(value, type)
        and value.__module__ == module.__name__
        and "_target_" in {field.name for field in dataclasses.fields(value)}
    ]
    assert len(found) == 1, f"{module.__name__} must define one dataclass with a _target_"
    return found[0]


TASKS = {module.name: _schema(module.name) for module in pkgutil.iter_modules(__path__)}
"""Name of a task's page: its settings."""


def _ranges(schema: type[Any]) -> dict[str, Range]:
    return getattr(importlib.import_module(schema.__module__), "RANGES", {})


RANGES = {schema()._target_: _ranges(schema) for schema in TASKS.values()}
"""`_target_` of a task: the range of each of its settings."""
