"""Sweeps whose runs were never trained: ledgers as they would have left them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny

from experiments.store import Ledger, write_json
from experiments.sweep.manifest import Cell, Sweep

Values = dict[tuple[str, float, float], tuple[float, float]]


def planned(root: Path, values: Values, seeds: int = 2, **more: Any) -> list[Cell]:
    made = []
    for name, lr, decay in values:
        for seed in range(seeds):
            config = tiny.config(
                root / "runs", optimizer_name=name, seed=seed, optimizer__lr=lr,
                optimizer__weight_decay=decay, **more,
            )  # fmt: skip
            settings = {"optimizer.lr": lr, "optimizer.weight_decay": decay}
            if "train__batch_size" in more:
                settings["train.batch_size"] = more["train__batch_size"]
            made.append(Cell.of(config, settings))
    return made


def pretend(sweep: Sweep, cell: Cell, val: float, test: float, state: str = "finished") -> None:
    """Writes what a run would leave behind."""
    folder = sweep.folder(cell)
    folder.path.mkdir(parents=True)
    row = {"epoch": 1.0, "weights": "raw", "unit": "%", "n": 9, "session": 0, "metric": "top1"}
    measured = [(5, "val", 1.0), (10, "val", val), (10, "test", test), (10, "train", 0.5)]
    Ledger(folder.metrics).append(
        [
            {**row, "step": s, "split": split, "value": v, "seconds": float(s)}
            for s, split, v in measured
        ]
    )
    optimizer = cell.config["optimizer"]
    session = {"start_step": 0, "commit": "abc", "versions": "{}", "device": "cpu x 1"}
    header = {
        "run_id": cell.run_id, "experiment": "tiny", "scale": "proxy", "stands_for": "x",
        "data": "tiny", "model": "Net", "num_params": 500, "optimizer": cell.optimizer,
        "lr": optimizer["lr"], "weight_decay": optimizer["weight_decay"], "batch_size": 16,
        "hyper_parameters": '{"betas": [0.9, 0.99], "lr": 1}', "seed": cell.seed,
        "provenance": "", "schema_version": 1, "sessions": [session],
    }  # fmt: skip
    write_json(folder.header, header)
    folder.write_status(state, 10, 10)
