"""What a page of `conf/sweep` says, and the settings that it means for one optimizer.

A value that begins with x or / is relative: `x3` is three times what the recipe says, `/10` a
tenth of it. So one page fits every experiment and optimizer.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.checks import lookup
from experiments.config import ConfigError, RunConfig

_RELATIVE = re.compile(r"([x/])\s*((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
LR, BATCH_SIZE = "optimizer.lr", "train.batch_size"


@dataclass
class SweepPage:
    """A page of `conf/sweep`. Axes are dotted keys with lists of values."""

    about: str = ""  # one line for people
    name: str = ""  # of the sweep's folder; empty: from the experiment and the page
    optimizers: list[str] = field(default_factory=list)  # where the command line names none
    set: dict[str, Any] = field(default_factory=dict)  # the same for every cell
    conditions: dict[str, Any] = field(default_factory=dict)  # axes to compare along, not to tune
    grid: dict[str, Any] = field(default_factory=dict)  # axes to tune; every combination
    points: list[Any] = field(default_factory=list)  # settings of several keys that go together
    by_optimizer: dict[str, Any] = field(default_factory=dict)  # see `OptimizerSpace`
    lr_scaling: str = "none"  # none | sqrt | linear: of the recipe's lr with train.batch_size
    seeds: list[int] = field(default_factory=lambda: [0])
    equal_budget: bool = True  # refuse to give one optimizer more trials than another
    max_tries: int = 3  # how often a cell may fail
    lease_seconds: float = 120.0  # after which a silent worker of another machine is given up
    then: dict[str, Any] = field(default_factory=dict)  # stage two: see `experiments.sweep.stages`


@dataclass
class OptimizerSpace:
    """What the page says of one optimizer; its axes come before the page's own."""

    conditions: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, Any] = field(default_factory=dict)
    points: list[Any] = field(default_factory=list)
    relative_to: str = ""  # the optimizer whose recipe relative values refer to; empty: its own
    set: dict[str, Any] = field(default_factory=dict)  # the same for each of its cells


def space_of(page: SweepPage, optimizer: str) -> OptimizerSpace:
    """The axes of one optimizer.

    Raises:
        ConfigError: if the page gives others axes that this one would lack.
    """
    known = page.by_optimizer
    lacking = {key for own in known.values() for key in _axes(own or {})}
    if optimizer not in known and lacking - _axes(vars(page)):
        names = ", ".join(known)
        raise ConfigError(f"this sweep has no axes for optimizer={optimizer}: choose from {names}")
    try:
        own = OptimizerSpace(**(known.get(optimizer) or {}))
    except TypeError as error:
        raise ConfigError(f"sweep.by_optimizer.{optimizer}: {error}") from error
    return OptimizerSpace(
        conditions={**page.conditions, **own.conditions},
        grid={**page.grid, **own.grid},
        points=own.points or page.points,
        relative_to=own.relative_to,
        set={**page.set, **own.set},
    )


def _axes(section: Mapping[str, Any]) -> set[str]:
    """The keys that a page, or its part for one optimizer, gives several values."""
    parts = [section.get("conditions"), section.get("grid"), *(section.get("points") or [])]
    return {key for part in parts for key in part or {}}


def without(space: OptimizerSpace, keys: Sequence[str]) -> OptimizerSpace:
    """The space after the command line has fixed some keys, or given them values of its own."""
    return OptimizerSpace(
        conditions={k: v for k, v in space.conditions.items() if k not in keys},
        grid={k: v for k, v in space.grid.items() if k not in keys},
        points=[{k: v for k, v in point.items() if k not in keys} for point in space.points],
        relative_to=space.relative_to,
        set={k: v for k, v in space.set.items() if k not in keys},
    )


def settings(
    space: OptimizerSpace, reference: RunConfig, lr_scaling: str = "none"
) -> Iterator[dict[str, Any]]:
    """Every combination of a space, with plain values.

    Args:
        space: The axes.
        reference: The configuration that relative values refer to.
        lr_scaling: How the reference's lr follows `train.batch_size`.

    Raises:
        ConfigError: for a relative value of something that is no number, or is 0.
    """
    axes = {**space.conditions, **space.grid}
    for key, values in axes.items():
        if not isinstance(values, list | tuple) or not values:
            raise ConfigError(f"sweep: {key}={values}: must be a list of values")
    for point in space.points or [{}]:
        for values in itertools.product(*axes.values()):
            wanted = {**dict(zip(axes, values, strict=True)), **point}
            scale = _lr_scale(lr_scaling, wanted, reference)
            if scale != 1.0:
                wanted.setdefault(LR, "x1")
            yield {
                key: _plain(key, value, reference, scale if key == LR else 1.0)
                for key, value in wanted.items()
            }


def _plain(key: str, value: Any, reference: RunConfig, scale: float) -> Any:
    found = _RELATIVE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    try:
        base = lookup(reference, key)
    except (KeyError, AttributeError, TypeError):
        base = None
    if not isinstance(base, int | float) or isinstance(base, bool) or base == 0:
        raise ConfigError(
            f"sweep: {key}={value} is relative, but {reference.optimizer_name} has {base} there "
            f"in {reference.experiment}: give it in a recipe, or {key}=VALUE,VALUE on the command"
        )
    factor = float(found[2])
    factor = factor if found[1] == "x" else 1 / factor if factor else math.inf
    product = float(f"{base * factor * scale:.4g}")
    if not math.isfinite(product):
        raise ConfigError(f"sweep: {key}={value} is not finite: {key} is {base} there")
    is_count = isinstance(base, int) and not key.startswith("optimizer.")
    # A weight decay that is written as 1 is no count: a third of it would be none at all.
    is_whole = isinstance(base, int) and product.is_integer()
    return round(product) if is_count or is_whole else product


_SCALINGS: Mapping[str, Callable[[float], float]] = {
    "none": lambda ratio: 1.0,
    "sqrt": lambda ratio: ratio**0.5,
    "linear": lambda ratio: ratio,
}


def _lr_scale(rule: str, wanted: Mapping[str, Any], reference: RunConfig) -> float:
    if rule not in _SCALINGS:
        raise ConfigError(f"sweep.lr_scaling={rule}: choose one of {', '.join(_SCALINGS)}")
    base = reference.train.batch_size
    size = _plain(BATCH_SIZE, wanted.get(BATCH_SIZE, base), reference, 1.0)
    is_number = isinstance(size, int | float) and size > 0  # what is none is refused when composed
    return _SCALINGS[rule](size / base) if is_number else 1.0


def short(key: str) -> str:
    """The column that a key stands in: optimizer.lr is lr, train.batch_size is batch_size."""
    return key.rpartition(".")[2]
