"""What is known of programs, by their functional hash: their fitness in each round of data.

A program that was judged on several streams of data counts with its mean, so that an incumbent
that was lucky once falls back. Caches of several searches merge, if they judge alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass
class Entry:
    """One program, by whatever text it was first met."""

    origin: int  # number of the candidate that it was first met as; -1: from another search
    fitness: dict[str, float] = field(default_factory=dict)  # by round

    @property
    def is_known(self) -> bool:
        """False while its first evaluation goes on."""
        return bool(self.fitness)

    @property
    def mean(self) -> float:
        """Over the rounds; -inf if it failed in any."""
        return math.fsum(self.fitness.values()) / len(self.fitness)


class Cache:
    """Entries by functional hash."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return iter(self._entries.items())

    def get(self, key: str) -> Entry | None:
        """The entry of a functional hash, known or going on."""
        return self._entries.get(key)

    def reserve(self, key: str, origin: int) -> None:
        """Notes that a program is being judged, so that its doubles wait for it."""
        assert key not in self._entries, f"{key} is reserved twice"
        self._entries[key] = Entry(origin)

    def add(self, key: str, round_name: str, fitness: float) -> float:
        """Notes what a round has shown; the mean over all rounds."""
        entry = self._entries[key]
        entry.fitness[round_name] = fitness
        return entry.mean

    def merge(self, others: Iterable[Cache]) -> int:
        """Takes what other searches know, the first one that knows a round counting.

        Returns:
            How many programs were new.
        """
        before = len(self)
        for other in others:
            for key, entry in other:
                if entry.is_known:
                    mine = self._entries.setdefault(key, Entry(-1))
                    mine.fitness = {**entry.fitness, **mine.fitness}
        return len(self) - before
