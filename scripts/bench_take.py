"""What a sweep's bookkeeping costs: a take at 100 to 5,000 cells, and 64 workers on one folder.

    python scripts/bench_take.py                     # results/bench/take.csv
    python scripts/bench_take.py --cells 100 1000 --workers 16 --out /tmp/take.csv

Nothing is trained. `take_ms` is the CPU time of one worker's look for its next cell when half of
the cells are finished, without claiming it; `states_ms` that of the state of every cell, as the
live view asks for it. `utilisation` is the share of their lives that so many processes spend in
pretended runs of 1 to 10 s (log-normal), eight cells for each process, start-up included; `twice`
counts cells that were taken more than once, of which there must be none.
"""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.config import RunConfig, to_dict  # noqa: E402
from experiments.identity import run_id  # noqa: E402
from experiments.store import Folder  # noqa: E402
from experiments.surroundings import measured_on  # noqa: E402
from experiments.sweep import worker, writing  # noqa: E402
from experiments.sweep.leases import Lease  # noqa: E402
from experiments.sweep.manifest import Cell, Sweep  # noqa: E402
from experiments.sweep.picking import Picker  # noqa: E402
from experiments.sweep.pool import Finished  # noqa: E402

OUT = ROOT / "results/bench/take.csv"
NUM_TAKES = 20


def main() -> int:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in args.cells:
            rows.append(bookkeeping(Path(folder) / f"{number}", number))
            print(rows[-1], flush=True)
        rows.append(crowd(Path(folder) / "crowd", args.workers))
        print(rows[-1])
    fields = list(dict.fromkeys(key for row in rows for key in row))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*fields, *measured_on()], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **measured_on()} for row in rows)
    return 0


def sweep_of(folder: Path, number: int) -> Sweep:
    """A sweep of so many cells that nobody has begun."""
    cells = []
    for seed in range(number):
        config = RunConfig(
            seed=seed,
            experiment="pretended",
            optimizer_name="lion",
            optimizer={"_target_": "lion.Lion", "lr": 1e-3},
            results_dir=str(folder / "runs"),
        )
        cells.append(Cell(run_id(config), "lion", seed, {"optimizer.lr": 1e-3}, to_dict(config)))
    return writing.write(folder / "sweeps" / "pretended", cells)


def finish(sweep: Sweep, cell: Cell) -> None:
    """What a run leaves behind that a sweep looks at."""
    folder = Folder(Path(sweep.manifest["runs_dir"]) / cell.run_id)
    with folder.locked():
        folder.write_status("finished", 1, 1)


def bookkeeping(folder: Path, number: int) -> dict[str, Any]:
    """CPU time of a take and of all states, half of the cells being finished."""
    sweep = sweep_of(folder, number)
    for cell in sweep.cells[: number // 2]:
        lease = sweep.leases.claim(cell.run_id, [])
        assert lease is not None
        finish(sweep, cell)
        lease.release("finished")
    mine = Picker(Sweep(sweep.path), 1, 2.0)
    lease = Lease("", 0, folder)
    mine._claim_all = lambda cells, _: [(cell, lease) for cell in cells]  # type: ignore[method-assign]
    mine.take()
    take = cpu_ms(mine.take)
    states = cpu_ms(sweep.states)
    return {"what": "bookkeeping", "cells": number, "take_ms": take, "states_ms": states}


def cpu_ms(work: Any) -> float:
    """Mean CPU time of a call."""
    began = time.process_time()
    for _ in range(NUM_TAKES):
        work()
    return round(1000 * (time.process_time() - began) / NUM_TAKES, 3)


def crowd(folder: Path, num_workers: int) -> dict[str, Any]:
    """Many workers on one folder."""
    sweep = sweep_of(folder, 8 * num_workers)
    context = multiprocessing.get_context("fork")
    worked, lived = context.Value("d", 0.0), context.Value("d", 0.0)
    processes = [
        context.Process(target=_pretend, args=(sweep.path, worked, lived))
        for _ in range(num_workers)
    ]
    for process in processes:
        process.start()
    ends = []
    for process in processes:
        process.join()
        ends.append(process.exitcode)
    leases = sweep.leases.scan()
    return {
        "what": "crowd",
        "cells": len(sweep.cells),
        "workers": num_workers,
        "twice": sum(len(all_of) > 1 for all_of in leases.values()),
        "unfinished": sum(state != "finished" for state in sweep.states().values()),
        "failed_workers": sum(code != 0 for code in ends),
        "utilisation": round(worked.value / lived.value, 3),
    }


def _pretend(path: Path, worked: Any, lived: Any) -> None:
    """A worker whose runs only take their time. It leaves when nothing is free."""
    began = time.monotonic()
    sweep = Sweep(path)
    by_id = {cell.run_id: cell for cell in sweep.cells}
    draw = random.Random(os.getpid())

    def run_one(config: RunConfig) -> Finished:
        seconds = min(max(math.exp(draw.gauss(math.log(3.0), 0.5)), 1.0), 10.0)
        time.sleep(seconds)
        finish(sweep, by_id[run_id(config)])
        with worked.get_lock():
            worked.value += seconds
        return Finished(0, "finished")

    worker.run_one = run_one
    code = worker.Worker(path).work(wait=False)
    with lived.get_lock():
        lived.value += time.monotonic() - began
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
