"""Hits of the cache audited: programs of a search that counted as ones that were met before.

Two questions. Do other data than a search looks at tell the two apart, in float64? And would a
training, in float32, have judged them otherwise? Hits of equal structure are not asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

RELATIVE, OF_STEP = 1e-6, 1e-12
"""Updates are one if they differ by less than the sum of these shares: the first of the update, the
second of the root mean square of its step, as rounding leaves where large numbers cancel."""
NATS = 1e-3
"""Largest difference of two fitnesses that are one."""
NUM_TOGETHER = 32

Pair = tuple[Any, Any]


def merged(children: Iterable[Any], num_hits: int) -> Iterator[Pair]:
    """The program that stands for a key, and a child of another structure that hit it."""
    from experiments.search import liveness
    from experiments.search.screening import Screen

    screen = Screen()
    known: dict[str, Any] = {}
    for child in children:
        screened = screen(child)
        if not screened.is_new or screened.key is None:
            continue
        pruned = liveness.prune(child)
        if known.setdefault(screened.key, pruned) is pruned:
            continue
        yield known[screened.key], pruned
        num_hits -= 1
        if not num_hits:
            return


def data() -> list[Any]:
    """Streams that no search looks at, of more weights and more steps than those that it does."""
    from experiments.search import probes

    return [
        probes.make(3, 4096, 24),
        probes.make_wide(11, 8192, 48),
        probes.make_wide(12, 8192, 48, largest=1e2, lowest_lr=1e-6),
        probes.make_wide(13, 256, 1000, largest=3.0, is_schedule=True),
    ]


def told_apart(pair: Pair, streams: Iterable[Any], finite: bool = False) -> bool:
    """Whether one update, of one weight in one step, differs; every NaN is one.

    Args:
        pair: Two programs.
        streams: As `data` gives them.
        finite: Whether only updates count that are finite in both: overflow apart.
    """
    return any(_differ(*pair, probe, finite) for probe in streams)


def _differ(one: Any, other: Any, probe: Any, finite: bool) -> bool:
    import numpy as np

    from experiments.search import probes

    with np.errstate(all="ignore"):
        a, b = (probes.stream(program, probe) for program in (one, other))
        size = np.sqrt(np.mean(np.square(np.where(np.isfinite(a), a, 0)), axis=1, keepdims=True))
        is_close = np.abs(a - b) <= RELATIVE * np.abs(a) + OF_STEP * size
        if finite:
            is_close |= ~np.isfinite(a) | ~np.isfinite(b)
    return not (is_close | (a == b) | (np.isnan(a) & np.isnan(b))).all()


def judged_otherwise(pairs: list[Pair]) -> list[Pair]:
    """Those with other fitnesses on 100 steps of the perceptron, judged as in a search."""
    import torch

    from experiments.search import library
    from experiments.search.evaluation import Job, Tier, judge

    torch.set_num_threads(1)
    tier = Tier("mlp", reference=library.load("adamw_early").text())
    jobs = [Job(program, tier, 0) for pair in pairs for program in pair]
    fitness: list[float] = []
    for start in range(0, len(jobs), NUM_TOGETHER):
        fitness += [outcome.fitness for outcome in judge(jobs[start : start + NUM_TOGETHER])]
    worth = zip(fitness[::2], fitness[1::2], strict=True)
    return [pair for pair, two in zip(pairs, worth, strict=True) if not _are_one(*two)]


def _are_one(one: float, other: float) -> bool:
    """Failed programs are all one."""
    if math.isfinite(one) and math.isfinite(other):
        return abs(one - other) <= NATS
    return one == other
