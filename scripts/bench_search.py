"""Measures how many programs a second are made and told apart, and audits proofs and liveness.

    python scripts/bench_search.py                    # rates, into results/bench/search.csv
    python scripts/bench_search.py --audit            # 10,000 programs, 1,000 disguises: minutes

Children are those of a search without selection: the parent is drawn from a population of 500 that
starts as AdamW and forgets its oldest, so that programs have grown as in a search. Rates are per
second of processor time of one core. `paper` are the paper's three mutations; `guided` those that
pick arguments of fitting types, and `wrap`.
"""

from __future__ import annotations

import argparse
import csv
import platform
import random
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests" / "support"))

OUT = ROOT / "results/bench/search.csv"
COLUMNS = ("what", "mutations", "children", "value", "unit", "cpu", "date")


def main() -> int:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--children", type=int, default=20_000)
    parser.add_argument("--audit", action="store_true", help="count faults instead of seconds")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    rows = list(audits() if args.audit else rates(args.children))
    for row in rows:
        print(f"{row['what']:44} {row['mutations']:8} {row['value']:>10} {row['unit']}")
    merge(args.out, rows)
    return 0


def rates(num_children: int) -> Iterator[dict[str, Any]]:
    """Children a second, stage by stage, for both sets of mutations."""
    from experiments.search.mutation import PAPER, WRAP, Mutator

    mutators = {
        "paper": Mutator(),
        "guided": Mutator(tuple({**PAPER, WRAP: 1.0}.items()), is_guided=True),
    }
    for name, mutator in mutators.items():
        children, seconds, num_tries = breed(mutator, num_children)
        structure = spent(children, structure_of)
        functional = spent(children, screen())
        lengths = sum(len(child) for child in children) / num_children
        for what, value, unit in (
            ("mutation and types", num_children / seconds, "children/s"),
            (
                "... and liveness, structural hash",
                num_children / (seconds + structure),
                "children/s",
            ),
            ("... and functional hash, death", num_children / (seconds + functional), "children/s"),
            ("mutants that are no program", 100 * (1 - num_children / num_tries), "%"),
            ("statements", lengths, "mean"),
        ):
            yield row(what, name, num_children, f"{value:.4g}", unit)


def breed(mutator: Any, num_children: int) -> tuple[list[Any], float, int]:
    """Children, the seconds that it took to make them, and how many mutants were drawn."""
    from experiments.search import library

    source = random.Random(0)
    population = deque([library.load("adamw")] * 500, maxlen=500)
    children, tries, start = [], 0, time.process_time()
    for _ in range(num_children):
        parent = source.choice(population)
        edit, drawn = mutator.mutate(parent, source)
        child = edit.apply(parent)
        tries += drawn
        children.append(child)
        population.append(child)
    return children, time.process_time() - start, tries


def structure_of(program: Any) -> None:
    """Liveness and structural hash."""
    from experiments.search import hashing, liveness

    hashing.structural_hash(program, liveness.analyse(program))


def screen() -> Any:
    """All that happens to a child before training, with a memory of what was met."""
    from experiments.search.screening import Screen

    return Screen()


def spent(children: list[Any], work: Any) -> float:
    """Seconds of processor time for some work on every child."""
    start = time.process_time()
    for child in children:
        work(child)
    return time.process_time() - start


def audits() -> Iterator[dict[str, Any]]:
    """Counts of what must never happen, and of what must always."""
    yield row("liveness changed an update", "", 10_000, liveness_faults(10_000), "programs")
    found, verified = disguises_found(1000)
    yield row("disguises of Lion with exact betas", "", 1000, found, "programs")
    yield row("... of which the checker verified", "", 1000, verified, "programs")
    false, undecided = near_misses(1000)
    yield row("near misses taken for the original", "", 1000, false, "programs")
    yield row("... left undecided", "", 1000, undecided, "programs")


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


def row(what: str, mutations: str, children: int, value: Any, unit: str) -> dict[str, Any]:
    """A line of the table."""
    cpu, date = platform.processor() or platform.machine(), time.strftime("%Y-%m-%d")
    return dict(zip(COLUMNS, (what, mutations, children, value, unit, cpu, date), strict=True))


def merge(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the lines beside those that were there and were not measured again."""
    import io

    from experiments.store import write_text

    old = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    new = {(r["what"], r["mutations"]) for r in rows}
    kept = [r for r in old if (r["what"], r["mutations"]) not in new]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*kept, *rows])
    write_text(path, buffer.getvalue())


if __name__ == "__main__":
    sys.exit(main())
