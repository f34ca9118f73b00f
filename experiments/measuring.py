"""Rows for the ledger: evaluations, training losses and times of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from experiments.config import EvalConfig, RunConfig
from experiments.data.order import BatchPlan
from experiments.parts import Parts


def evaluation_interval(settings: EvalConfig, plan: BatchPlan) -> int | None:
    """Optimizer steps between two evaluations; None: only the last step is evaluated."""
    if settings.every_epochs is not None:
        return max(1, round(settings.every_epochs * plan.steps_per_epoch))
    return settings.every_steps


def divides(every: int | None, done: int) -> bool:
    """Whether it is time for what happens every so many steps."""
    return every is not None and done % every == 0


def autocast(config: RunConfig, device: torch.device) -> torch.autocast:
    """The precision of forward passes."""
    wanted = config.train.precision
    enabled = wanted == "bf16" or (wanted == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def evaluate(parts: Parts, step: int) -> list[dict[str, Any]]:
    """Ledger rows for the raw weights and, where there are any, the averaged ones."""
    modules: dict[str, nn.Module] = {"raw": parts.model}
    if parts.average is not None:
        modules["ema"] = parts.average.module
    rows = []
    for weights, module in modules.items():
        parts.world.copy_buffers(module)
        with _evaluating(module), autocast(parts.config, parts.world.device):
            size = parts.config.eval.batch_size
            for measured in parts.task.evaluate(module, size, parts.world):
                facts = asdict(measured)
                split, metric = facts.pop("split"), facts.pop("metric")
                value, unit = facts.pop("value"), facts.pop("unit")
                measurement = row(parts, step, split, metric, value, unit)
                rows.append({**measurement, **facts, "weights": weights})
    return rows


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def loss_rows(parts: Parts, step: int, lr_factor: float) -> list[dict[str, Any]]:
    """The mean training loss since the last report, and the learning rate."""
    return [
        row(parts, step, "train", "loss", parts.losses.mean(), "nats"),
        row(parts, step, "train", "lr", lr_factor * parts.peak_lrs[0], ""),
    ]


def time_rows(parts: Parts, step: int) -> list[dict[str, Any]]:
    """Where the time of a finished run has gone."""
    times = parts.watch.seconds.items()
    return [row(parts, step, "run", f"{what}_seconds", spent, "s") for what, spent in times]


def row(
    parts: Parts, step: int, split: str, metric: str, value: float, unit: str
) -> dict[str, Any]:
    """One measurement."""
    return {
        "step": step,
        "epoch": round(step / parts.plan.steps_per_epoch, 6),
        "split": split,
        "metric": metric,
        "value": value,
        "unit": unit,
        "weights": "raw",
        "n": None,
        "seconds": round(parts.watch.seconds["train"], 3),
    }


def in_words(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Each row in a few words."""
    for one in rows:
        weights = "" if one["weights"] == "raw" else f" ({one['weights']})"
        unit = "" if one["unit"] == "%" else " "
        yield f"{one['split']} {one['metric']}{weights} {one['value']:.4g}{unit}{one['unit']}"
