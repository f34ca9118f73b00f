"""The range of every key of the schema, in one table; a test holds it complete.

`RUN` has the keys of `experiments.config.RunConfig`; those of a task stand beside its settings,
those of a source of data beside the source, which checks them itself. Keys of classes that are not
ours (models, optimizers) are in `experiments.limits_of_parts`.
Standard library only.
"""

from __future__ import annotations

from experiments.config import JOBS, JOBS_OF_THE_COMMAND_LINE
from experiments.ranges import (
    FLAG,
    NAME,
    PATH,
    SEED,
    TEXT,
    TREE,
    Range,
    choice,
    count,
    either,
    listed,
    mapped,
    number,
    optional,
)

LARGEST_BATCH = 2**24
_BATCH = count(1, LARGEST_BATCH)
_SCALES = listed(number(above=0))
_TEXTS = listed(TEXT)
_NON_NEGATIVE = number(0)
_BETA = number(0, below=1)
_PROBABILITY = number(0, 1)

RUN: dict[str, Range] = {
    "job": Range(choice(*JOBS, *JOBS_OF_THE_COMMAND_LINE).must_be, choice(*JOBS).holds),
    "run": TEXT,
    "evaluation": TEXT,
    "experiment": TEXT,
    "optimizer_name": TEXT,
    "scale": choice("paper", "proxy"),
    "stands_for": TEXT,
    "seed": SEED,
    "param_groups.no_decay_1d": FLAG,
    "param_groups.no_decay": _TEXTS,
    "param_groups.decay_multipliers": mapped(_NON_NEGATIVE),
    "param_groups.frozen": _TEXTS,
    "schedule.name": choice("cosine", "linear", "constant", "rsqrt"),
    "schedule.warmup_steps": optional(count(0)),
    "schedule.warmup_fraction": number(0, below=1),
    "schedule.final_fraction": _PROBABILITY,
    "schedule.timescale": count(1),
    "schedule.cooldown_steps": count(0),
    "train.epochs": optional(number(most=1e6, above=0)),
    "train.steps": optional(count(1)),
    "train.batch_size": _BATCH,
    "train.micro_batch_size": optional(_BATCH),
    "train.grad_clip_norm": optional(number(above=0)),
    "train.ema_decay": optional(_BETA),
    "train.precision": choice("auto", "fp32", "bf16"),
    "train.param_dtype": choice("float32", "bfloat16"),
    "train.compile": FLAG,
    "train.channels_last": FLAG,
    "train.deterministic": FLAG,
    "eval.every_epochs": optional(number(most=1e6, above=0)),
    "eval.every_steps": optional(count(1)),
    "eval.batch_size": _BATCH,
    "eval.weights": optional(choice("raw", "ema")),
    "checkpoint.every_steps": optional(count(1)),
    "checkpoint.every_seconds": optional(number(above=0)),
    "checkpoint.keep": count(1),
    "checkpoint.format": choice("auto", "whole", "sharded"),
    "checkpoint.asynchronous": FLAG,
    "checkpoint.step": optional(count(1)),
    "launch.num_processes": count(1, 1024),
    "launch.strategy": choice("ddp", "fsdp", "hsdp"),
    "launch.shard_size": optional(count(2, 100_000)),
    "launch.device": choice("auto", "cpu", "cuda"),
    "launch.num_threads": optional(count(1, 1024)),
    "launch.timeout_minutes": optional(number(most=1e6, above=0)),
    "launch.log_every_steps": count(1),
    "launch.progress": FLAG,
    "tracking.wandb": choice("disabled", "offline", "online"),
    "tracking.wandb_project": TEXT,
    "tracking.tensorboard": FLAG,
    "tracking.telemetry_every_steps": optional(count(1)),
    "landscape.sigmas": _SCALES,
    "landscape.relative_scales": _SCALES,
    "landscape.num_draws": count(4),
    "landscape.num_examples": count(1),
    "landscape.batch_size": _BATCH,
    "landscape.hessian_examples": count(0),
    "landscape.hessian_tolerance": number(above=0),
    "landscape.hessian_iterations": count(1),
    "landscape.seed": SEED,
    "plan.format": choice("text", "json"),
    "plan.peak_fraction": number(most=1, above=0),
    "plan.usable_memory": number(most=1, above=0),
    "provenance.source": TEXT,
    "provenance.assumed": _TEXTS,
    "provenance.experiment_source": TEXT,
    "provenance.experiment_assumed": _TEXTS,
    "results_dir": PATH,
}
"""Dotted key of `RunConfig`: its range. The sections without a schema are checked apart."""

START_FROM: dict[str, Range] = {
    "source": optional(PATH),
    "weights": optional(choice("raw", "ema")),
    "leave_out": optional(listed(TEXT)),
    "into": optional(TEXT),
    "take": optional(TEXT),
    "grid": optional(listed(count(1), 2, 2)),
    "sha256": optional(TEXT),
}
"""Keys of an entry of `start_from`."""

SWEEP: dict[str, Range] = {
    "about": TEXT,
    "name": NAME,
    "optimizers": _TEXTS,
    "set": TREE,
    "conditions": TREE,
    "grid": TREE,
    "points": listed(TREE),
    "by_optimizer": mapped(optional(TREE)),
    "lr_scaling": choice("none", "sqrt", "linear"),
    "seeds": listed(SEED, 1),
    "equal_budget": FLAG,
    "max_tries": count(1, 1000),
    "lease_seconds": number(1, 1e6),
    "then": TREE,
}
"""Keys of a page of `conf/sweep`."""

_WORKERS = count(1, 100_000)
LAUNCHER: dict[str, Range] = {
    "num_workers": optional(_WORKERS),
    "threads": optional(count(1, 1024)),
    "gpus": either(choice("auto", "none"), listed(count(0, 1024), 1)),
    "fresh_process": FLAG,
    "max_group": count(1, 100_000),
    "address": optional(TEXT),
    "cpus_per_worker": number(0, 1024),
    "gpus_per_worker": number(0, 1024),
    "partition": optional(TEXT),
    "account": optional(TEXT),
    "timeout_min": count(1, 10**6),
    "signal_delay_s": count(1, 10**6),
    "cpus_per_task": count(1, 1024),
    "gpus_per_task": count(0, 1024),
    "mem_gb": optional(number(above=0, most=1e6)),
    "wait": FLAG,
    "setup": _TEXTS,
    "extra": TREE,
}
"""Keys of our pages of `conf/launcher`."""
