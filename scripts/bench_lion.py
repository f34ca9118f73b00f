"""How fast is a Lion step? Ours, the peers that are installed, AdamW, SGD and the roof of memory.

    python scripts/bench_lion.py [--params vit_base|vit_small|tiny|micro] [--json] [--publish]
    python scripts/bench_lion.py --whole-step [--params vit_base|vit_small]
    pip install -e '.[peers]'                                   # the other implementations

All step the same parameters and gradients in turn, in one process, in an order that is shuffled
each round; the numbers are medians of whole `optimizer.step()` calls. A turn is a burst of steps,
whose first is not counted; with --burst 1 it is, and every step finds cold caches. The roof is a
plain C loop with Lion's traffic (read p, g, m; write p, m: 20 bytes a parameter). Peers: timm,
lion-pytorch, torch-optimi, pytorch_optimizer, bitsandbytes; whichever can be imported.

--whole-step runs the real model (ViT-S/16 at batch 8, ViT-B/16 at batch 1) with the optimizers in
turn: the time of a training step is the median of forward and backward, plus that of the step.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# First, as it says in a line what this Python lacks.
import experiments  # noqa: E402, F401

# isort: split
import torch  # noqa: E402
from bench_lion_contestants import SIZES, Roof, contestants, make_params  # noqa: E402

from experiments.surroundings import measured_on  # noqa: E402

ROUNDS = {"vit_base": 9, "vit_small": 15, "tiny": 31, "micro": 51}
BURST = {"vit_base": 3, "vit_small": 4, "tiny": 12, "micro": 30}
PATIENCE_SECONDS = 60.0  # for all turns of one contestant
BATCH = {"vit_base": 1, "vit_small": 8}


def state_bytes(optimizer: Any) -> int:
    values = [x for state in optimizer.state.values() for x in state.values()]
    return sum(x.nbytes for x in values if isinstance(x, torch.Tensor))


def seconds_of(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(size: str, rounds: int, burst: int, only: str) -> list[dict[str, Any]]:
    """Time all contestants in turn; one row each, the roof first."""
    params = make_params(size)
    number = sum(p.numel() for p in params)
    optimizers, first = {}, {}
    times: dict[str, list[float]] = {}
    for name, make in {"roof": Roof, **contestants()}.items():
        if name != "roof" and not re.search(only, name):
            continue
        start = time.perf_counter()
        optimizers[name] = make(params)
        optimizers[name].step()
        first[name] = time.perf_counter() - start
        seconds = min(seconds_of(optimizers[name].step) for _ in range(3))  # compilers warm up
        if seconds * rounds * burst > PATIENCE_SECONDS:
            print(
                f"{name}: one step took {seconds:.3g} s, so it has no more turns", file=sys.stderr
            )
            times[name] = [seconds]
    order = random.Random(0)
    turns = [name for name in optimizers if name not in times]
    times.update({name: [] for name in turns})
    for _ in range(rounds):
        for name in order.sample(turns, len(turns)):
            step = optimizers[name].step
            for turn in range(burst):
                seconds = seconds_of(step)
                if turn or burst == 1:
                    times[name].append(seconds)
    ms = {name: 1e3 * statistics.median(times[name]) for name in optimizers}
    best_peer = min((ms[n] for n in ms if _is_peer(n)), default=float("nan"))
    return [
        {
            "name": name,
            "ms": ms[name],
            "roof_percent": 100 * ms["roof"] / ms[name],
            "speedup_over_timm_foreach": ms.get("Lion (timm, foreach)", float("nan")) / ms[name],
            "speedup_over_best_peer": best_peer / ms[name],
            "speedup_over_adamw_fused": ms.get("AdamW (torch, fused)", float("nan")) / ms[name],
            "first_step_seconds": first[name],
            "state_bytes_per_param": state_bytes(optimizers[name]) / number,
        }
        for name in ms
    ]


def _is_peer(name: str) -> bool:
    return name.startswith("Lion (") and "ours" not in name


def measure_whole_step(size: str, rounds: int) -> list[dict[str, Any]]:
    """Forward, backward and step of the real model, the optimizers taking turns."""
    import timm

    model = timm.create_model(f"{size}_patch16_224")
    images = torch.randn(BATCH[size], 3, 224, 224)
    params = list(model.parameters())
    makers = {n: m for n, m in contestants().items() if "AdamW" in n or "Lion" in n}
    optimizers: dict[str, Any] = {}
    model_seconds: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in makers}
    for round_number in range(rounds + 1):  # the first warms up
        for name in random.Random(round_number).sample(list(makers), len(makers)):
            start = time.perf_counter()
            model.zero_grad()
            model(images).square().mean().backward()
            middle = time.perf_counter()
            if name not in optimizers:
                optimizers[name] = makers[name](params)
            optimizers[name].step()
            if round_number:
                model_seconds.append(middle - start)
                times[name].append(time.perf_counter() - middle)
    forward_backward = 1e3 * statistics.median(model_seconds)
    rows = []
    for name, column in times.items():
        step = 1e3 * statistics.median(column)
        whole = forward_backward + step
        rows.append({"name": name, "step_ms": step, "share_percent": 100 * step / whole})
        rows[-1] |= {"whole_step_ms": whole}
    adamw = next(r["whole_step_ms"] for r in rows if r["name"] == "AdamW (torch, fused)")
    return [r | {"whole_step_gain_percent": 100 * (adamw / r["whole_step_ms"] - 1)} for r in rows]


def build_seconds() -> float:
    """Compile the kernels from nothing, as on a new machine, in a process of its own."""
    program = (
        "import time, torch; from lion import native; "
        "start = time.perf_counter(); native.library(); print(time.perf_counter() - start)"
    )
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"LION_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", program]
        return float(subprocess.run(command, env=environment, capture_output=True).stdout)


def machine() -> dict[str, Any]:
    return {**measured_on(), "threads": torch.get_num_threads(), "load": os.getloadavg()[0]}


def print_table(rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    print("| " + " | ".join(column.replace("_", " ") for column in columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        cells = (x if isinstance(x, str) else f"{x:.3g}" for x in row.values())
        print("| " + " | ".join(cells) + " |")


def publish(facts: dict[str, Any], rows: list[dict[str, Any]], whole_step: bool) -> None:
    """Write results/bench/lion_SIZE.json, or lion_whole_step_SIZE.json."""
    folder = ROOT / "results/bench"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"lion_{'whole_step_' if whole_step else ''}{facts['params']}.json"
    (folder / name).write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    print(f"Published: {folder / name}", file=sys.stderr)


def main() -> None:
    lines = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=lines)
    parser.add_argument("--params", choices=SIZES, default="vit_base")
    parser.add_argument("--rounds", type=int, help="default: by size, 9 to 51")
    parser.add_argument("--burst", type=int, help="steps a turn; default: by size, 3 to 30")
    parser.add_argument("--only", default="", help="a regular expression on the names")
    parser.add_argument("--whole-step", action="store_true", help="forward, backward and step")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--publish", action="store_true", help="write results/bench/, too")
    args = parser.parse_args()
    if args.whole_step:
        if args.params not in BATCH:
            parser.error(f"--whole-step is for {' and '.join(BATCH)}")
        rows, build = measure_whole_step(args.params, args.rounds or 5), None
    else:
        build = build_seconds()
        rounds, burst = args.rounds or ROUNDS[args.params], args.burst or BURST[args.params]
        rows = measure(args.params, rounds, burst, args.only)
    facts = {"params": args.params, "build_seconds": build, **machine()}
    if args.publish:
        publish(facts, rows, args.whole_step)
    if args.json:
        print(json.dumps({**facts, "rows": rows}, indent=1))
    else:
        print(", ".join(f"{key}: {value}" for key, value in facts.items()), end="\n\n")
        print_table(rows)


if __name__ == "__main__":
    main()
