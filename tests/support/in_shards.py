"""Runs of a model in shards, and how far their ends may lie apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forked
import tiny
import torch.distributed.checkpoint  # not in each of the forked processes

from experiments.config import RunConfig
from lion import momentum

LION = {"_target_": "lion.Lion", "lr": 3e-3, "weight_decay": 0.1}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "lion": LION,
    "lion bf16": {**LION, "momentum_dtype": "bfloat16"},
    "lion int8": {**LION, "momentum_dtype": "int8"},
    "adamw": {"_target_": "torch.optim.AdamW", "lr": 3e-3, "weight_decay": 0.1},
    "adafactor": {
        "_target_": "timm.optim.AdafactorBigVision",
        "lr": 3e-3,
        "min_dim_size_to_factor": 8,  # so that second moments are factored
    },
}
TOLERANCE = 1e-6
"""Of every weight, absolute, after 20 steps; found: 1.2e-7 (AdamW), 0.0 (Lion)."""
BF16_TOLERANCE = 3e-4
"""As above where a momentum in bfloat16 is the update (Adafactor): lr * 2^-8 a step, where a last
bit of a gradient rounds it otherwise. Found: 0.0 on an EPYC, 5.6e-5 on a Xeon."""
INT8_TOLERANCE = 0.03
"""As above; found: 0.022 (and 0.016 between one process and two that each hold all). Codes are
rounded by a hash of the momentum, so a last bit of a gradient moves a code, and a code a sign: a
weight moves by 2 lr = 0.006 a step where that happens."""

STATE_TOLERANCE = 0.45
"""See `state_difference`; found: 0.32 (int8, as weights move apart), and 0.62 to 0.84 with state
that is lost at one of the moves."""

TOLERANCES = {"lion int8": INT8_TOLERANCE, "adafactor": BF16_TOLERANCE}
"""By name of the optimizer; `TOLERANCE` of the others."""


def config(root: Path, name: str = "adamw", strategy: str = "fsdp", **changes: Any) -> RunConfig:
    """20 steps with micro-batches that weigh unlike, clipping, averages, dropout."""
    base: dict[str, Any] = {
        "task___target_": "layered.Task",
        "model": {"_target_": "layered.Net"},
        "optimizer": {"_partial_": True, **OPTIMIZERS[name]},
        "train__epochs": None,
        "train__steps": 20,
        "train__micro_batch_size": 4,
        "train__grad_clip_norm": 0.5,
        "eval__every_epochs": None,
        "eval__every_steps": 20,
        "eval__batch_size": 4,  # 6 batches of the test split for one process, 5 for the other
        "launch__strategy": strategy,
    }
    return tiny.config(root, **{**base, **changes})


def difference(one: RunConfig, other: RunConfig) -> float:
    """The largest of all weights and averages."""
    a, b = forked.weights(one), forked.weights(other)
    assert a["step"] == b["step"]
    found = [0.0]
    for part in ("model", "average"):
        state, others = a[part] or {}, b[part] or {}
        assert state.keys() == others.keys()
        found += [float((t - others[n]).abs().max()) for n, t in state.items() if t.numel()]
    return max(found)


def state_difference(one: RunConfig, other: RunConfig) -> float:
    """Of all that the optimizers remember, as float32: the norm of the gap over that of the first.

    Weights alone do not tell a lost state where their tolerance is wide: see `INT8_TOLERANCE`.
    """
    a, b = _remembered(one), _remembered(other)
    assert a.keys() == b.keys() and len(a) > 1
    gaps = torch.stack([(tensor - b[key]).norm() for key, tensor in a.items()])
    return float(gaps.norm() / torch.stack([tensor.norm() for tensor in a.values()]).norm())


def _remembered(config: RunConfig) -> dict[tuple[Any, str], torch.Tensor]:
    found = {}
    for number, state in forked.weights(config)["optimizer"]["state"].items():
        scale = state.get("exp_avg_scale")
        for key, value in state.items():
            if key == "exp_avg":
                found[number, key] = momentum.decode(value, scale, torch.float32)
            elif key not in ("exp_avg_scale", "step"):
                found[number, key] = value.float()
    return found
