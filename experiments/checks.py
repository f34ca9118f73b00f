"""Refuses configurations that cannot work, before anything heavy is imported or built."""

from __future__ import annotations

import math
from typing import Any

from experiments import start_from
from experiments.config import JOBS, ConfigError, RunConfig, TrainConfig

_CHOICES = {
    "job": tuple(JOBS),
    "scale": ("paper", "proxy"),
    "schedule.name": ("cosine", "linear", "constant"),
    "train.precision": ("auto", "fp32", "bf16"),
    "train.param_dtype": ("float32", "bfloat16"),
    "launch.device": ("auto", "cpu", "cuda"),
    "tracking.wandb": ("disabled", "offline", "online"),
}
_POSITIVE = (
    "train.epochs",
    "train.steps",
    "train.batch_size",
    "train.micro_batch_size",
    "train.grad_clip_norm",
    "eval.every_epochs",
    "eval.every_steps",
    "eval.batch_size",
    "checkpoint.every_steps",
    "checkpoint.every_seconds",
    "checkpoint.keep",
    "launch.num_processes",
    "launch.num_threads",
    "launch.log_every_steps",
    "landscape.num_examples",
    "landscape.batch_size",
    "landscape.hessian_tolerance",
    "landscape.hessian_iterations",
)
_FRACTIONS = ("schedule.warmup_fraction", "schedule.final_fraction", "train.ema_decay")


def lookup(config: RunConfig, key: str) -> Any:
    """Value at a dotted key such as `train.batch_size`."""
    value: Any = config
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def check(config: RunConfig) -> None:
    """Refuses combinations that cannot work.

    Raises:
        ConfigError: names the key, its value and the fix.
    """
    for key, choices in _CHOICES.items():
        if lookup(config, key) not in choices:
            raise ConfigError(f"{key}={lookup(config, key)}: choose one of {', '.join(choices)}")
    for key in _POSITIVE:
        value = lookup(config, key)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"{key}={value}: must be a finite number greater than 0")
    for key in _FRACTIONS:
        value = lookup(config, key)
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"{key}={value}: must lie between 0 and 1")
    _check_section(config.task, "task")
    _check_section(config.data, "data")
    _check_section(config.model, "model")
    _check_section(config.optimizer, "optimizer")
    _check_optimizer(config.optimizer)
    _check_lengths(config)
    _check_param_dtype(config.train)
    _check_landscape(config)
    _check_judged_weights(config)
    start_from.sources(config)
    micro_batches(config, max(1, config.launch.num_processes))


def _check_judged_weights(config: RunConfig) -> None:
    weights = config.eval.weights
    if weights not in (None, "raw", "ema"):
        raise ConfigError(f"eval.weights={weights}: choose one of raw, ema, null")
    if weights == "ema" and config.train.ema_decay is None:
        raise ConfigError("eval.weights=ema: nothing is averaged; set train.ema_decay, e.g. 0.999")


def _check_section(section: Any, name: str) -> None:
    if not isinstance(section, dict) or not section.get("_target_"):
        raise ConfigError(f"no {name} chosen: pick an experiment page, e.g. experiment=vit_proxy")


def _check_optimizer(optimizer: dict[str, Any]) -> None:
    """Ranges that hold for every optimizer; the constructors check the rest."""
    for key in ("lr", "weight_decay", "eps", "momentum"):
        if key not in optimizer:
            continue
        value = optimizer[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"optimizer.{key}={value!r}: must be a number")
        if not (value >= 0 and math.isfinite(value)):
            raise ConfigError(f"optimizer.{key}={value}: must be a finite number >= 0")
    betas = optimizer.get("betas")
    if betas is None:
        return
    if not isinstance(betas, list | tuple) or not all(_is_beta(b) for b in betas):
        raise ConfigError(
            f"optimizer.betas={betas}: each beta must be a number with 0 <= beta < 1, "
            "e.g. optimizer.betas=[0.9,0.99]"
        )


def _is_beta(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


def _check_param_dtype(train: TrainConfig) -> None:
    if train.param_dtype == "float32":
        return
    if train.precision != "bf16":
        raise ConfigError(
            f"train.param_dtype={train.param_dtype} with train.precision={train.precision}: "
            "set train.precision=bf16"
        )
    if train.ema_decay is not None:
        raise ConfigError(
            f"train.param_dtype={train.param_dtype} rounds an average of decay {train.ema_decay} "
            "away: set train.ema_decay=null or train.param_dtype=float32"
        )


def _check_lengths(config: RunConfig) -> None:
    train, evals = config.train, config.eval
    if (train.epochs is None) == (train.steps is None):
        raise ConfigError(
            f"train.epochs={train.epochs}, train.steps={train.steps}: give exactly one "
            "(set the other to null)"
        )
    if evals.every_epochs is not None and evals.every_steps is not None:
        raise ConfigError("eval.every_epochs and eval.every_steps are both set: set one to null")


def _check_landscape(config: RunConfig) -> None:
    settings = config.landscape
    for key in ("sigmas", "relative_scales"):
        if not all(scale > 0 and math.isfinite(scale) for scale in getattr(settings, key)):
            said = getattr(settings, key)
            raise ConfigError(f"landscape.{key}={said}: each must be a finite number above 0")
    if settings.num_draws < 4:
        raise ConfigError(
            f"landscape.num_draws={settings.num_draws}: a standard error needs 4 or more"
        )
    if not 0 <= settings.hessian_examples <= settings.num_examples:
        raise ConfigError(
            f"landscape.hessian_examples={settings.hessian_examples}: must lie between 0 and "
            f"landscape.num_examples={settings.num_examples}"
        )


def micro_batches(config: RunConfig, num_processes: int) -> tuple[int, int]:
    """Splits the global batch over processes and forward passes.

    Args:
        config: The run.
        num_processes: World size, >= 1.

    Returns:
        Examples per forward pass, and forward passes per optimizer step and process.

    Raises:
        ConfigError: where the batch does not divide; names a size that does.
    """
    batch, micro = config.train.batch_size, config.train.micro_batch_size
    if batch % num_processes:
        raise ConfigError(
            f"train.batch_size={batch} does not divide over {num_processes} processes: "
            f"set train.batch_size={max(1, batch // num_processes) * num_processes}"
        )
    share = batch // num_processes
    if micro is None:
        return share, 1
    if micro > share or share % micro:
        fits = max(d for d in range(1, min(micro, share) + 1) if share % d == 0)
        raise ConfigError(
            f"train.micro_batch_size={micro} does not divide the {share} examples that each of "
            f"{num_processes} process(es) takes per step: set train.micro_batch_size={fits}"
        )
    return micro, share // micro
