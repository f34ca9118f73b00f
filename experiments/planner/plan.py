"""A plan of a run: everything that can be known before it starts, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from experiments.build import what_is_trained
from experiments.config import ConfigError, RunConfig
from experiments.planner import memory, model_facts, optimizer_state
from experiments.planner.memory import Activations, Parts
from experiments.planner.stand_ins import num_steps, task_without_data
from experiments.planner.trial import Blank, Trial

MANY = 32
"""Times the micro-batch, up to which activations are counted."""
DEVICES_OF_A_HOST = 8
"""Where launch.shard_size does not say otherwise."""


BASIS = {
    **dict.fromkeys(("weights", "gradients", "optimizer_state", "ema", "batch"), "exact"),
    **dict.fromkeys(("cast_weights", "gathered", "activations", "total"), "estimated"),
}
"""How sure each part of the memory is: sizes of tensors that are there all the time, or what is
counted operation by operation with the kernels and casts that a device is documented to have."""


@dataclass(frozen=True)
class Counted:
    """The trials of a model."""

    one: Trial  # of the micro-batch
    by_size: dict[int, Trial]  # of this and other numbers of examples
    with_checkpoints: Trial | None
    without_checkpoints: Trial | None


def make(config: RunConfig) -> dict[str, Any]:
    """Counts; nothing is trained, and no data are read but those that packages ship.

    Raises:
        ConfigError: for settings that cannot be built, or that cannot be counted.
    """
    task = task_without_data(config)
    steps = num_steps(config, task)
    devices = config.launch.num_processes
    size, accumulates = _micro_batch(config)
    blank, counted, bytes_of = _tried(config, task)
    parts = _parts(blank, config, counted, size, bytes_of[""])
    flops = counted.one.flops * (config.train.batch_size // size)
    model = blank.model
    return {
        "experiment": config.experiment,
        "optimizer": config.optimizer_name,
        "what": what_is_trained(config),
        "params_total": model_facts.num_params(model),
        "params_trained": model_facts.num_params(model, trained_only=True),
        "params_by_group": model_facts.groups(model),
        "steps": steps,
        "batch_size": config.train.batch_size,
        "micro_batch_size": size,
        "micro_batch_at_most": config.train.micro_batch_size,
        "example": task.example,
        "examples": steps * config.train.batch_size,
        "precision": "bf16" if blank.low else "fp32",
        "counted_for": "gpu" if blank.on_gpu else "cpu",
        "basis": BASIS,
        "flops_per_step": flops,
        "flops_again_per_step": counted.one.flops_again * (config.train.batch_size // size),
        "num_devices": devices,
        "memory_bytes": _by_strategy(parts, devices, size)["ddp"],
        "memory_bytes_by_strategy": _by_strategy(parts, devices, size)
        | _in_groups(parts, config, size),
        "checkpoint_bytes": parts.checkpoint,
        "peak_bytes": _peak(parts, counted.one, size, accumulates),
        "pass_bytes": counted.one.peak,
        "activation_bytes": {  # of the micro-batch
            "as_set": counted.one.activations,
            "with_checkpointing": _of(counted.with_checkpoints),
            "without_checkpointing": _of(counted.without_checkpoints),
            "each_example": round(parts.activations.each),
        },
        "optimizer_state_bytes": {k: v.state for k, v in bytes_of.items() if k},
        "memory_bytes_by_optimizer": {
            name: _with(parts, found).on_device("ddp", 1, size)["total"]
            for name, found in bytes_of.items()
            if name
        },
        "largest_micro_batch": _largest(parts, config),
        "devices_to_fit": _to_fit(parts, config),
        "devices_to_fit_by_optimizer": {
            name: _to_fit(_with(parts, found), config) for name, found in bytes_of.items() if name
        },
        "peak_fraction": config.plan.peak_fraction,
        "usable_memory": config.plan.usable_memory,
        "device_hours": device_hours(config, flops * steps, bool(blank.low)),
    }


def parts_by_optimizer(config: RunConfig) -> dict[str, Parts]:
    """What training holds, with each of the optimizers that a plan sets side by side.

    Raises:
        ConfigError: as `make`.
    """
    size, _ = _micro_batch(config)
    blank, counted, bytes_of = _tried(config, task_without_data(config))
    parts = _parts(blank, config, counted, size, bytes_of[""])
    return {name: _with(parts, found) for name, found in bytes_of.items() if name}


def _micro_batch(config: RunConfig) -> tuple[int, bool]:
    """Its examples, and whether a step has several."""
    devices = config.launch.num_processes
    size = memory.micro_batch(config.train.batch_size, config.train.micro_batch_size, devices)
    assert size is not None, "checks refuses it"
    return size, config.train.batch_size // devices // size > 1


def _tried(
    config: RunConfig, task: Any
) -> tuple[Blank, Counted, dict[str, optimizer_state.OptimizerBytes]]:
    """A step of the model, and of the optimizers: the page's own is named ""."""
    on_gpu = config.launch.device != "cpu"
    size, accumulates = _micro_batch(config)
    blank = Blank(task, config, on_gpu)
    try:
        counted = _count(blank, size, config.train.batch_size, accumulates)
    except ConfigError:
        blank = Blank(task, config, on_gpu, pretends=True)
        counted = _count(blank, size, config.train.batch_size, accumulates)
    bytes_of = {
        name: optimizer_state.measure(section, config, blank)
        for name, section in {"": config.optimizer, **optimizer_state.side_by_side()}.items()
    }
    return blank, counted, bytes_of


