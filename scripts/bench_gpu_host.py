"""What does the GPU step cost the host? Lion's own work before the launch, which is left out.

    python scripts/bench_gpu_host.py [--json]

Needs no GPU: tensors on the CPU are looked at as if they were on one, by native code and by the
Python that serves without a compiler; the launch is replaced by nothing. Beside it torch's AdamW,
fused, on as many tensors of one element: what torch itself takes before its kernel has any work.
Least CPU time of many steps, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# First, as it says in a line what this Python lacks.
import experiments  # noqa: E402, F401

# isort: split
import torch  # noqa: E402
from torch import nn  # noqa: E402

from lion import Lion, fused_cuda, kinds  # noqa: E402

NUM_TENSORS = (152, 1000)  # ViT-B's, and a large model's
STEPS, ROUNDS = 20, 15


def make_params(number: int) -> list[nn.Parameter]:
    params = [nn.Parameter(torch.zeros(1)) for _ in range(number)]
    for param in params:
        param.grad = torch.ones(1)
    return params


def least_ms(step: Callable[[], Any]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.thread_time()
        for _ in range(STEPS):
            step()
        best = min(best, (time.thread_time() - start) / STEPS)
    return 1e3 * best


def lion_ms(number: int, *, native: bool) -> float:
    """Of a whole `Lion.step()`, from the wrapper of torch.optim to the launch."""
    optimizer = Lion(make_params(number), fused=False)
    optimizer.step()  # makes the state

    def at_once(self: Lion, group: dict[str, Any], before: int) -> bool:
        if native:
            return fused_cuda.step_group(group, self.state, before)
        states = [self.state[p] for p in group["params"]]
        columns = (group["params"], [p.grad for p in group["params"]])
        rule = {"lr": group["lr"], "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0}
        fused_cuda.update(*columns, [s["exp_avg"] for s in states], states, maximize=False, **rule)
        return True

    with (
        mock.patch.object(kinds, "DEVICE", "cpu"),
        mock.patch.object(fused_cuda, "_run", lambda *_, **__: None),
        mock.patch.object(Lion, "_step_at_once", at_once),
    ):
        optimizer.step()
        return least_ms(optimizer.step)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for number in NUM_TENSORS:
        adamw = torch.optim.AdamW(make_params(number), fused=True)
        adamw.step()
        rows.append(
            {
                "tensors": number,
                "lion_native_ms": lion_ms(number, native=True),
                "lion_python_ms": lion_ms(number, native=False),
                "adamw_fused_ms": least_ms(adamw.step),
            }
        )
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(", ".join(f"{key}: {value:.3g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
