"""Measures the memory of full-size training steps on this CPU beside what `job=plan` predicts.

    python scripts/bench_memory.py        # results/bench/memory.csv

Each case is a fresh process that takes two real steps (random images) and reports what torch's
allocator held at most beside weights, state and batch in the second forward and backward pass
(profiler), and the peak of resident memory over that before the model was built.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

OUT = ROOT / "results" / "bench" / "memory.csv"
CASES = [
    (page, optimizer, size)
    for page, size in (("vit_s16_imagenet", 8), ("vit_b16_imagenet", 4))
    for optimizer in ("adamw", "lion")
]


def _config(page: str, optimizer: str, size: int) -> Any:
    from experiments.compose import compose

    changes = [f"train.batch_size={size}", "train.micro_batch_size=null", "train.precision=fp32"]
    return compose(
        [f"experiment={page}", f"optimizer={optimizer}", "launch.device=cpu", "job=plan", *changes]
    )


def predict(page: str, optimizer: str, size: int) -> dict[str, int]:
    """Bytes, as `job=plan` has them."""
    from experiments.planner import plan

    found = plan.make(_config(page, optimizer, size))
    memory = found["memory_bytes"]
    return {
        "weights": memory["weights"],
        "gradients": memory["gradients"],
        "optimizer_state": memory["optimizer_state"],
        "forward_and_backward": found["pass_bytes"],
        "peak": found["peak_bytes"],
    }


def measure(page: str, optimizer: str, size: int) -> dict[str, int]:
    """Bytes of a real step; in a fresh process."""
    import torch
    from torch.profiler import profile
    from torch.utils._pytree import tree_leaves

    from experiments.build import build
    from experiments.distributed import World
    from experiments.planner.stand_ins import task_without_data
    from experiments.planner.trial import freeze

    config = _config(page, optimizer, size)
    task = task_without_data(config)
    _warm_up(torch)
    before = _reset_peak()
    model = task.build_model().train()
    chosen = build(config.optimizer, "optimizer", freeze(model, config))
    batch = tuple(torch.randint(0, 10, t.shape).to(t.dtype) for t in task.example_batch(size))
    world = World(0, 1, torch.device("cpu"))
    task.loss(model, batch, world).mean.backward()
    chosen.step()  # makes the state: the second step is as all later ones
    chosen.zero_grad(set_to_none=True)
    with profile(profile_memory=True) as profiler:
        task.loss(model, batch, world).mean.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    chosen.step()
    state = [t for t in tree_leaves(dict(chosen.state)) if isinstance(t, torch.Tensor)]
    return {
        "weights": _bytes([*model.parameters(), *model.buffers()]),
        "gradients": _bytes(gradients),
        "optimizer_state": _bytes(state),
        "forward_and_backward": _peak_of(profiler),
        "peak": _peak() - before,
    }


def _warm_up(torch: Any) -> None:
    """Threads, kernels and the profiler have their memory before anything is measured."""
    layer = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.LazyLinear(8)
    )
    with torch.profiler.profile(profile_memory=True):
        layer(torch.randn(2, 3, 16, 16)).sum().backward()


def _peak_of(profiler: Any) -> int:
    events = profiler.profiler.kineto_results.events()
    live = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def _bytes(tensors: list[Any]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    text = Path("/proc/self/status").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def _fresh(case: tuple[str, str, int]) -> dict[str, int]:
    # Large blocks are given back to the system at once, so that resident memory is what is held.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--measure", json.dumps(case)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    """Runs the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # one case, in a process of its own
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*json.loads(args.measure))))
        return 0
    from experiments.surroundings import measured_on

    rows = []
    for case in CASES:
        predicted, measured = predict(*case), _fresh(case)
        for part, size in predicted.items():
            off = (size - measured[part]) / measured[part]
            names = dict(zip(("experiment", "optimizer", "batch_size"), case, strict=True))
            numbers = {"predicted_bytes": size, "measured_bytes": measured[part]}
            numbers["deviation_percent"] = f"{100 * off:.1f}"
            rows.append({**names, "part": part, **numbers, **measured_on()})
            print(rows[-1], flush=True)
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
