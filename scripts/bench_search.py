"""Measures how many programs a second are made and told apart, and audits proofs and liveness.

    python scripts/bench_search.py                    # rates, into results/bench/search.csv
    python scripts/bench_search.py --audit proofs     # 10,000 programs, 1,000 disguises: minutes
    python scripts/bench_search.py --audit children --children 1000000    # does every one run?
    python scripts/bench_search.py --audit hits       # 2,000 hits of the cache
    python scripts/bench_search.py --audit gates      # who comes through the funnel by chance?

Children are those of a search without selection: the parent is drawn from a population of 500 that
starts as AdamW and forgets its oldest, so that programs have grown as in a search. Rates are per
second of processor time of one core. `paper` are the paper's three mutations; `guided` those that
pick arguments of fitting types, and `wrap`.
"""

from __future__ import annotations

import argparse
import csv
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
COLUMNS = ("what", "mutations", "children", "value", "unit", "commit", "cpu", "torch", "date")


def main() -> int:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--children", type=int, default=20_000)
    audits = ("proofs", "children", "hits", "gates")
    parser.add_argument("--audit", choices=audits, help="count faults, not seconds")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    rows = list(audited(args.audit, args.children) if args.audit else rates(args.children))
    for row in rows:
        print(f"{row['what']:44} {row['mutations']:8} {row['value']:>10} {row['unit']}")
    merge(args.out, rows)
    return 0


def rates(num_children: int) -> Iterator[dict[str, Any]]:
    """Children a second, stage by stage, for both sets of mutations."""
    from bench_search_audits import mutators

    for name, mutator in mutators().items():
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


def audited(name: str, num_children: int) -> Iterator[dict[str, Any]]:
    """Counts of what must never happen, and of what must always."""
    from bench_search_audits import AUDITS

    for what, mutations, count, value in AUDITS[name](num_children):
        yield row(what, mutations, count, value, "programs")


def row(what: str, mutations: str, children: int, value: Any, unit: str) -> dict[str, Any]:
    """A line of the table."""
    from experiments.surroundings import measured_on

    measured = dict(zip(COLUMNS, (what, mutations, children, value, unit), strict=False))
    return {**measured, **measured_on()}


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