def device_hours(config: RunConfig, flops: int, is_low: bool) -> dict[str, float | None]:
    """Hours of one card at a fraction of its peak; None where its peak is not known.

    Args:
        config: With the fraction.
        flops: Of the run.
        is_low: Whether it computes in 16 bits.
    """
    hours: dict[str, float | None] = {}
    for name, card in optimizer_state.settings()["cards"].items():
        peak = card["low" if is_low else "high"]
        rate = peak and peak * 1e12 * config.plan.peak_fraction
        hours[name] = round(flops / rate / 3600, 6) if rate else None
    return hours


def _sizes(size: int, batch_size: int) -> list[int]:
    """Micro-batches to count: this one first, as the first pass makes what a model keeps; then none
    smaller, twice as many, and so many that they decide."""
    far = min(MANY * size, batch_size)
    return list(dict.fromkeys([size, 1, 2 * size, *((far // 2, far) if far >= 4 * size else ())]))


def _count(blank: Blank, size: int, batch_size: int, accumulates: bool) -> Counted:
    sizes = {number: blank.trial(number, accumulates) for number in _sizes(size, batch_size)}
    one = sizes[size]
    if not blank.can_checkpoint():
        return Counted(one, sizes, None, one)
    without = one
    if one.flops_again:
        blank.checkpoint(False)
        without = blank.trial(size, accumulates)
    if without.flops_again != one.flops_again:
        return Counted(one, sizes, one, without)
    blank.checkpoint(True)
    try:
        return Counted(one, sizes, blank.trial(size, accumulates), without)
    except ConfigError:  # the same step went well without: this model's switch is broken
        return Counted(one, sizes, None, without)


def _of(trial: Trial | None) -> int | None:
    return None if trial is None else trial.activations


def _parts(
    blank: Blank,
    config: RunConfig,
    counted: Counted,
    size: int,
    optimizer: optimizer_state.OptimizerBytes,
) -> Parts:
    model = blank.model
    with blank.mode:
        weights = model_facts.num_bytes([*model.parameters(), *model.buffers()])
        gradients = model_facts.num_bytes(p for p in model.parameters() if p.requires_grad)
    one, sizes = counted.one, counted.by_size
    rest, block = model_facts.rest_and_block(blank.plain)
    return Parts(
        weights=weights,
        gradients=gradients,
        optimizer_state=optimizer.state,
        ema=weights if config.train.ema_decay is not None else 0,
        shown=weights if optimizer.shows_others else 0,
        cast_weights=one.cast_weights,
        optimizer_step=optimizer.step,
        rest=rest,
        block=block,
        activations=Activations.through({n: t.activations for n, t in sizes.items()}),
        batch=Activations.through({n: t.batch for n, t in sizes.items()}),
        frees_casts=counted.with_checkpoints is one,
    )


def _with(parts: Parts, optimizer: optimizer_state.OptimizerBytes) -> Parts:
    return replace(
        parts,
        optimizer_state=optimizer.state,
        optimizer_step=optimizer.step,
        shown=parts.weights if optimizer.shows_others else 0,
    )


def _by_strategy(parts: Parts, devices: int, size: int) -> dict[str, dict[str, int]]:
    return {name: parts.on_device(name, devices, size) for name in memory.STRATEGIES}


def _in_groups(parts: Parts, config: RunConfig, size: int) -> dict[str, dict[str, int]]:
    """launch.strategy=hsdp: memory is that of one group, whatever the number of groups."""
    if config.launch.strategy != "hsdp":
        return {}
    shared_by = config.launch.shard_size or min(DEVICES_OF_A_HOST, config.launch.num_processes)
    return {"hsdp": parts.on_device("fsdp", shared_by, size)}


def _peak(parts: Parts, trial: Trial, size: int, accumulates: bool) -> int:
    """Most bytes at a time, on one device, as the trial went through them."""
    kept = parts.weights + parts.optimizer_state + parts.ema + parts.batch.at(size)
    passing = trial.peak + (parts.gradients if accumulates else 0)
    return kept + max(passing, parts.gradients + parts.optimizer_step)


def _capacities(config: RunConfig) -> dict[str, float]:
    """Bytes that can be used, by gigabytes of a device."""
    sizes = optimizer_state.settings()["memory_gb"]
    return {str(size): size * memory.GB * config.plan.usable_memory for size in sizes}


def _to_fit(parts: Parts, config: RunConfig) -> dict[str, dict[str, int | None]]:
    batch, asked = config.train.batch_size, config.train.micro_batch_size
    return {
        strategy: {
            size: memory.devices_to_fit(parts, strategy, capacity, batch, asked)
            for size, capacity in _capacities(config).items()
        }
        for strategy in memory.STRATEGIES
    }


def _largest(parts: Parts, config: RunConfig) -> dict[str, int]:
    batch = config.train.batch_size
    return {
        size: memory.largest_micro_batch(parts, capacity, batch)
        for size, capacity in _capacities(config).items()
    }
