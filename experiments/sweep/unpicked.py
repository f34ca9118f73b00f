"""Optimizers of which nothing is picked, and how that is said."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.sweep.manifest import Cell, Sweep
from experiments.sweep.results import Best, conditions_of, groups


def without_pick(sweep: Sweep, picked: Sequence[Best]) -> list[str]:
    """Optimizers, and under which condition, of which nothing is picked."""

    def is_of(best: Best, first: Cell) -> bool:
        under = conditions_of(sweep, first)
        is_under = all(best.settings.get(key) == value for key, value in under.items())
        return best.optimizer == first.optimizer and is_under

    lost = [first for first, *_ in groups(sweep) if not any(is_of(b, first) for b in picked)]
    where = [", ".join(f"{k} {v}" for k, v in conditions_of(sweep, one).items()) for one in lost]
    pairs = zip(lost, where, strict=True)
    return [f"{one.optimizer}{f' ({under})' if under else ''}" for one, under in pairs]


def in_words(lost: Sequence[str]) -> str:
    """What `without_pick` has found; "" where that is nothing."""
    why = "no setting has finished with every seed"
    return f"nothing is picked of {', '.join(lost)}: {why}\n" if lost else ""
