"""What a run is made of, built from its configuration; `saved_parts` keeps and restores it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import nn

from experiments import schedule_free, sharded_state, sharding, telemetry
from experiments.averaging import Average, build_average
from experiments.build import build, explained
from experiments.checks import micro_batches
from experiments.config import ConfigError, RunConfig
from experiments.data.order import BatchPlan, derive, seed_all
from experiments.distributed import World, wrap
from experiments.forgotten import Watch
from experiments.global_batch import check_coupling
from experiments.prefetching import Prefetcher, prefetcher
from experiments.progress import LossWindow, Stopwatch
from experiments.saved_shards import ShardSaver
from experiments.tasks.task import Task
from experiments.telemetry import Telemetry
from lion.param_groups import param_groups


@dataclass
class Parts:
    """What a run is made of."""

    config: RunConfig
    task: Task
    world: World
    model: nn.Module  # the plain module, whose weights are saved
    forward: nn.Module  # what training calls: distributed, compiled
    optimizer: torch.optim.Optimizer
    memory: Watch  # of the optimizer, what is saved of it
    peak_lrs: list[float]  # per parameter group
    average: Average | None  # Polyak averaging
    plan: BatchPlan
    total_steps: int
    losses: LossWindow
    watch: Stopwatch
    telemetry: Telemetry | None = None
    prefetch: Prefetcher | None = None  # on a GPU
    begun: list[dict[str, Any]] = field(default_factory=list)  # see warm_start.load
    saver: ShardSaver | None = None  # None: checkpoints are single files

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a part of the model only."""
        return sharding.is_wanted(self.config.launch, self.world)

    @property
    def is_saved_by_all(self) -> bool:
        """Whether all processes must take part to save."""
        return self.is_sharded or (self.saver is not None and self.world.size > 1)


def build_parts(config: RunConfig, task: Task, world: World) -> Parts:
    """Builds everything; the same seed gives the same weights on every device and world size.

    Raises:
        ConfigError: for settings that a model, an optimizer or the data refuses.
    """
    micro, _ = micro_batches(config, world.size)
    batch = config.train.batch_size
    plan = BatchPlan(config.seed, task.num_train, batch, micro, world.rank, world.size)
    if config.train.deterministic:  # older torch refuses cuBLAS without; read at its first use
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if torch.are_deterministic_algorithms_enabled() != config.train.deterministic:
        torch.use_deterministic_algorithms(config.train.deterministic)  # imports Inductor
    sharding.check(config, world, getattr(task, "why_not_sharded", ""))
    check_coupling(task, config, micro, world.size)
    model = _build_model(config, task, world)
    optimizer = _build_optimizer(config, model)
    is_sharded = sharding.is_wanted(config.launch, world)
    schedule_free.check(optimizer, model, config.train.ema_decay is not None, is_sharded)
    if is_sharded:
        sharded_state.watch_state(optimizer)
    average = build_average(config, model, world)
    forward = wrap(model, world)
    if config.train.compile:
        forward = cast(nn.Module, torch.compile(forward))
    return Parts(
        config=config,
        task=task,
        world=world,
        model=model,
        forward=forward,
        optimizer=optimizer,
        memory=Watch(optimizer),
        peak_lrs=[float(group["lr"]) for group in optimizer.param_groups],
        average=average,
        plan=plan,
        total_steps=_total_steps(config, plan),
        losses=LossWindow(config.launch.log_every_steps, world.device),
        watch=Stopwatch(),
        telemetry=telemetry.of(config, model, optimizer),
        saver=_build_saver(config, world),
        prefetch=prefetcher(world.device, config.train.channels_last),
    )


def _build_model(config: RunConfig, task: Task, world: World) -> nn.Module:
    seed_all(derive(config.seed, "init"))
    dtype = getattr(torch, config.train.param_dtype)
    with explained("model: cannot build it"):
        if sharding.is_wanted(config.launch, world):
            size = sharding.shard_size(config.launch, world)
            return sharding.build(task.build_model, world, dtype, size)
        model = task.build_model().to(world.device, dtype)
    if config.train.channels_last:  # shards are contiguous; the images alone decide there
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _build_optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    groups = config.param_groups
    try:
        split = param_groups(
            model,
            config.optimizer.get("weight_decay", 0.0),
            no_decay_1d=groups.no_decay_1d,
            no_decay=groups.no_decay,
            frozen=groups.frozen,
            decay_multipliers=groups.decay_multipliers,
        )
    except ValueError as error:
        raise ConfigError(f"param_groups: {error}") from error
    return build(config.optimizer, "optimizer", split)


def _build_saver(config: RunConfig, world: World) -> ShardSaver | None:
    if config.job != "train":
        return None
    is_natural = config.checkpoint.format == "auto" and sharding.is_wanted(config.launch, world)
    if is_natural or config.checkpoint.format == "sharded":
        return ShardSaver(config.checkpoint, world)
    return None


def _total_steps(config: RunConfig, plan: BatchPlan) -> int:
    if config.train.steps is not None:
        return config.train.steps
    assert config.train.epochs is not None
    return max(1, round(config.train.epochs * plan.steps_per_epoch))


def set_training(model: nn.Module) -> None:
    """Training mode, but for modules whose parameters are all frozen: these stay as they are.

    Otherwise the dropout and the running statistics of a frozen part would go on changing it.
    """
    model.train()
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(p.requires_grad for p in own):
            module.eval()


def facts(parts: Parts) -> dict[str, Any]:
    """What the header of a run says of its data, its model and the number that decides."""
    model, task = parts.config.model, parts.task
    headline = task.headline
    if parts.config.eval.weights is not None:
        headline = replace(headline, weights=parts.config.eval.weights)
    elif parts.average is None:
        headline = replace(headline, weights="raw")
    found = fingerprint(parts)
    return {
        **({"data_fingerprint": found} if found else {}),
        "headline": headline.to_json(),
        "start_from": json.dumps(parts.begun) if parts.begun else "",
        "init_optimizer": ", ".join(str(b["optimizer"]) for b in parts.begun if "optimizer" in b),
        "example": task.example,
        "data": task.data_name,
        "model": model.get("model_name") or model["_target_"].rpartition(".")[2],
        "num_params": sum(p.numel() for p in parts.model.parameters() if p.requires_grad),
    }


def fingerprint(parts: Parts) -> str:
    """Of the data, in the main process; "" where their source gives none."""
    if not parts.world.is_main:
        return ""
    return str(getattr(getattr(parts.task, "source", None), "fingerprint", None) or "")
