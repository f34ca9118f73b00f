"""What tests of single runs share: changes of the tiny run, and looks at what it left."""

from __future__ import annotations

from typing import Any

import forked
import tiny
from torch import Tensor

from experiments.config import RunConfig
from experiments.data.order import derive, seed_all
from experiments.store import read_rows

PLAIN = {"model__batch_norm": False, "model__dropout": 0.0}
"""No state and no noise in the model."""
SGD = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}
ADAMW = {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 3e-3, "weight_decay": 0.1}}
STEPS: dict[str, Any] = {"train__epochs": None, "eval__every_epochs": None}


def values(config: RunConfig, split: str, metric: str, weights: str = "raw") -> dict[int, float]:
    return {
        r["step"]: r["value"]
        for r in read_rows(forked.folder(config) / "metrics.jsonl")
        if (r["split"], r["metric"], r["weights"]) == (split, metric, weights)
    }


def initial_weights(config: RunConfig) -> dict[str, Tensor]:
    seed_all(derive(config.seed, "init"))
    model = tiny.Net(**{k: v for k, v in config.model.items() if k != "_target_"})
    return {name: value.clone() for name, value in model.state_dict().items()}
