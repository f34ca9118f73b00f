"""From a program as a search leaves it to the shortest one that is worth the same, step by step.

    liveness -> ablation -> rounding -> rewriting -> proof

Liveness and rewriting keep every update; ablation and rounding keep the held-out loss of a small
proxy within a tolerance, and what they leave out is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from experiments.config import UserError
from experiments.search import ablation, liveness, proof, rewriting
from experiments.search.language import Program
from experiments.search.verdict import Verdict


@dataclass
class Simplified:
    """The way from a program to a shorter one.

    Attributes:
        steps: (stage, what was done, the program after it), in order.
        verdict: What `proof` says of the last program.
    """

    steps: list[tuple[str, str, Program]] = field(default_factory=list)
    verdict: Verdict | None = None

    @property
    def program(self) -> Program:
        """The last program."""
        return self.steps[-1][2]


def simplify(
    program: Program,
    measure: ablation.Measure | None = None,
    tolerance: float = 0.01,
    keep: Sequence[str] = ablation.KEPT,
) -> Simplified:
    """Simplifies a program.

    Args:
        program: A program of valid types.
        measure: Trains programs, for ablation and rounding; None leaves these two out.
        tolerance: Nats of held-out loss that may be lost, >= 0.
        keep: What ablation leaves alone, a part of `ablation.KEPT`.
    """
    way = Simplified([("start", f"{len(program)} statements", program)])
    pruned = liveness.prune(program)
    removed = len(program) - len(pruned)
    way.steps.append(("liveness", f"{removed} statements change no update", pruned))
    if measure is not None:
        for removal in ablation.ablate(pruned, measure, tolerance, keep):
            said = f"without `{removal.what}`: {removal.gain:+.4f} nats"
            way.steps.append(("ablation", said, removal.program))
        for removal in ablation.round_constants(way.program, measure, tolerance):
            said = f"{removal.what}: {removal.gain:+.4f} nats"
            way.steps.append(("rounding", said, removal.program))
    rewritten = rewriting.rewrite(way.program)
    if rewritten != way.program:
        said = f"{len(way.program)} statements become {len(rewritten)}, equal in exact arithmetic"
        way.steps.append(("rewriting", said, rewritten))
    way.verdict = proof.prove(way.program)
    return way


def proxy_measure(
    program: Program,
    family: str,
    num_rounds: int,
    num_steps: int | None = None,
    first_round: int = 0,
) -> ablation.Measure:
    """Gains over a program on a small proxy, on data that no search trains on.

    Every program is trained at the proxy's learning rates, divided by the size of the original's
    update at lr = 1, since programs bring step sizes of their own; the best rate counts.

    Args:
        program: The original, with which all are compared, pair by pair.
        family: Name of a proxy, e.g. "mlp".
        num_rounds: Pairs: streams of training data, initial weights, windows of held-out data.
        num_steps: Of a training; None for the proxy's own.
        first_round: Rounds before it belong to others.
    """
    from experiments.search.evaluation import Job, NoStandard, Tier, judge, standard_of
    from experiments.search.finals import fresh
    from experiments.search.proxies import families

    families.check(family)
    size = _update_size(program)
    rates = tuple(rate / size for rate in families.family(family).lrs)
    tier = fresh(Tier(family=family, lrs=rates, reference=program.text()))
    if num_steps is not None:
        tier = replace(tier, num_steps=num_steps)

    def measure(programs: list[Program]) -> list[list[float]]:
        try:
            standard_of(tier, first_round)
        except NoStandard:
            raise UserError(
                f"the program itself has no finite loss on {family} at any learning rate tried: "
                "name another proxy, or shorten it without training (simplify --exact)"
            ) from None
        rounds = [
            judge([Job(p, tier, first_round + r) for p in programs]) for r in range(num_rounds)
        ]
        return [[outcome.fitness for outcome in of] for of in zip(*rounds, strict=True)]

    return measure  # type: ignore[return-value]


def _update_size(program: Program) -> float:
    """Root mean square of the update at lr = 1 and weights of zero, 1 if that says nothing."""
    import numpy as np

    from experiments.search import probes

    probe = probes.small()
    still = probe._replace(w=np.zeros_like(probe.w), lr=np.ones_like(probe.lr))
    size = float(np.sqrt(np.mean(np.square(probes.stream(program, still)))))
    return size if 0 < size < np.inf else 1.0
