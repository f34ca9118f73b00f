"""Settings of a contextual bandit; see `experiments.tasks.bandit`."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from experiments.ranges import check_all, number


@dataclass
class BanditTaskConfig:
    """Classes are learnt from rewards alone."""

    _target_: str = "experiments.tasks.bandit.ContextualBandit"
    baseline: float = 0.1  # taken from every reward (0 or 1); 0.1: that of a guess of ten classes

    def __post_init__(self) -> None:
        """Checks what a task from outside, with pages of its own, is given."""
        check_all(asdict(self), RANGES, "task")


RANGES = {"baseline": number(-1, 1)}
"""The values that each setting may have."""
