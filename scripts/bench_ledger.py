"""How quickly the table of many runs is read, from the folders and from the compacted copy.

    python scripts/bench_ledger.py --runs 100000

Makes synthetic run folders (each with the files of a real run, 12 measurements), times
`experiments.table.read_runs` before and after `experiments.table.compact`, and removes them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments import table  # noqa: E402
from experiments.table import read_runs  # noqa: E402

SESSION = {
    "commit": "948c1c2",
    "versions": json.dumps({"python": "3.11", "torch": "2.14.1", "timm": "1.0.31"}),
    "device": "cpu x 1",
}


def main() -> None:
    """Runs the comparison and prints a line per case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--changed", type=int, default=100, help="runs that change after the copy")
    parser.add_argument("--folder", type=Path, help="where to make them (default: a temporary one)")
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="ledger-", dir=args.folder))
    try:
        timed(f"making {args.runs:,} run folders", lambda: make(root, args.runs))
        timed("reading the folders", lambda: read_runs(root))
        timed("first compaction", lambda: table.compact(root))
        size = (root / table.COMPACTED).stat().st_size / 2**20
        print(f"the copy has {size:.1f} MB")
        timed("reading the copy", lambda: read_runs(root))
        timed("reading the copy, val and test only", lambda: read_runs(root, ("val", "test")))
        for number in range(args.changed):
            write(root, number, seconds=2.0)
        timed(f"reading the copy, {args.changed} runs changed", lambda: read_runs(root))
        timed(f"compacting again, {args.changed} runs changed", lambda: table.compact(root))
    finally:
        shutil.rmtree(root)


def timed(what: str, work: Callable[[], Any]) -> None:
    """Prints how long a piece of work took."""
    start = time.perf_counter()
    result = work()
    rows = f" ({len(result):,} rows)" if hasattr(result, "columns") else ""
    print(f"{what:<45} {time.perf_counter() - start:8.2f} s{rows}", flush=True)


def make(root: Path, number: int) -> None:
    """Writes synthetic runs: 10 experiments x 10 optimizers x seeds."""
    for index in range(number):
        write(root, index)


def write(root: Path, index: int, seconds: float = 1.0) -> None:
    """Writes one run's files as a real run would leave them."""
    experiment, optimizer, seed = f"exp{index % 10}", f"opt{index // 10 % 10}", index // 100
    name = f"{experiment}-{optimizer}-s{seed}-{index:010x}"
    settings = {"_target_": "torch.optim.AdamW", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}
    header = {
        "schema_version": 1, "run_id": name, "experiment": experiment, "scale": "proxy",
        "stands_for": "vit_b16_imagenet", "optimizer": optimizer, "lr": 1e-3, "weight_decay": 0.1,
        "hyper_parameters": json.dumps(settings), "batch_size": 64, "seed": seed,
        "provenance": "synthetic", "data": "digits", "model": "VisionTransformer",
        "num_params": 39322, "sessions": [SESSION],
    }  # fmt: skip
    row = {"epoch": 1.0, "unit": "", "weights": "raw", "n": 359, "session": 0, "seconds": seconds}
    splits = ("train", "val", "test")
    rows = [
        {**row, "step": step, "split": split, "metric": metric, "value": 0.5 + index % 97}
        for step in (10, 20)
        for split in splits
        for metric in ("loss", "top1")
    ]
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(header))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "status.json").write_text(json.dumps({"state": "finished", "step": 20}))


if __name__ == "__main__":
    main()
