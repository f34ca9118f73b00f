"""The best programs of a search on data and seeds that it never saw: the only numbers to report.

Every finalist and the initial program are trained in each of `final_rounds` rounds, beside the
reference in the same round, so the difference of one round is a pair: same weights, same batches,
same held-out text. Mean and standard error are over the rounds. Held-out windows begin again at the
end: `mlp` has 3 of fresh examples, `conv` 1, `lm` 408. So on `conv` the error is that of training
alone, without the luck of the 256 held-out images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from experiments.search.evaluation import Job, Tier, judge
from experiments.search.language import Program
from experiments.search.proxies.proxy import FRESH


@dataclass(frozen=True)
class Final:
    """One program on fresh data."""

    gains: tuple[float, ...]  # per round, nats below the reference; -inf: failed
    best_rates: tuple[int | None, ...]

    @property
    def mean(self) -> float:
        """Nats below the reference; -inf if it failed in any round."""
        return math.fsum(self.gains) / len(self.gains)

    @property
    def standard_error(self) -> float:
        """Of the mean, over rounds; nan with one round or a failed one."""
        count = len(self.gains)
        if count < 2 or not math.isfinite(self.mean):
            return math.nan
        squares = math.fsum((gain - self.mean) ** 2 for gain in self.gains)
        return math.sqrt(squares / (count - 1) / count)

    def to_json(self) -> dict[str, Any]:
        """For the log."""
        finite = [gain if math.isfinite(gain) else None for gain in self.gains]
        mean, error = self.mean, self.standard_error
        return {
            "mean": mean if math.isfinite(mean) else None,
            "standard_error": error if math.isfinite(error) else None,
            "gains": finite,
            "best_rates": list(self.best_rates),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Final:
        """Reads back what `to_json` gave."""
        gains = tuple(-math.inf if gain is None else gain for gain in row["gains"])
        return cls(gains, tuple(row["best_rates"]))


def fresh(tier: Tier) -> Tier:
    """A tier on fresh data, without early ends."""
    return replace(tier, part=FRESH, kill_margin=math.inf)


def evaluate(
    programs: Sequence[Program], tier: Tier, num_rounds: int, first_round: int = 0
) -> list[Final]:
    """Judges programs on fresh data.

    Args:
        programs: Valid ones.
        tier: As the search's; its part of the data and its early ends are replaced.
        num_rounds: Pairs.
        first_round: Rounds before it belong to others.
    """
    rounds = range(first_round, first_round + num_rounds)
    tier = fresh(tier)
    outcomes = [judge([Job(program, tier, number) for program in programs]) for number in rounds]
    return [
        Final(tuple(one.fitness for one in of), tuple(one.best_rate for one in of))
        for of in zip(*outcomes, strict=True)
    ]
