"""Refuses configurations that cannot work, before anything heavy is imported or built."""

from __future__ import annotations

from typing import Any

from experiments import limits, limits_of_parts, settings, start_from
from experiments.config import ConfigError, RunConfig, ScheduleConfig, TrainConfig
from experiments.ranges import check_all, shown


def lookup(config: RunConfig, key: str) -> Any:
    """Value at a dotted key such as `train.batch_size`."""
    value: Any = config
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def check(config: RunConfig) -> None:
    """Refuses values outside of their ranges, and combinations that cannot work.

    Raises:
        ConfigError: names the key, its value and the fix.
    """
    for key, allowed in limits.RUN.items():
        allowed.check(key, lookup(config, key))
    for name in ("task", "data", "model", "optimizer"):
        _check_section(getattr(config, name), name)
    check_all(config.task, settings.RANGES.get(config.task["_target_"], {}), "task")
    check_all(config.model, limits_of_parts.of_model(config.model), "model")
    check_all(config.optimizer, limits_of_parts.of_optimizer(config.optimizer), "optimizer")
    _check_lengths(config)
    _check_param_dtype(config.train)
    _check_schedule(config.schedule)
    _check_landscape(config)
    _check_judged_weights(config)
    _check_start(config)
    _check_shards(config)
    micro_batches(config, config.launch.num_processes)


def _check_shards(config: RunConfig) -> None:
    launch, saving = config.launch, config.checkpoint
    if launch.shard_size is not None:
        if launch.strategy != "hsdp":
            raise ConfigError(
                f"launch.shard_size={launch.shard_size} does nothing with "
                f"launch.strategy={launch.strategy}: set launch.strategy=hsdp"
            )
        if launch.num_processes > 1:
            check_shard_size(launch.shard_size, launch.num_processes)
    if saving.asynchronous and saving.format == "whole":
        raise ConfigError(
            "checkpoint.asynchronous=true with checkpoint.format=whole: only shards are written "
            "while training goes on; set checkpoint.format=sharded"
        )


def check_shard_size(size: int, num_processes: int) -> None:
    """Refuses groups of processes that cannot each share a model (launch.strategy=hsdp).

    Raises:
        ConfigError: names the sizes that fit.
    """
    if size < 2 or num_processes % size:
        fits = [n for n in range(2, num_processes + 1) if num_processes % n == 0]
        raise ConfigError(
            f"launch.strategy=hsdp: {num_processes} processes are no groups of {size} that share a "
            f"model: set launch.shard_size to one of {', '.join(map(str, fits))}"
        )


def _check_judged_weights(config: RunConfig) -> None:
    if config.eval.weights == "ema" and config.train.ema_decay is None:
        raise ConfigError("eval.weights=ema: nothing is averaged; set train.ema_decay, e.g. 0.999")


def _check_start(config: RunConfig) -> None:
    for entry in start_from.entries(config):
        if isinstance(entry, dict):
            check_all(entry, limits.START_FROM, "start_from")
        elif entry:
            limits.START_FROM["source"].check("start_from", entry)
    start_from.sources(config)


def _check_section(section: Any, name: str) -> None:
    if not isinstance(section, dict) or not section.get("_target_"):
        raise ConfigError(f"no {name} chosen: pick an experiment page, e.g. experiment=vit_proxy")
    if not isinstance(section["_target_"], str):
        raise ConfigError(f"{name}._target_={shown(section['_target_'])}: must be a dotted path")


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


_ONLY_OF = {
    "final_fraction": ("cosine", "linear", "constant"),
    "timescale": ("rsqrt",),
    "cooldown_steps": ("rsqrt", "constant"),
}
"""Settings of the schedule, and the shapes that heed them."""


def _check_schedule(schedule: ScheduleConfig) -> None:
    """Refuses a setting that would do nothing, and give the same run another name."""
    default = ScheduleConfig()
    for key, names in _ONLY_OF.items():
        value = getattr(schedule, key)
        if value != getattr(default, key) and schedule.name not in names:
            raise ConfigError(
                f"schedule.{key}={value} does nothing with schedule.name={schedule.name}: leave it "
                f"at {getattr(default, key)}, or choose {' or '.join(names)}"
            )


def _check_lengths(config: RunConfig) -> None:
    train, evals = config.train, config.eval
    if (train.epochs is None) == (train.steps is None):
        raise ConfigError(
            f"train.epochs={train.epochs}, train.steps={train.steps}: give exactly one (say "
            "train.epochs=null beside train.steps=N, train.steps=null beside train.epochs=N)"
        )
    if evals.every_epochs is not None and evals.every_steps is not None:
        raise ConfigError("eval.every_epochs and eval.every_steps are both set: set one to null")


def _check_landscape(config: RunConfig) -> None:
    asked = config.landscape
    if asked.hessian_examples > asked.num_examples:
        raise ConfigError(
            f"landscape.hessian_examples={asked.hessian_examples}: must lie between 0 and "
            f"landscape.num_examples={asked.num_examples}"
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
