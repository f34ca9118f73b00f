"""Made-up studies whose best learning rate is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import known_truth
import pandas as pd


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    table = pd.DataFrame(rows)
    table["run_id"] = [f"{folder.parent.name}-{folder.name}-{n}" for n in range(len(table))]
    table.to_csv(folder / "runs.csv", index=False)


def grid(optimizer: str, best: float, **facts: Any) -> list[dict[str, Any]]:
    """A smooth top at `best`, on learning rates that are the same for all."""
    rows = []
    for lr in (1e-4 * 2.5**power for power in range(7)):
        for decay in (0.1, 1.0, 10.0):
            fall = 8 * math.log10(lr / best) ** 2 + math.log10(decay) ** 2
            setting = {"lr": lr, "weight_decay": decay, "batch_size": 4}
            rows.append(known_truth.run(optimizer, 0, 90 - fall, **{**setting, **facts}))
    return rows
