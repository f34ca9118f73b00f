"""What must never happen to programs of a search, counted; `bench_search.py --audit` writes it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

NUM_CHILDREN = 50_000
"""With each set of mutations."""
NUM_HITS = {"paper": 500, "guided": 100}
"""Guided programs are longer, and seldom equal to one that was met before: these take as long."""
TOLERANCE = 1e-6
"""Largest difference of two updates that are one, relative to the root mean square of a step."""


def of_proofs() -> Iterator[tuple[str, str, int, int]]:
    """What is counted, with which mutations, among how many programs, how often."""
    yield "liveness changed an update", "", 10_000, liveness_faults(10_000)
    found, verified = disguises_found(1000)
    yield "disguises of Lion with exact betas", "", 1000, found
    yield "... of which the checker verified", "", 1000, verified
    false, undecided = near_misses(1000)
    yield "near misses taken for the original", "", 1000, false
    yield "... left undecided", "", 1000, undecided


def of_children() -> Iterator[tuple[str, str, int, int]]:
    """As `of_proofs`, among the children of a search without selection."""
    from experiments.search.mutation import PAPER, WRAP, Mutator

    for name, mutator in {
        "paper": Mutator(),
        "guided": Mutator(tuple({**PAPER, WRAP: 1.0}.items()), is_guided=True),
    }.items():
        yield "children that do not run", name, NUM_CHILDREN, not_running(mutator, NUM_CHILDREN)
        num_hits = NUM_HITS[name]
        yield "hits of the cache on other programs", name, num_hits, false_hits(mutator, num_hits)


def children(mutator: Any) -> Iterator[Any]:
    """Children without end: the parent is drawn from 500 that forget their oldest."""
    from experiments.search import library

    source = random.Random(1)
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


def false_hits(mutator: Any, num_hits: int) -> int:
    """Programs of a new structure that the screen takes for a known one, and other data do not.

    One of the 98,304 updates on data that no search looks at is enough: a clamp of the gradient at
    0.93, say, that the screen's own data do not reach. Hits of equal structure are not counted.
    """
    import numpy as np

    from experiments.search import liveness, probes
    from experiments.search.screening import Screen

    screen, probe = Screen(), probes.make(3, 4096, 24)  # other data than a search looks at
    known: dict[str, Any] = {}
    hits = faults = 0
    for child in children(mutator):
        screened = screen(child)
        if not screened.is_new or screened.key is None:
            continue
        if screened.key not in known:
            known[screened.key] = liveness.prune(child)
            continue
        one, other = (probes.stream(p, probe) for p in (known[screened.key], liveness.prune(child)))
        size = np.sqrt(np.mean(np.square(one), axis=1, keepdims=True))
        is_same = np.abs(one - other) <= TOLERANCE * size
        if not (is_same | (np.isnan(one) & np.isnan(other))).all():
            faults += 1
            print(f"told apart by other data:\n{known[screened.key].text()}\n{child.text()}")
        hits += 1
        if hits == num_hits:
            return faults
    raise AssertionError("children end")


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


AUDITS = {"proofs": of_proofs, "children": of_children}
