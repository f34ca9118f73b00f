"""What the protocol asks for, and what it is told: plain values, no files, no clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.config import UserError


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
    phase: str  # pilot, check, scout, grow, probe, scatter, line, decays, extend, zero, final
    lr: float
    weight_decay: float
    seed: int
    copy: int = 0  # 1: the same run once more

    @property
    def identity(self) -> tuple[str, float, float, int, int]:
        """The run, whatever it is wanted for."""
        return self.optimizer, self.lr, self.weight_decay, self.seed, self.copy

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


class Unheeding(UserError):
    """The program does not do what it is told; once it is mended, its runs are those of another."""


@dataclass(frozen=True)
class Notice:
    """Something that people want to know while it goes on; nothing is answered."""

    kind: str  # pilot, scouted, tuned, extended, planned, look
    facts: Mapping[str, Any] = field(default_factory=dict)


Question = Sequence[Ask] | Notice
Dialogue = Generator[Question, Sequence[Answer], Any]
"""Yields runs or notices, is sent the answers in the same order, returns its result."""


def converse(
    dialogue: Dialogue,
    answer: Callable[[Sequence[Ask]], Sequence[Answer]],
    hear: Callable[[Notice], None] = lambda notice: None,
) -> Any:
    """Leads a dialogue to its end and returns its result.

    Args:
        dialogue: Of the protocol.
        answer: Runs what is asked, in any order, and answers in the order of asking.
        hear: Is told of every notice.
    """
    told: Sequence[Answer] | None = None
    while True:
        try:
            question = dialogue.send(told)  # pyright: ignore[reportArgumentType]
        except StopIteration as end:
            return end.value
        if isinstance(question, Notice):
            hear(question)
            told = []
        else:
            told = answer(question)


def digits(value: float, number: int) -> float:
    """A value with so many significant digits: what a person would type."""
    return float(f"{value:.{number}g}")
