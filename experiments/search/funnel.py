"""From a search's best programs to those that hold elsewhere: three gates, each ten times larger.

    T1   every family, fresh seeds and data, three learning rates
    T2   the same with 10 times the steps
    T3   the suite's own proxies through run.py, with the exported program (`commands`)

A program is promoted if it beats the reference (tuned alike: the best of the same learning rates in
each round) by more than 2 standard errors on one family at least, and is not worse by more than 2
on any other. Survivors are ranked by their worst family. With five rounds, three families and
normal gains, one as good as the reference passes a gate in 14 % and both in 2.1 %; one far ahead on
a single family does not come through in 21 % (`bench_search.py --audit gates`).
Source: arXiv:2302.06675, section 2.3 (the funnel; its rule is not published, this one is ours).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments.pages import script
from experiments.search import finals
from experiments.search.evaluation import Tier
from experiments.search.finals import Final
from experiments.search.language import Program
from experiments.search.proxies.families import FAMILIES, family

STANDARD_ERRORS = 2.0
FACTOR = 10
GATES = ("T1", "T2")


@dataclass(frozen=True)
class Passage:
    """One program at one gate."""

    gate: str
    finals: dict[str, Final]  # by family

    @property
    def is_promoted(self) -> bool:
        """Better on one family, and not worse on any."""
        scores = [score(one) for one in self.finals.values()]
        return max(scores) > STANDARD_ERRORS and min(scores) >= -STANDARD_ERRORS

    @property
    def worst(self) -> float:
        """Standard errors by which it beats the reference on its worst family."""
        return min(score(one) for one in self.finals.values())


def score(final: Final) -> float:
    """Mean gain in standard errors; a failed round is -inf, no difference at all is 0."""
    if not math.isfinite(final.mean):
        return -math.inf
    if final.standard_error == 0:
        return math.copysign(math.inf, final.mean) if final.mean else 0.0
    return final.mean / final.standard_error


def tier_of(
    gate: str, name: str, num_steps: int, reference: str, lrs: Sequence[float] = ()
) -> Tier:
    """How a gate judges on a family: at the learning rates that the search names, if it does, else
    at the lowest three of the family, a factor of 4 apart.

    Args:
        gate: T1 | T2.
        name: Of the family.
        num_steps: Of the search.
        reference: Text of the program to beat.
        lrs: Of the search; none: the family's.
    """
    steps = num_steps * FACTOR ** GATES.index(gate)
    return Tier(name, steps, tuple(lrs) or family(name).lrs[:3], reference=reference)


def pass_gate(
    gate: str,
    programs: Sequence[Program],
    num_steps: int,
    reference: str,
    num_rounds: int,
    lrs: Sequence[float] = (),
    families: Sequence[str] = tuple(FAMILIES),
) -> list[Passage]:
    """Judges programs on every family.

    Args:
        gate: T1 | T2.
        programs: Those that came here.
        num_steps: Of the search.
        reference: Text of the program to beat.
        num_rounds: Seeds; rounds of fresh data that no final number of the search has used.
        lrs: Of the search; none: the families'.
        families: Names; ours, and the search's own.
    """
    first = 1000 * (1 + GATES.index(gate))
    by_family = {
        name: finals.evaluate(
            programs, tier_of(gate, name, num_steps, reference, lrs), num_rounds, first
        )
        for name in families
    }
    return [
        Passage(gate, {name: of[number] for name, of in by_family.items()})
        for number in range(len(programs))
    ]


def run(
    programs: Sequence[Program],
    num_steps: int,
    reference: str,
    num_rounds: int,
    lrs: Sequence[float] = (),
    on_passage: Callable[[int, Passage], None] = lambda number, passage: None,
    families: Sequence[str] = tuple(FAMILIES),
) -> list[list[Passage]]:
    """Takes programs through the gates.

    Args:
        programs: Valid ones.
        num_steps: Of the search.
        reference: Text of the program to beat.
        num_rounds: Seeds on each family, at least 2: one has no standard error.
        lrs: Of the search; none: the families'.
        on_passage: Told each program's place and passage as soon as it is known.
        families: Names; ours, and the search's own.

    Returns:
        Each program's passages, up to the gate where it was held back.
    """
    passages: list[list[Passage]] = [[] for _ in programs]
    here = list(range(len(programs)))
    for gate in GATES:
        if not here:
            break
        entering = [programs[n] for n in here]
        of_gate = pass_gate(gate, entering, num_steps, reference, num_rounds, lrs, families)
        for number, passage in zip(here, of_gate, strict=True):
            passages[number].append(passage)
            on_passage(number, passage)
        here = [n for n, passage in zip(here, of_gate, strict=True) if passage.is_promoted]
    return passages


def survivors(passages: Sequence[Sequence[Passage]]) -> list[int]:
    """Programs that were promoted at every gate, the best worst family first."""
    through = [n for n, of in enumerate(passages) if len(of) == len(GATES) and of[-1].is_promoted]
    return sorted(through, key=lambda number: -passages[number][-1].worst)


def commands(
    path: str, lrs: Sequence[float], experiments: Sequence[str] = ("vit_proxy",)
) -> list[str]:
    """T3: how the suite trains an exported program on its own proxies, five seeds each.

    Args:
        path: File with the program.
        lrs: Learning rates to try.
        experiments: Pages of conf/experiment.
    """
    rates = ",".join(f"{lr:g}" for lr in lrs)
    return [
        f"{script('run')} -m experiment={page} optimizer=program optimizer.path={path} "
        f"optimizer.lr={rates} seed=0,1,2,3,4"
        for page in experiments
    ]
