"""What the protocol asks for, and what it is told: plain values, no files, no clock."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Setting:
    """What one optimizer is run with."""

    lr: float
    weight_decay: float


@dataclass(frozen=True)
class Ask:
    """One run that the protocol wants."""

    key: str  # names the run within the comparison: adamw/search/7
    optimizer: str
    phase: str  # pilot, grow, probe, scatter, line, decays, extend, zero or final
    lr: float
    weight_decay: float
    seed: int

    @property
    def setting(self) -> Setting:
        """Its lr and weight decay."""
        return Setting(self.lr, self.weight_decay)


@dataclass(frozen=True)
class Answer:
    """What came of it, in the metric's own unit; NaN where it diverged or was lost."""

    tune: float = math.nan  # decides the tuning: validation
    report: float = math.nan  # decides the verdict: test
    beside: float = math.nan  # shown beside it, e.g. the loss; NaN: not asked for
    seconds: float = math.nan


@dataclass(frozen=True)
class Notice:
    """Something that people want to know while it goes on; nothing is answered."""

    kind: str  # pilot, tuned, extended, planned, look
    facts: Mapping[str, Any] = field(default_factory=dict)


Question = Sequence[Ask] | Notice
Dialogue = Generator[Question, Sequence[Answer], Any]
"""Yields runs or notices, is sent the answers in the same order, returns its result."""


def digits(value: float, number: int) -> float:
    """A value with so many significant digits: what a person would type."""
    return float(f"{value:.{number}g}")
