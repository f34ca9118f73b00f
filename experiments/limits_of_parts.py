"""The ranges of settings of models and optimizers, most of which are not ours.

Checked by their names, where the meaning is plain; the rest shows when they are built and run for
the first time (`experiments.build.explained`).
Standard library only.
"""

from __future__ import annotations

from typing import Any

from experiments.ranges import (
    FLAG,
    TEXT,
    TREE,
    Range,
    choice,
    count,
    either,
    listed,
    number,
    optional,
)

_NON_NEGATIVE = number(0)
_BETA = number(0, below=1)
_BETAS = listed(_BETA, 1, 4)

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
