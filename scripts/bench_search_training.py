"""Measures how quickly a search trains and replays, and how busy it keeps many workers.

    python scripts/bench_search_training.py           # into results/bench/search_training.csv

Trainings: AdamW at the learning rates of the family. `one process` has one thread, and counts
seconds of processor time, so that a busy machine disturbs it less; `two workers` are two processes
at once, by the clock on the wall. `simulated`: 64 workers on
a clock that only counts, batches that take a log-normal 50 to 500 ms. Replay: a search of 100,000
candidates with pretended fitnesses, made again from its log.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

OUT = ROOT / "results/bench/search_training.csv"
COLUMNS = ("what", "setting", "value", "unit", "load", "commit", "cpu", "torch", "date")
SIZES = (1, 4, 16, 32)


def main() -> int:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="for each measurement")
    parser.add_argument("--candidates", type=int, default=100_000, help="of the replayed search")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    rows = []
    for measure in (alone, two_workers, simulated):
        for row in measure(args.seconds):
            rows.append(row)
            print(f"{row['what']:28} {row['setting']:34} {row['value']:>9.4g} {row['unit']}")
    for row in replayed(args.candidates):
        rows.append(row)
        print(f"{row['what']:28} {row['setting']:34} {row['value']:>9.4g} {row['unit']}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "value": f"{row['value']:.4g}"} for row in rows)
    return 0


def row(what: str, setting: str, value: float, unit: str) -> dict[str, Any]:
    """One line of the table, with what else the machine does."""
    from experiments.surroundings import measured_on

    return {
        "what": what,
        "setting": setting,
        "value": value,
        "unit": unit,
        "load": f"{os.getloadavg()[0]:.1f}",
        **measured_on(),
    }


def jobs_of(family: str, count: int, lrs: tuple[float, ...] = ()) -> list[Any]:
    """AdamW so many times, trained to the end; at the family's learning rates, if none is given."""
    from experiments.search import library
    from experiments.search.evaluation import Job, Tier

    program = library.load("adamw_early")
    return [Job(program, Tier(family, 100, lrs, reference=program.text()), 0)] * count


def rate_of(jobs: list[Any], seconds: float) -> float:
    """Programs per second of processor time, after one to warm up."""
    from experiments.search.evaluation import judge

    judge(jobs[:1])
    count, began = 0, time.process_time()
    while (spent := time.process_time() - began) < seconds:
        judge(jobs)
        count += len(jobs)
    return count / spent


def alone(seconds: float) -> Iterator[dict[str, Any]]:
    """One process: programs a second by the size of the micro-batch."""
    from experiments.search.proxies.families import FAMILIES

    for family in ("mlp", "lm"):
        rates = {size: rate_of(jobs_of(family, size), seconds) for size in SIZES}
        lrs = FAMILIES[family].lrs
        lanes = len(lrs)
        single = rate_of(jobs_of(family, 1, lrs[1:2]), seconds)
        yield row("one process", f"{family}, one training at a time", single, "trainings/s")
        for size, rate in rates.items():
            yield row("one process", f"{family}, {size} programs together", rate, "programs/s")
        best = max(rates.values())
        yield row("one process", f"{family}, best size", lanes * best, "trainings/s")
        yield row("one process", f"{family}, together over alone", best / rates[1], "x")
        ratio = lanes * best / single
        yield row("one process", f"{family}, together over one training at a time", ratio, "x")


def two_workers(seconds: float) -> Iterator[dict[str, Any]]:
    """Two processes of the pool, 16 programs a batch."""
    from experiments.search.executors.pool import Pool
    from experiments.search.proxies.families import FAMILIES

    for family in ("mlp", "lm"):
        pool = Pool(2)
        try:
            pooled(pool, jobs_of(family, 1), 4)  # imports, data, the reference
            rate = pooled(pool, jobs_of(family, 16), max(4, round(seconds)))
        finally:
            pool.close()
        lanes = len(FAMILIES[family].lrs)
        yield row("two workers", f"{family}, 16 programs together", rate, "programs/s")
        yield row("two workers", f"{family}, 16 programs together", lanes * rate, "trainings/s")


def pooled(pool: Any, jobs: list[Any], num_batches: int) -> float:
    """Programs a second over some batches, the workers busy from the first to the last but one."""
    began, sent, done = time.perf_counter(), 0, 0
    while done < num_batches:
        while sent < num_batches and pool.room() > 0:
            pool.submit(sent, jobs)
            sent += 1
        done += len(pool.collect())
    return num_batches * len(jobs) / (time.perf_counter() - began)


def simulated(_seconds: float) -> Iterator[dict[str, Any]]:
    """How busy 64 workers are."""
    import searched

    from experiments.search.controller import Controller
    from experiments.search.executors.simulated import Simulated
    from experiments.search.screening import Screening

    def new(program: Any) -> Any:
        return Screening(program.id, program.id)

    for mode, window in (("free", 128), ("ordered", 128), ("ordered", 256), ("ordered", 512)):
        executor, state = Simulated(64), searched.state()
        state.screen = new  # type: ignore[assignment]
        rules = searched.rules(20_000, mode=mode, window=window, batch_size=1)
        Controller(rules, state, executor, lambda event: None).run()
        yield row("simulated", f"{mode}, window {window}", 100 * executor.utilisation, "% busy")


def replayed(num_candidates: int) -> Iterator[dict[str, Any]]:
    """Seconds to make a search again from its log."""
    import searched

    from experiments.search import events, library
    from experiments.search.replay import restore

    rules = replace(searched.rules(num_candidates, window=256), rotate_every=1000)
    options = {"population": 1000, "recheck_every": 1000}
    first, log = searched.search(rules, searched.Pretended(4), start=searched.state(**options))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.write_text("".join(json.dumps(event) + "\n" for event in log))
        for again in (False, True):
            state, began = searched.state(**options), time.perf_counter()
            initial = library.load(searched.INITIAL)
            restore(rules, state, events.read(path), initial, again)
            spent = time.perf_counter() - began
            assert state.strategy.digest() == first.strategy.digest()
            what = f"{num_candidates} candidates" + (", mutations too" if again else "")
            yield row("replay", what, spent, "s")


if __name__ == "__main__":
    sys.exit(main())
