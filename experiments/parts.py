"""What a run is made of: built from the configuration, saved to and restored from a checkpoint."""

from __future__ import annotations

import contextlib
import json
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from experiments import checkpoint, sharded_state, sharding, telemetry, warm_start
from experiments.averaging import Average, build_average
from experiments.build import build, explained
from experiments.checks import micro_batches
from experiments.config import ConfigError, RunConfig, UserError
from experiments.data.order import BatchPlan, derive, seed_all
from experiments.distributed import World, wrap
from experiments.files import set_aside
from experiments.global_batch import check_coupling
from experiments.progress import LossWindow, Stopwatch
from experiments.recorder import GO_ON, Recorder
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
    peak_lrs: list[float]  # per parameter group
    average: Average | None  # Polyak averaging
    plan: BatchPlan
    total_steps: int
    losses: LossWindow
    watch: Stopwatch
    telemetry: Telemetry | None = None
    begun: list[dict[str, Any]] = field(default_factory=list)  # see warm_start.load

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a part of the model only."""
        return sharding.is_wanted(self.config.launch, self.world)


def build_parts(config: RunConfig, task: Task, world: World) -> Parts:
    """Builds everything; the same seed gives the same weights on every device and world size.

    Raises:
        ConfigError: for settings that a model, an optimizer or the data refuses.
    """
    micro, _ = micro_batches(config, world.size)
    batch = config.train.batch_size
    plan = BatchPlan(config.seed, task.num_train, batch, micro, world.rank, world.size)
    if torch.are_deterministic_algorithms_enabled() != config.train.deterministic:
        torch.use_deterministic_algorithms(config.train.deterministic)  # imports Inductor
    sharding.check(config, world, getattr(task, "why_not_sharded", ""))
    check_coupling(task, config, micro, world.size)
    model = _build_model(config, task, world)
    optimizer = _build_optimizer(config, model)
    if sharding.is_wanted(config.launch, world):
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
        peak_lrs=[float(group["lr"]) for group in optimizer.param_groups],
        average=average,
        plan=plan,
        total_steps=_total_steps(config, plan),
        losses=LossWindow(config.launch.log_every_steps, world.device),
        watch=Stopwatch(),
        telemetry=telemetry.of(config, model, optimizer),
    )


def _build_model(config: RunConfig, task: Task, world: World) -> nn.Module:
    seed_all(derive(config.seed, "init"))
    dtype = getattr(torch, config.train.param_dtype)
    with explained("model: cannot build it"):
        if sharding.is_wanted(config.launch, world):
            return sharding.build(task.build_model, world, dtype)
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
    fingerprint = _fingerprint(parts)
    return {
        **({"data_fingerprint": fingerprint} if fingerprint else {}),
        "headline": headline.to_json(),
        "start_from": json.dumps(parts.begun) if parts.begun else "",
        "init_optimizer": ", ".join(str(b["optimizer"]) for b in parts.begun if "optimizer" in b),
        "example": task.example,
        "data": task.data_name,
        "model": model.get("model_name") or model["_target_"].rpartition(".")[2],
        "num_params": sum(p.numel() for p in parts.model.parameters() if p.requires_grad),
    }


def _fingerprint(parts: Parts) -> str:
    """Of the data, in the main process; "" where their source gives none."""
    if not parts.world.is_main:
        return ""
    return str(getattr(getattr(parts.task, "source", None), "fingerprint", None) or "")


def save_parts(parts: Parts, recorder: Recorder, step: int, must: bool) -> None:
    """Saves; a full disk stops the run only where it `must` be saved to lose nothing.

    The ledger is made durable first: a checkpoint must not survive the rows that it counts.
    """
    states = _states(parts)
    if not parts.world.is_main:
        return
    content = {
        "run_id": recorder.run_id,
        "step": step,
        "num_rows": recorder.ledger.num_rows,
        **states,
        "losses": parts.losses.state(),
        "seconds": dict(parts.watch.seconds),
    }
    try:
        recorder.ledger.close()
        checkpoint.save(recorder.folder.checkpoints, step, content, parts.config.checkpoint.keep)
    except OSError as error:
        if must:
            raise UserError(f"{error}; {GO_ON}") from error
        recorder.log(f"not saved, will try again: {error}")


def _states(parts: Parts) -> dict[str, Any]:
    """Weights, optimizer and averages, whole; nothing where nothing is saved."""
    if parts.is_sharded:  # all processes bring them together
        return sharded_state.states(parts.model, parts.optimizer, parts.average, parts.world)
    if not parts.world.is_main:
        return {}
    average = cast(AveragedModel | None, parts.average)
    return {
        "model": parts.model.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "average": average.state_dict() if average is not None else None,
    }


def restore_parts(
    parts: Parts, recorder: Recorder, step: int | None = None, to_train: bool = False
) -> int:
    """Loads the newest good checkpoint, or that of a step, into the parts.

    Where there is none, the weights that `start_from` names.

    Args:
        parts: As built.
        recorder: Of the run.
        step: Of the checkpoint that is wanted; None: the newest.
        to_train: Whether an older checkpoint is taken where the ledger lacks measurements that
            the newest one counts: training makes them again.

    Returns:
        The step of the checkpoint, or 0 where there is none.

    Raises:
        UserError: in every process, where no checkpoint of the step is kept, or where one is that
            of another run or does not fit and there is no other.
    """
    world = parts.world
    path, problem = None, ""
    if world.is_main:
        try:
            path = _restore(parts, recorder, step, to_train)
        except UserError as error:
            problem = str(error)
    found, problem = world.share((str(path) if path else None, problem))
    if problem:
        raise UserError(problem)
    recorder.compare_data(_fingerprint(parts))
    if found is None:
        parts.begun = warm_start.load(parts.config, parts.task, parts.model)
        return 0
    if not world.is_main:
        _load(parts, checkpoint.load(Path(found), parts.is_sharded))
    return checkpoint.step_of(Path(found))


def _restore(parts: Parts, recorder: Recorder, step: int | None, to_train: bool) -> Path | None:
    """Loads the newest checkpoint that is good, this run's and whole; returns its file."""
    refused: dict[Path, str] = {}
    lacking: list[tuple[Path, int]] = []  # whose measurements are not all in the ledger
    for path in checkpoint.good_ones(recorder.folder.checkpoints, step):
        try:
            content = checkpoint.load(path, parts.is_sharded)
            _check_own(path, content, recorder.run_id, parts.total_steps)
            _load(parts, content)
        except Exception as error:  # whatever a file that is none of ours makes torch raise
            reason = " ".join(str(error).split())[:200]
            refused[path] = f"checkpoint {path} cannot be taken: {reason}"
            warnings.warn(refused[path], stacklevel=2)
            continue
        num_lost = recorder.num_lost(content.get("num_rows"), checkpoint.step_of(path))
        if num_lost and to_train:
            lacking.append((path, num_lost))
            continue
        if lacking:
            newer, missing = lacking[0]
            recorder.log(
                f"the ledger lacks {missing} measurements up to step {checkpoint.step_of(newer)}: "
                f"going on from step {checkpoint.step_of(path)}, to make them again"
            )
        break
    else:
        if not lacking:
            if refused:
                first = next(iter(refused.values()))
                raise UserError(f"{first}; move it away, and call the same command again")
            return None
        path, num_lost = lacking[0]
        _load(parts, checkpoint.load(path, parts.is_sharded))
        recorder.is_lacking = True
        at = checkpoint.step_of(path)
        recorder.log(f"{num_lost} measurements up to step {at} are lost: the ledger lacks them")
    for other in refused if to_train else ():
        with contextlib.suppress(OSError):
            set_aside(other)  # the next save would remove it
    return path


def _check_own(path: Path, content: dict[str, Any], run_id: str, total_steps: int) -> None:
    """That a checkpoint is of this run and of the step that its name says."""
    if content["run_id"] != run_id:
        raise UserError(f"it is of run {content['run_id']}, not of this one")
    step = content["step"]
    if step != checkpoint.step_of(path) or not 0 < step <= total_steps:
        raise UserError(f"it is of step {step}, and this run has {total_steps}")


def _load(parts: Parts, content: dict[str, Any]) -> None:
    if parts.is_sharded:
        sharded_state.load(parts.model, parts.optimizer, parts.average, content)
    else:
        parts.model.load_state_dict(content["model"])
        parts.optimizer.load_state_dict(content["optimizer"])
        if parts.average is not None:
            cast(AveragedModel, parts.average).load_state_dict(content["average"])
    parts.losses.load(content["losses"])
    parts.watch.load(content["seconds"])
