"""What a step of each optimizer costs beside AdamW's: time, and bytes of state per parameter.

    python scripts/bench_optimizers.py             # 2 minutes, on a quiet machine
    python scripts/bench_optimizers.py --quick     # 2 rounds, prints only: is everything there?

The table is results/bench/optimizers.csv.
Each optimizer has its own copy of the weights and the same random gradients; the optimizers take
turns, so that all meet the same machine, and a ratio is of two steps of one round. Each is as its
page of conf/optimizer has it, and AdamW fused, too. State is counted from the state dict after the
steps, in bytes, over the trained parameters.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.surroundings import measured_on  # noqa: E402

OUT = ROOT / "results" / "bench" / "optimizers.csv"
THEIRS = "adamw"
OPTIMIZERS = (
    *(THEIRS, "lion", "clion", "lionc", "cadamw", "laprop", "adopt", "mars", "lamb"),
    *("schedulefree", "muon", "adamw, fused"),
)
OVERRIDES = {"adamw, fused": ["optimizer=adamw", "+optimizer.fused=true"]}
"""Beside the pages: torch's AdamW, whose default goes tensor by tensor on a CPU."""
MODELS = {"vit_signals_proxy": 300, "lm_proxy": 300, "vit_s16_imagenet": 25}
"""Pages of conf/experiment whose weights are stepped, and rounds that are timed."""
WARM_UP = 2
COLUMNS = ("model", "optimizer", "num_params", "seconds", "ratio", "ratio_low", "ratio_high",
           "state_bytes_per_param", "rounds", "threads", "commit", "cpu",
           "torch", "date")  # fmt: skip


class Contestant:
    """One optimizer on weights of its own."""

    def __init__(self, experiment: str, optimizer: str) -> None:
        import torch

        from experiments import schedule_free
        from experiments.build import build
        from experiments.compose import compose
        from experiments.planner.stand_ins import task_without_data
        from experiments.planner.trial import freeze

        config = compose([f"experiment={experiment}", "launch.device=cpu"])
        torch.manual_seed(0)
        model = task_without_data(config).build_model()
        section: dict[str, Any] = compose(
            [f"experiment={experiment}", *OVERRIDES.get(optimizer, [f"optimizer={optimizer}"])]
        ).optimizer
        self.optimizer = build(section, "optimizer", freeze(model, config))
        self.params = [p for group in self.optimizer.param_groups for p in group["params"]]
        for param in self.params:
            param.grad = 1e-3 * torch.randn_like(param)
        schedule_free.train(self.optimizer)
        self.seconds: list[float] = []

    @property
    def num_params(self) -> int:
        return sum(param.numel() for param in self.params)

    def step(self, is_timed: bool) -> None:
        begin = time.perf_counter()
        self.optimizer.step()
        if is_timed:
            self.seconds.append(time.perf_counter() - begin)

    def state_bytes(self) -> int:
        """Of every tensor in the state dict."""
        import torch
        from torch.utils._pytree import tree_leaves

        leaves = tree_leaves(self.optimizer.state_dict()["state"])
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measure(experiment: str, rounds: int) -> list[dict[str, Any]]:
    """A row for each optimizer: the median step, and the ratio to AdamW's with its quartiles."""
    import torch

    contestants = {name: Contestant(experiment, name) for name in OPTIMIZERS}
    for number in range(WARM_UP + rounds):
        for contestant in contestants.values():
            contestant.step(number >= WARM_UP)
    base = contestants[THEIRS].seconds
    rows = []
    for name, contestant in contestants.items():
        ratios = [mine / theirs for mine, theirs in zip(contestant.seconds, base, strict=True)]
        low, middle, high = quartiles(ratios)
        facts = (experiment, name, contestant.num_params, f"{quartiles(contestant.seconds)[1]:.4g}",
                 f"{middle:.3g}", f"{low:.3g}", f"{high:.3g}",
                 f"{contestant.state_bytes() / contestant.num_params:.3f}", rounds,
                 torch.get_num_threads())  # fmt: skip
        rows.append({**dict(zip(COLUMNS, facts, strict=False)), **measured_on()})
    return rows


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """A quarter, the middle and three quarters."""
    import numpy as np

    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def main() -> int:
    """Times all models; writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="2 rounds; nothing is written")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--out", type=Path, default=OUT, help="table")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    rows = []
    for experiment, rounds in MODELS.items():
        found = measure(experiment, 2 if args.quick else rounds)
        rows += found
        for row in found:
            print("  ".join(f"{row[key]}" for key in COLUMNS[:8]), flush=True)
    if not args.quick:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(f"written: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
