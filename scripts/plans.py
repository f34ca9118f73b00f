"""Writes what every experiment page would cost: results/plan.csv, results/plan_claim.csv.

    python scripts/plans.py            # minutes: every page, with Lion
    python scripts/plans.py vit_proxy  # renews the rows of these pages only
    python scripts/plans.py --sharded  # results/plan_sharded.csv: large pages on many devices

The second file works out a claim of the paper, that ViT-B/16 at batch 4,096 needs 8 TPU v4 chips
with Lion and 16 with AdamW.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.compose import compose  # noqa: E402
from experiments.nearest import nearest  # noqa: E402
from experiments.pages import CONF  # noqa: E402

OUT, CLAIM = ROOT / "results" / "plan.csv", ROOT / "results" / "plan_claim.csv"
SHARDED = ROOT / "results" / "plan_sharded.csv"
LARGE, MANY, CARD = ("llm_7b", "vit_gigantic14_jft3b"), (64, 1024), "H100-80GB"
OPTIMIZER = "lion"
SIZES = ("24", "80")


def row(page: str) -> dict[str, Any]:
    """What is known of a page, as one row of the table."""
    from experiments.planner import plan

    found = plan.make(compose([f"experiment={page}", f"optimizer={OPTIMIZER}", "job=plan"]))
    memory, activations = found["memory_bytes"], found["activation_bytes"]
    cells = {
        key: found[key]
        for key in (
            "experiment", "optimizer", "params_total", "params_trained", "steps", "batch_size",
            "micro_batch_size", "precision", "counted_for", "flops_per_step",
        )
    }  # fmt: skip
    cells["a100_hours"] = f"{found['device_hours']['A100-80GB']:.4g}"
    for part in ("weights", "gradients", "ema", "cast_weights", "activations", "batch", "total"):
        cells[f"{part}_bytes"] = memory[part]
    for name in ("with_checkpointing", "without_checkpointing"):
        size = activations[name]
        cells[f"activations_{name}_bytes"] = "" if size is None else size
    for name, size in found["optimizer_state_bytes"].items():
        cells[f"state_{name}_bytes"] = size
    for strategy in ("ddp", "fsdp"):
        for size in SIZES:
            number = found["devices_to_fit"][strategy][size]
            cells[f"{strategy}_devices_of_{size}_gb"] = "" if number is None else number
    return cells


def pages() -> list[str]:
    """Every experiment page."""
    return sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def claim_rows() -> list[dict[str, Any]]:
    """ViT-B/16 at batch 4,096 on TPU v4, by optimizer and number of chips."""
    from experiments.planner import claim

    return claim.work_out(compose(["experiment=vit_b16_imagenet", "job=plan"]))


def sharded_rows(page: str) -> list[dict[str, Any]]:
    """What a page would take on many devices, in shards; computed, not measured."""
    from experiments.planner import memory, plan

    config = compose([f"experiment={page}", f"optimizer={OPTIMIZER}", "job=plan"])
    (known,) = [row for row in read(OUT) if row["experiment"] == page]
    flops = int(known["flops_per_step"]) * int(known["steps"])
    hours = plan.device_hours(config, flops, known["precision"] == "bf16")[CARD]
    rows = []
    for optimizer, parts in plan.parts_by_optimizer(config).items():
        for devices in MANY:
            train = config.train
            size = memory.micro_batch(train.batch_size, train.micro_batch_size, devices)
            assert hours and size, page
            ways = {"ddp": ("ddp", devices), "hsdp": ("fsdp", 8), "fsdp": ("fsdp", devices)}
            held = {name: parts.on_device(*way, size)["total"] for name, way in ways.items()}
            rows.append(
                {"experiment": page, "optimizer": optimizer, "devices": devices}
                | {"params_total": known["params_total"], "micro_batch_size": size}
                | {f"{name}_bytes": total for name, total in held.items()}
                | {"checkpoint_bytes": parts.checkpoint, "days": f"{hours / 24 / devices:.3g}"}
            )
    return rows


def read(path: Path) -> list[dict[str, Any]]:
    """A table of `write`; empty where there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A CSV file."""
    found = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("pages", nargs="*", help="of conf/experiment; none: all")
    parser.add_argument("--sharded", action="store_true", help="the other table, nothing else")
    args = parser.parse_args(arguments)
    if unknown := sorted({*args.pages} - {*pages()}):
        parser.error(f"{unknown[0]}: no such page{nearest(unknown[0], pages(), '--help')}")
    if args.sharded:
        write(SHARDED, [row for page in LARGE for row in sharded_rows(page)])
        return 0
    rows = {r["experiment"]: r for r in read(OUT)} if args.pages else {}
    for page in args.pages or pages():
        rows[page] = row(page)
        print(f"{page}: {rows[page]['a100_hours']} A100-hours", flush=True)
        write(OUT, [rows[name] for name in sorted(rows)])
    write(CLAIM, claim_rows())
    return 0


if __name__ == "__main__":
    sys.exit(main())
