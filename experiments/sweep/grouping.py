"""Which runs can be trained together, and why others cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from experiments.build import build
from experiments.config import RunConfig, UserError, to_dict
from experiments.precision import resolved
from experiments.tasks.task import check_task
from lion.stacked import NoStackedRule, rule_for

OF_A_MEMBER = ("lr", "weight_decay", "betas")
"""Settings of the optimizer in which the members of a group may differ; the seed may, too."""


def likeness(config: RunConfig) -> str:
    """Runs that agree in this text differ in nothing but what a member may have for itself."""
    plain = to_dict(config)
    for key in ("seed", "optimizer_name", "provenance", "results_dir"):
        del plain[key]
    plain["launch"].pop("progress")
    for key in OF_A_MEMBER:
        plain["optimizer"].pop(key, None)
    plain["differs"] = sorted(set(OF_A_MEMBER) & set(config.optimizer))
    return json.dumps(plain, sort_keys=True, default=list)


def why_alone(config: RunConfig) -> str:
    """Why a run cannot be trained together with its like; empty if it can."""
    reasons = [*_settings_against_it(config)]
    if reasons:
        return reasons[0]
    try:
        weight = nn.Parameter(torch.zeros(1, device="meta"))
        optimizer = build(config.optimizer, "optimizer", [weight])
    except UserError as error:
        return str(error)  # the run itself will say it
    try:
        rule_for(optimizer, optimizer.param_groups[0])
    except NoStackedRule as error:
        return str(error)
    return _task_against_it(json.dumps([config.task, config.data, config.model], default=list))


@lru_cache(maxsize=64)
def _task_against_it(sections: str) -> str:
    """The task's own reason, or one that lies in its model."""
    task_section, data, model_section = json.loads(sections)
    try:
        task = check_task(build(task_section, "task", data=data, model=model_section))
        if task.why_not_stacked:
            return task.why_not_stacked
        with torch.device("meta"):
            model = task.build_model()
    except UserError as error:
        return str(error)  # the run itself will say it
    except Exception as error:  # a model that cannot be built on the meta device
        return f"{type(error).__name__} while building the model: {error}"
    return next(_modules_against_it(model), "")


def _settings_against_it(config: RunConfig) -> Iterator[str]:
    train = config.train
    if config.job != "train" or config.launch.num_processes > 1:
        yield "it is no training run in one process"
    if train.ema_decay is not None:
        yield "weights are averaged (train.ema_decay)"
    if train.micro_batch_size not in (None, train.batch_size):
        yield "gradients are accumulated (train.micro_batch_size)"
    if resolved(config) == "bf16":
        yield "mixed precision (set train.precision=fp32)"
    if train.compile or train.channels_last or train.deterministic:
        yield "train.compile, train.channels_last or train.deterministic is set"
    if config.tracking.telemetry_every_steps is not None:
        yield "tracking.telemetry_every_steps follows one run per process"
    if config.tracking.wandb != "disabled":
        yield "tracking.wandb follows one run per process"


def _modules_against_it(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        if isinstance(module, _NormBase) and module.track_running_stats:
            yield f"{name} keeps running statistics"
        probability = getattr(module, "p", None) or getattr(module, "drop_prob", None)
        is_noise = "drop" in type(module).__name__.lower()
        if is_noise and probability:
            yield f"{name} draws random numbers (dropout, stochastic depth)"
