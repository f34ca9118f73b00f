"""Optimizers that train other weights than those they show: the schedule-free ones.

Such an optimizer has `train()` and `eval()`. Gradients are taken at y; what is measured, saved for
others and used is the average x (arXiv:2405.15682). The change from y to x and back is rounded, so
that here y is kept meanwhile: however often a run is measured or saved, it trains alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.config import ConfigError, ScheduleConfig


def is_schedule_free(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer shows other weights than it trains."""
    return all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval"))


def check(
    optimizer: torch.optim.Optimizer, model: nn.Module, has_average: bool, is_sharded: bool
) -> None:
    """Refuses what would measure or save the wrong weights.

    Raises:
        ConfigError: with such an optimizer, for averaging on top, for shards, and for statistics of
            batches, which would be of the weights that are trained, not of those that are shown.
    """
    if not is_schedule_free(optimizer):
        return
    name = type(optimizer).__name__
    if has_average:
        raise ConfigError(f"train.ema_decay: {name} averages the weights itself; set it to null")
    if is_sharded:
        raise ConfigError(f"launch.strategy: {name} trains with ddp only; it shows other weights")
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            raise ConfigError(
                f"optimizer: {name} shows other weights than it trains, so the running statistics "
                f"of {path} would not be theirs; take a model without BatchNorm"
            )


def warning(optimizer: torch.optim.Optimizer, schedule: ScheduleConfig) -> str:
    """What to say of a learning rate that decays, though averaging does its work; else ""."""
    if not is_schedule_free(optimizer) or schedule.name == "constant":
        return ""
    return (
        f"schedule.name={schedule.name}: {type(optimizer).__name__} is made for a learning rate "
        "that does not decay; set schedule.name=constant"
    )


def train(optimizer: torch.optim.Optimizer) -> None:
    """To be called before the first step, and after a checkpoint was loaded."""
    if is_schedule_free(optimizer):
        cast(Any, optimizer).train()


@contextlib.contextmanager
def shown(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The weights that are to be used, in the model's place; those that are trained come back."""
    if not is_schedule_free(optimizer):
        yield
        return
    params = [param for group in optimizer.param_groups for param in group["params"]]
    modes = [group["train_mode"] for group in optimizer.param_groups]
    kept = [param.detach().clone() for param in params]
    cast(Any, optimizer).eval()
    try:
        yield
    finally:
        with torch.no_grad():
            for param, trained in zip(params, kept, strict=True):
                param.copy_(trained)
        for group, mode in zip(optimizer.param_groups, modes, strict=True):
            group["train_mode"] = mode
