"""Measures a sweep of 25 cells or more on two cores: together, one by one, warm or fresh workers.

    python scripts/bench_sweep.py --case vit16                          # the main ways
    python scripts/bench_sweep.py --case mlp64 --ways together warm     # some of the ways
    python scripts/bench_sweep.py --table                               # print what was measured

Ways, each in processes of its own: together (two processes of one thread, half of the cells each),
threads (one process of two threads), together_compiled (compiled before), together_cold (compiled
for the first time), alone ((a): one after another in one process of one thread), warm ((b): two
workers of one thread that stay alive), fresh ((c): a process per cell, two at a time).

`seconds` is the wall time of the whole sweep, with start-up and compiling; `start_seconds` what the
same call takes when all is done already, that is, start-up alone. `--cells N` trains only N cells
the slow ways (alone, fresh) and scales their time up; `cells_trained` tells. `--seeds 20` makes
it a sweep of 100 cells. Results are merged into results/bench/sweep.csv, a line per case, size and
way; the speed over warm workers stays that of the hour in which a line was measured.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

OUT = ROOT / "results/bench/sweep.csv"
LRS = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)
CASES: dict[str, tuple[str, list[str]]] = {
    "mlp16": ("MLP 64-128-128-10 on digits, batch 16, 2,130 steps", ["train.batch_size=16"]),
    "mlp64": ("MLP 64-128-128-10 on digits, batch 64, 510 steps", []),
    "vit16": ("vit_proxy at batch 16, 2,130 steps", ["train.batch_size=16"]),
    "vit64": ("vit_proxy, batch 64, 510 steps", []),
}
COLUMNS = (
    "case", "about", "way", "seconds", "start_seconds", "cells_trained", "cells",
    "speed_over_warm", "speed_over_warm_without_start", "commit", "cpu", "torch",
    "date",
)  # fmt: skip


def mlp() -> Any:
    """26,122 parameters; for images of 8x8 pixels."""
    from torch import nn

    layers = [nn.Flatten(), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(128, 10))


def cells(case: str, folder: Path, num_seeds: int) -> list[Any]:
    """Five learning rates of Lion with as many seeds each."""
    from dataclasses import replace

    from run import compose

    base = compose([*CASES[case][1], "launch.progress=false", f"results_dir={folder}"])
    if case.startswith("mlp"):
        base = replace(base, model={"_target_": "bench_sweep.mlp"})
    return [
        replace(base, optimizer={**base.optimizer, "lr": lr}, seed=seed)
        for lr in LRS
        for seed in range(num_seeds)
    ]


def together(configs: Sequence[Any], processes: int, threads: int, compile: bool | None) -> None:
    """As workers of a sweep do: each takes its share as one group."""
    from experiments.sweep.vectorised import groups

    os.environ.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    context = multiprocessing.get_context("spawn")
    (group,) = groups(configs)
    size = -(-len(group) // processes)
    shares = [[configs[i] for i in group[at : at + size]] for at in range(0, len(group), size)]
    started = [
        context.Process(target=_train_share, args=(share, threads, compile)) for share in shares
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
        assert process.exitcode == 0


def _train_share(configs: list[Any], threads: int, compile: bool | None) -> None:
    from dataclasses import replace

    from experiments.sweep.vectorised import run_group

    configs = [replace(c, launch=replace(c.launch, num_threads=threads)) for c in configs]
    assert {entry.state for entry in run_group(configs, compile=compile)} == {"finished"}


def pooled(configs: Sequence[Any], workers: int) -> None:
    """Workers that stay alive."""
    from experiments.sweep.pool import run_all

    assert {entry.state for entry in run_all(configs, workers, threads=1)} == {"finished"}


ONE_CELL = """
import json, sys
from experiments import runner
from experiments.config import from_dict
sys.exit(runner.main(from_dict(json.load(open(sys.argv[1])))))
"""


def fresh(configs: Sequence[Any]) -> None:
    """A process per cell, two at a time."""
    from experiments.config import to_dict

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "scripts")}
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, config in enumerate(configs):
            path = Path(scratch) / f"{number}.json"
            path.write_text(json.dumps(to_dict(config)))
            command = [sys.executable, "-c", ONE_CELL, str(path)]
            running.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
            )
            if len(running) == 2:
                _wait_for_one(running)
        while running:
            _wait_for_one(running)


def _wait_for_one(running: list[subprocess.Popen[bytes]]) -> None:
    while True:
        for process in running:
            if process.poll() is not None:
                assert process.returncode == 0
                running.remove(process)
                return
        time.sleep(0.01)


WAYS: dict[str, Callable[[Sequence[Any]], None]] = {
    "together": lambda configs: together(configs, 2, 1, False),
    "threads": lambda configs: together(configs, 1, 2, False),
    "together_compiled": lambda configs: together(configs, 2, 1, True),
    "together_cold": lambda configs: _cold(configs),
    "alone": lambda configs: pooled(configs, 1),
    "warm": lambda configs: pooled(configs, 2),
    "fresh": fresh,
}
SCALED = ("alone", "fresh")
"""Ways that `--cells` shortens."""


def _cold(configs: Sequence[Any]) -> None:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        together(configs, 2, 1, True)


def measure(case: str, way: str, num_cells: int, num_seeds: int) -> dict[str, Any]:
    """Wall seconds of the whole sweep one way."""
    with tempfile.TemporaryDirectory() as folder:
        configs = cells(case, Path(folder), num_seeds)
        total = len(configs)
        chosen = configs[:: max(1, total // num_cells)] if way in SCALED else configs
        times = []
        for _ in ("train", "find all done"):
            began = time.perf_counter()
            WAYS[way](chosen)
            times.append(time.perf_counter() - began)
    from experiments.surroundings import measured_on

    seconds, start = times
    if way == "fresh":  # every cell has a start
        seconds, start = (t * total / len(chosen) for t in times)
    else:
        seconds = start + (seconds - start) * total / len(chosen)
    return {
        "case": case,
        "about": CASES[case][0],
        "way": way,
        "seconds": round(seconds, 1),
        "start_seconds": round(start, 1),
        "cells_trained": len(chosen),
        "cells": total,
        **measured_on(),
    }


def merge(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Puts rows into the table, in place of older ones, with their speed over warm workers."""
    before: list[dict[str, Any]] = []
    if OUT.exists():
        with OUT.open() as file:
            before = [dict(row) for row in csv.DictReader(file)]
    kept = {(r["case"], int(r["cells"]), list(WAYS).index(r["way"])): r for r in [*before, *rows]}
    table = [row for _, row in sorted(kept.items())]
    for row in rows:
        warm = kept.get((row["case"], int(row["cells"]), list(WAYS).index("warm")))
        if warm is None:
            continue
        total, net = float(row["seconds"]), float(row["seconds"]) - float(row["start_seconds"])
        if row["way"] == "fresh":  # nothing to leave out
            net = total
        warm_total, warm_start = float(warm["seconds"]), float(warm["start_seconds"])
        row["speed_over_warm"] = f"{warm_total / total:.2f}"
        row["speed_over_warm_without_start"] = f"{(warm_total - warm_start) / net:.2f}"
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    return table


def main() -> int:
    """Measures, merges, prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", choices=CASES, nargs="+", default=[])
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=["together", "warm", "fresh"])
    parser.add_argument("--cells", type=int, default=25, help="cells of the slow ways")
    parser.add_argument("--seeds", type=int, default=5, help="a fifth of the sweep's cells")
    parser.add_argument("--table", action="store_true", help="only print the table")
    args = parser.parse_args()
    asked = [] if args.table else [(case, way) for case in args.case for way in args.ways]
    for row in merge([measure(*each, args.cells, args.seeds) for each in asked]):
        print(
            f"{row['case']:<6} {row['way']:<18} {row['seconds']:>6} s, start-up "
            f"{row['start_seconds']} s, {row.get('speed_over_warm', '?')} x over warm workers, "
            f"{row.get('speed_over_warm_without_start', '?')} x without start "
            f"({row['cells_trained']} of {row['cells']} cells)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
