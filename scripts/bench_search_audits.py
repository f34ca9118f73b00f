"""What must never happen to programs of a search, counted; `bench_search.py --audit` writes it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

Counted = tuple[str, str, int, int]
"""What is counted, with which mutations, among how many, how often."""
NUM_HITS = 500
"""With each set of mutations and each seed."""
SEEDS = 1, 1001
"""The probes were mended for what the first showed; the second was drawn when they stood."""


def of_proofs(_: int) -> Iterator[Counted]:
    """Proofs, the checker of their certificates, and liveness."""
    yield "liveness changed an update", "", 10_000, liveness_faults(10_000)
    found, verified = disguises_found(1000)
    yield "disguises of Lion with exact betas", "", 1000, found
    yield "... of which the checker verified", "", 1000, verified
    false, undecided = near_misses(1000)
    yield "near misses taken for the original", "", 1000, false
    yield "... left undecided", "", 1000, undecided


def of_hits(_: int) -> Iterator[Counted]:
    """Among the hits of the cache in a search without selection."""
    import bench_search_hits as audit

    streams = audit.data()
    for name, mutator in mutators().items():
        pairs = [pair for seed in SEEDS for pair in audit.merged(children(mutator, seed), NUM_HITS)]
        apart = [pair for pair in pairs if audit.told_apart(pair, streams)]
        finite = [pair for pair in apart if audit.told_apart(pair, streams, finite=True)]
        otherwise = audit.judged_otherwise(pairs)
        for what, found in (("other data", apart), ("a training", otherwise)):
            for one, other in found:
                print(f"told apart by {what}:\n{one.text()}\n{other.text()}")
        yield "hits of the cache on other programs", name, len(pairs), len(apart)
        yield "... by a finite update", name, len(pairs), len(finite)
        yield "hits that a training judges otherwise", name, len(pairs), len(otherwise)


def of_children(num_children: int) -> Iterator[Counted]:
    """Among the children of a search without selection, half with each set."""
    for name, mutator in mutators().items():
        faults = not_running(mutator, num_children // 2)
        yield "children that do not run", name, num_children // 2, faults


def mutators() -> dict[str, Any]:
    """The paper's three mutations; ours, that pick arguments of fitting types, and `wrap`."""
    from experiments.search.mutation import PAPER, WRAP, Mutator

    return {
        "paper": Mutator(),
        "guided": Mutator(tuple({**PAPER, WRAP: 1.0}.items()), is_guided=True),
    }


def children(mutator: Any, seed: int = 1) -> Iterator[Any]:
    """Children without end: the parent is drawn from 500 that forget their oldest."""
    from experiments.search import library

    source = random.Random(seed)
    population = deque([library.load("adamw")] * 500, maxlen=500)
    while True:
        parent = source.choice(population)
        edit, _ = mutator.mutate(parent, source)
        child = edit.apply(parent)
        population.append(child)
        yield child


def not_running(mutator: Any, num_children: int) -> int:
    """Children with which two steps of training raise, or end in other shapes than they began."""
    from itertools import islice

    import torch

    from experiments.search import hashing, liveness
    from experiments.search.execution import torch_step

    torch.set_num_threads(1)
    w, g = torch.randn(2, 2, 3)  # two lanes, three weights
    lr, zeros = torch.full((2, 1), 0.1), torch.zeros(2, 3)
    seen: set[str] = set()
    faults = 0
    for child in islice(children(mutator), num_children):
        structure = hashing.structural_hash(child, liveness.analyse(child))
        if structure in seen:
            continue
        seen.add(structure)
        try:
            step = torch_step(child)
            _, m, v = step(w, g, zeros, zeros, lr)
            outputs = step(w, g, m, v, lr)
            good = all(o.shape == w.shape and o.dtype == w.dtype for o in outputs)
        except Exception as error:  # any of them is counted
            print(f"{type(error).__name__}: {error}\n{child.text()}")
            good = False
        faults += not good
    return faults


def liveness_faults(num_programs: int) -> int:
    """Random programs some update of which changes when what does not matter is left out."""
    import numpy as np
    from programs import from_seed

    from experiments.search import liveness, probes

    probe, faults = probes.make(5, 24, 6), 0
    for seed in range(num_programs):
        program = from_seed(seed, 20)
        streams = [probes.stream(p, probe) for p in (program, liveness.prune(program))]
        bits = [np.where(np.isnan(s), np.nan, s).view(np.int64) for s in streams]
        faults += not np.array_equal(*bits)
    return faults


def disguises_found(num_programs: int) -> tuple[int, int]:
    """Disguises that the proof recognises with their betas; those that the checker verifies."""
    from experiments.search import checker, disguises, proof
    from experiments.search.language import parse

    found = verified = 0
    for seed in range(num_programs):
        source = random.Random(seed)
        recipe = disguises.draw_recipe(source)
        verdict = proof.prove(parse(disguises.disguise(recipe, source)))
        if facts(verdict) == facts(recipe):
            found += 1
            try:
                checker.verify(verdict.certificate)
            except checker.Refused as error:
                print(f"not verified: seed {seed}: {error}")
            else:
                verified += 1
    return found, verified


def near_misses(num_programs: int) -> tuple[int, int]:
    """Near misses that are taken for the original; those of which nothing was decided."""
    from experiments.search import disguises, proof
    from experiments.search.language import parse

    false = undecided = 0
    for seed in range(num_programs):
        source = random.Random(10**6 + seed)
        recipe = disguises.draw_recipe(source)
        fault = disguises.FAULTS[seed % len(disguises.FAULTS)]
        verdict = proof.prove(parse(disguises.disguise(recipe, source, fault)))
        false += facts(verdict) == facts(recipe)
        undecided += not verdict.is_decided
    return false, undecided


def facts(known: Any) -> tuple[Any, ...]:
    """Betas, scale and decay, of a verdict or of a recipe."""
    scale = known.lr_scale if hasattr(known, "lr_scale") else known.scale
    decay = known.weight_decay if hasattr(known, "weight_decay") else known.decay
    return known.beta1, known.beta2, scale, decay


def of_gates(_: int) -> Iterator[Counted]:
    """Of programs whose gains are made up: through the funnel, by its own rule and five rounds."""
    count = 20_000
    for what, ahead in (
        ("as good as the reference", 0.0),
        ("10 standard errors ahead on one", 10.0),
    ):
        one = passed(count, ahead)
        yield f"{what}, through a gate", "", count, sum(gate for gate, _ in one)
        yield f"{what}, through both", "", count, sum(gate and then for gate, then in one)


def passed(count: int, ahead: float, num_rounds: int = 5) -> list[tuple[bool, bool]]:
    """Whether each made-up program passes the first gate, and whether it would pass the second.

    Args:
        count: Programs.
        ahead: On the first family, in standard errors of its mean; on the others by nothing.
        num_rounds: Normal gains on each family.
    """
    from experiments.search import funnel
    from experiments.search.finals import Final
    from experiments.search.proxies.families import FAMILIES

    source, mean = random.Random(0), ahead / num_rounds**0.5

    def passes(gate: str) -> bool:
        gains = {
            name: tuple(source.gauss(0 if place else mean, 1) for _ in range(num_rounds))
            for place, name in enumerate(FAMILIES)
        }
        finals = {name: Final(of, (None,) * num_rounds) for name, of in gains.items()}
        return funnel.Passage(gate, finals).is_promoted

    return [(passes("T1"), passes("T2")) for _ in range(count)]


AUDITS = {"proofs": of_proofs, "children": of_children, "hits": of_hits, "gates": of_gates}
