"""The range of every key of the schema, in one table; a test holds it complete.

`RUN` has the keys of `experiments.config.RunConfig`; those of a task stand beside its settings,
those of a source of data beside the source, which checks them itself. Keys of classes that are not
ours (models, optimizers) are checked by their names where the meaning is plain; the rest shows when
they are built and run for the first time (`experiments.build.explained`).
Standard library only.
"""

from __future__ import annotations

from typing import Any

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
_BETAS = listed(_BETA, 1, 4)
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

OPTIMIZER: dict[str, Range] = {
    "_partial_": FLAG,
    "lr": _NON_NEGATIVE,
    "weight_decay": _NON_NEGATIVE,
    "eps": either(_NON_NEGATIVE, listed(optional(_NON_NEGATIVE), 2, 2)),  # Adafactor's has two
    "momentum": _NON_NEGATIVE,
    "betas": optional(Range("a list of numbers from 0 to below 1, e.g. [0.9,0.99]", _BETAS.holds)),
}
"""Settings of any optimizer that mean the same everywhere."""

KNOWN_OPTIMIZER: dict[str, Range] = {
    "_partial_": FLAG,
    "alpha": number(above=0),
    "amsgrad": FLAG,
    "beta": _BETA,
    "beta2_cap": _BETA,
    "bias_correction": either(choice("beta1", "beta2"), FLAG),  # of HeroLion; of LAMB
    "clipping_threshold": optional(number(above=0)),
    "decay_offset": count(0),
    "decay_rate": number(),
    "decoupled_decay": FLAG,
    "decoupled_weight_decay": FLAG,
    "fixed_decay": FLAG,
    "kahan_sum": optional(FLAG),
    "min_dim_size_to_factor": count(1),
    "momentum_decay": _NON_NEGATIVE,
    "momentum_dtype": optional(TEXT),
    "nesterov": FLAG,
    "r": _NON_NEGATIVE,
    "rectify": FLAG,
    "sign_decay": _NON_NEGATIVE,
    "unscaled_wd": FLAG,
    "warmup_steps": count(0),
    "weight_lr_power": _NON_NEGATIVE,
    "adjust_lr_fn": choice("match_rms_adamw", "original", "rms_to_rms"),
    "algo": choice("muon", "adamuon"),
    "always_adapt": FLAG,
    "betas_1d": optional(Range("a list of numbers from 0 to below 1", _BETAS.holds)),
    "caution": FLAG,
    "clip_exp": optional(_NON_NEGATIVE),
    "conv_mode": choice("flatten", "batched"),
    "corrected_weight_decay": FLAG,
    "decoupled": FLAG,
    "fallback_lr_scale": number(above=0),
    "gamma": number(),
    "grad_averaging": FLAG,
    "lr_1d_factor": number(above=0),
    "mars_type": TEXT,
    "max_grad_norm": optional(number(above=0)),
    "normalize_spatial": FLAG,
    "ns_coefficients": TEXT,
    "ns_steps": count(1, 100),
    "optimize_1d": FLAG,
    "safety_factor": number(above=0),
    "scale_eps": FLAG,
    "trust_clip": FLAG,
}
"""Further settings of the optimizers of our pages: of lion, torch.optim and timm.optim."""

_SIDE = count(1, 100_000)
_RATE = number(0, below=1)
_TOKEN = count(0)
_RATIO = number(above=0, most=1000)
_SIDES = either(_SIDE, listed(_SIDE, 2, 2))
KNOWN_MODEL: dict[str, Range] = {
    "model_name": TEXT,
    "img_size": _SIDES,
    "patch_size": _SIDES,
    "in_chans": _SIDE,
    "num_classes": count(1),
    "embed_dim": _SIDE,
    "depth": count(1, 10_000),
    "num_blocks": count(1, 10_000),
    "num_heads": _SIDE,
    "width": _SIDE,
    "mlp_ratio": either(_RATIO, listed(_RATIO, 2, 2)),
    "class_token": FLAG,
    "head_bias": number(),
    "drop_rate": _RATE,
    "drop_path_rate": _RATE,
    "pos_drop_rate": _RATE,
    "proj_drop_rate": _RATE,
    "attn_drop_rate": _RATE,
    "causal": FLAG,
    "rotary_base": number(above=0),
    "activation_checkpointing": FLAG,
    "attention": choice("sdpa", "eager"),
    "bidirectional": FLAG,
    "vocab_size": count(1),
    "bos_token_id": _TOKEN,
    "eos_token_id": _TOKEN,
    "tie_word_embeddings": FLAG,
    "n_positions": _SIDE,
    "n_embd": _SIDE,
    "n_layer": count(1, 10_000),
    "n_head": _SIDE,
    "resid_pdrop": _RATE,
    "embd_pdrop": _RATE,
    "attn_pdrop": _RATE,
    "hidden_size": _SIDE,
    "intermediate_size": count(1, 10**6),
    "num_hidden_layers": count(1, 10_000),
    "num_attention_heads": _SIDE,
    "num_key_value_heads": _SIDE,
    "head_dim": _SIDE,
    "hidden_act": TEXT,
    "rope_parameters": TREE,
    "max_position_embeddings": count(1, 10**7),
    "attention_bias": FLAG,
    "mlp_bias": FLAG,
    "d_model": _SIDE,
    "d_kv": _SIDE,
    "d_ff": count(1, 10**6),
    "num_layers": count(1, 10_000),
    "num_decoder_layers": count(1, 10_000),
    "dropout_rate": _RATE,
    "sample_size": _SIDE,
    "in_channels": _SIDE,
    "out_channels": _SIDE,
    "block_out_channels": listed(_SIDE, 1, 16),
    "layers_per_block": either(_SIDE, listed(_SIDE, 1, 16)),
    "attention_resolutions": listed(_SIDE, 0, 16),
    "attention_head_dim": _SIDE,
    "num_class_embeds": optional(count(1)),
    "norm_num_groups": _SIDE,
    "dropout": _RATE,
    "cross_attention": listed(FLAG, 1, 16),
    "cross_attention_dim": _SIDE,
    "super_resolution": FLAG,
    "side": _SIDE,
    "num_features": _SIDE,
    "image": TREE,  # built and checked like any model
    "text": TREE,
    "hidden_head": FLAG,
    "image_head": FLAG,
    "text_head": FLAG,
    "scale_init": number(above=0, most=1e6),
    "max_scale": number(above=0, most=1e6),
}
"""Settings of the models of our pages: of timm, transformers and experiments.models."""

START_FROM: dict[str, Range] = {
    "source": optional(PATH),
    "weights": optional(choice("raw", "ema")),
    "leave_out": optional(listed(TEXT)),
    "into": optional(TEXT),
    "take": optional(TEXT),
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

_OPTIMIZERS_OF_OURS = ("lion.", "torch.optim.", "timm.optim.")
_MODELS_OF_OURS = ("timm.", "experiments.models.")


def of_optimizer(section: dict[str, Any]) -> dict[str, Range]:
    """The ranges that hold for an optimizer's section."""
    is_known = str(section.get("_target_")).startswith(_OPTIMIZERS_OF_OURS)
    return {**OPTIMIZER, **KNOWN_OPTIMIZER} if is_known else OPTIMIZER


def of_model(section: dict[str, Any]) -> dict[str, Range]:
    """The ranges that hold for a model's section."""
    is_known = str(section.get("_target_")).startswith(_MODELS_OF_OURS)
    return KNOWN_MODEL if is_known else {}
