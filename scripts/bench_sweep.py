"""Measures a sweep of 25 cells or more on two cores: together, one by one, warm or fresh workers.

    python scripts/bench_sweep.py --case vit16                          # the main ways
    python scripts/bench_sweep.py --case mlp64 --ways together warm     # some of the ways
    python scripts/bench_sweep.py --table                               # print what was measured

Ways, each what `python run.py -m` starts once the sweep is planned (workers that read it from its
folder): together (two workers of one thread, cells trained together), threads (one worker of two
threads, cells trained together), alone (one worker of one thread, one cell after another), warm
(two such workers), fresh (two, with a process per cell).

`seconds` is the wall time of the whole sweep, with the start of its workers; `start_seconds` what
the same sweep takes where a run has a single step. `--cells N` trains only N cells the slow ways
(alone, fresh) and scales their time up; `cells_trained` tells. `--seeds 20` makes it a sweep of 100
cells. Results are merged into results/bench/sweep.csv, a line per case, size and way; the speed
over warm workers stays that of the hour in which a line was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import sys
import tempfile
import time
from collections.abc import Sequence
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
    "speed_over_warm", "commit", "cpu", "torch", "date",
)  # fmt: skip


def mlp() -> Any:
    """26,122 parameters; for images of 8x8 pixels."""
    from torch import nn

    layers = [nn.Flatten(), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(128, 10))


def cells(case: str, folder: Path, num_seeds: int, num_steps: int | None = None) -> list[Any]:
    """Five learning rates of Lion with as many seeds each; null steps: the page's own."""
    from dataclasses import replace

    from run import compose

    base = compose([*CASES[case][1], "launch.progress=false", f"results_dir={folder}/runs"])
    if case.startswith("mlp"):
        base = replace(base, model={"_target_": "bench_sweep.mlp"})
    if num_steps:
        base = replace(base, train=replace(base.train, epochs=None, steps=num_steps))
    return [
        replace(base, optimizer={**base.optimizer, "lr": lr}, seed=seed)
        for lr in LRS
        for seed in range(num_seeds)
    ]


WAYS: dict[str, dict[str, Any]] = {
    "together": {"num_workers": 2, "threads": 1, "max_group": 25},
    "threads": {"num_workers": 1, "threads": 2, "max_group": 25},
    "alone": {"num_workers": 1, "threads": 1},
    "warm": {"num_workers": 2, "threads": 1},
    "fresh": {"num_workers": 2, "threads": 1, "fresh_process": True},
}
"""Settings of `launcher=local`."""
SCALED = ("alone", "fresh")
"""Ways that `--cells` shortens."""


def train(configs: Sequence[Any], way: str, folder: Path) -> None:
    """The sweep of these runs, as `python run.py -m` starts it once it is planned."""
    from experiments.config import to_dict
    from experiments.identity import run_id
    from experiments.sweep import local, writing
    from experiments.sweep.manifest import Cell

    cells = [
        Cell(run_id(c), "lion", c.seed, {"optimizer.lr": c.optimizer["lr"]}, to_dict(c))
        for c in configs
    ]
    sweep = writing.write(folder / "sweep", cells, quiet=True)
    with contextlib.redirect_stdout(io.StringIO()):
        assert local.launch(sweep.path, **WAYS[way]) == 0


def measure(case: str, way: str, num_cells: int, num_seeds: int) -> dict[str, Any]:
    """Wall seconds of the whole sweep one way."""
    times = []
    for num_steps in (None, 1):
        with tempfile.TemporaryDirectory() as folder:
            configs = cells(case, Path(folder), num_seeds, num_steps)
            total = len(configs)
            chosen = configs[:: max(1, total // num_cells)] if way in SCALED else configs
            began = time.perf_counter()
            train(chosen, way, Path(folder))
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
        row["speed_over_warm"] = f"{float(warm['seconds']) / float(row['seconds']):.2f}"
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
            f"{row['start_seconds']} s, {row.get('speed_over_warm', '?')} x over warm workers "
            f"({row['cells_trained']} of {row['cells']} cells)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
