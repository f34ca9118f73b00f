"""Studies with a known truth, in the format of results/studies/*/runs.csv."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

LRS = {"adamw": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), "lion": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)}
DECAYS = {"adamw": (0.01, 0.1, 1.0), "lion": (0.1, 1.0, 10.0)}


def run(optimizer: str, seed: int, val: float, test: float | None = None, **more: Any) -> dict:
    """One row of a study."""
    facts: dict[str, Any] = {"experiment": "vit_proxy", "optimizer": optimizer, "lr": 1e-3}
    facts |= {"weight_decay": 0.1, "beta1": 0.9, "beta2": 0.99, "batch_size": 64, "epochs": 30.0}
    facts |= {"seed": seed, "state": "finished", "val": val, "test": val if test is None else test}
    facts |= {"steps": 510, "seconds": 5.0, "num_params": 39322, "data": "digits"}
    facts |= {"scale": "proxy", "sweep": "made_up", **more}
    facts["run_id"] = "-".join(
        f"{facts[k]}" for k in ("optimizer", "lr", "weight_decay", "beta1", "beta2", "batch_size")
    ) + f"-s{seed}"  # fmt: skip
    return facts


def grid(
    optimizer: str,
    best_lr: float,
    best_decay: float,
    *,
    top: float = 95.0,
    slope: float = 5.0,
    noise: float = 0.2,
    seeds: Sequence[int] = range(6),
    draw: int = 0,
) -> list[dict]:
    """An lr x weight decay grid that falls by `slope` points per factor of e from its best cell."""
    rows = []
    generator = np.random.default_rng([draw, *(ord(c) for c in optimizer)])
    for lr in LRS[optimizer]:
        for decay in DECAYS[optimizer]:
            away = abs(np.log(lr / best_lr)) + 0.3 * abs(np.log(decay / best_decay))
            for seed in seeds:
                value = top - slope * away + noise * generator.normal()
                rows.append(run(optimizer, seed, value, lr=lr, weight_decay=decay))
    return rows


def arms(
    means: dict[str, float], *, noise: float = 0.1, seeds: Sequence[int] = range(6), **more: Any
) -> list[dict]:
    """One setting per optimizer, whose seeds lie around a mean."""
    generator = np.random.default_rng(3)
    common = {seed: generator.normal() for seed in seeds}  # what a seed does to every optimizer
    return [
        run(name, seed, mean + common[seed] + noise * generator.normal(), **more)
        for name, mean in means.items()
        for seed in seeds
    ]


def curves(table: pd.DataFrame, value: Callable[[Any, int], float], every: int = 51) -> list[dict]:
    """Rows of curves.csv: `value(row, step)` on val/top1."""
    return [
        {"run_id": row.run_id, "step": step, "split": "val", "metric": "top1",
         "value": value(row, step), "seconds": step / 100}
        for row in table.itertuples()
        for step in range(every, row.steps + 1, every)
    ]  # fmt: skip
