"""What searches have picked, judged in the same rounds of the data that they search with.

A search counts a program by the rounds in which it has met it, often a single one. Rounds differ in
what there is to gain, for all programs alike, so such numbers of two searches do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from experiments.search.evaluation import Job, Tier, judge
from experiments.search.language import parse

FILE = "picks.csv"


def measure(picks: Mapping[str, str], tier: Tier, num_rounds: int) -> list[dict[str, Any]]:
    """A row per search and round: search, round, fitness (None: it failed).

    Args:
        picks: Text of a program, by search.
        tier: As the searches'; its part of the data is that of the search.
        num_rounds: From the first one on.
    """
    programs = [parse(text) for text in picks.values()]
    rows = []
    for number in range(num_rounds):
        outcomes = judge([Job(program, tier, number) for program in programs])
        for search, outcome in zip(picks, outcomes, strict=True):
            gain = outcome.fitness if math.isfinite(outcome.fitness) else None
            rows.append({"search": search, "round": number, "fitness": gain})
        print(f"round {number + 1} of {num_rounds}", flush=True)
    return rows
