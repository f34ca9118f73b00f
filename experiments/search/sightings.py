"""Which programs of a search are sign momentum, with which betas: all that it met on the way.

Most programs are not, and a tiny stream of updates says so in a tenth of a millisecond: with
weights of zero, the updates of sign momentum have one magnitude. The few others are tried by
`proof`. Programs of one structure are tried once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from experiments.search import hashing, liveness, probes, proof
from experiments.search.language import Program
from experiments.search.verdict import Verdict


class Sighting(NamedTuple):
    """A program of a search that is sign momentum, or is without clip, arcsin and the like."""

    number: int
    program: Program
    verdict: Verdict

    @property
    def lion(self) -> Verdict:
        """The betas of the program, or those that it has without what is left out."""
        return self.verdict.without or self.verdict


def find(programs: Iterable[tuple[int, Program]]) -> Iterator[Sighting]:
    """The first program of each structure that is sign momentum.

    Args:
        programs: Numbers and programs of valid types, in the order of the search.
    """
    met: set[str] = set()
    for number, program in programs:
        live = liveness.analyse(program)
        structure = hashing.structural_hash(program, live)
        if structure in met:
            continue
        met.add(structure)
        pruned = liveness.prune(program, live)
        if "g" not in live.read or not has_one_magnitude(pruned):
            continue
        verdict = proof.recognise(pruned)
        if verdict.family is not None or verdict.without is not None:
            yield Sighting(number, program, verdict)


@cache
def _probe() -> probes.Probe:
    """32 weights of zero, 3 steps of one learning rate."""
    random = np.random.default_rng(20230213)
    g = random.uniform(0.05, 0.99, (3, 32)) * random.choice((-1.0, 1.0), (3, 32))
    return probes.Probe(np.zeros_like(g), g, np.full(3, 0.25), (16, 16))


def has_one_magnitude(program: Program) -> bool:
    """Whether updates at weights of zero are as large for every weight and step, and not zero."""
    size = np.abs(probes.stream(program, _probe()))
    return bool(size.max() > 0 and np.all(size >= (1 - 1e-6) * size.max()))
