"""Models of the package transformers, built from numbers; nothing is fetched by name."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from experiments.config import ConfigError, UserError
from experiments.packages import get

ATTENTION = ("sdpa", "eager")


def from_config(
    model_name: str,
    activation_checkpointing: bool = False,
    attention: str = "sdpa",
    bidirectional: bool = False,
    **config: Any,
) -> nn.Module:
    """A model with fresh weights.

    Args:
        model_name: Its class, e.g. GPT2LMHeadModel.
        activation_checkpointing: Whether a block's activations are computed again in the backward
            pass instead of kept: memory for a third more time. The numbers stay the same.
        attention: sdpa (PyTorch's fused attention) | eager.
        bidirectional: Whether a model of the GPT-2 kind sees both sides, by a mask without holes.
        config: Keywords of its configuration class; others are refused.

    Raises:
        ConfigError: for a class or a keyword that transformers does not have.
        UserError: where the package is missing.
    """
    try:
        import transformers
    except ImportError as error:
        raise UserError(f"{error}: {get('transformers')}") from error
    transformers.logging.set_verbosity_error()
    found: Any = getattr(transformers, model_name, None)
    if not hasattr(found, "config_class"):
        raise ConfigError(f"model.model_name={model_name}: transformers has no such model")
    if attention not in ATTENTION:
        raise ConfigError(f"model.attention={attention}: choose one of {', '.join(ATTENTION)}")
    settings = _config(found.config_class, config)
    settings._attn_implementation = attention
    try:
        model = found(settings)
    except ValueError as error:
        raise ConfigError(f"model: {str(error).splitlines()[0]}") from error
    if activation_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None)  # its name since 5.24
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
        model.config.use_cache = False
    if bidirectional:
        model.register_forward_pre_hook(_hide_nothing, with_kwargs=True)
    return model


def _hide_nothing(model: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Puts a mask of zeros, one for each pair of places, in the place of the causal one."""
    tokens = arguments[0]
    size, length = tokens.shape
    dtype = next(model.parameters()).dtype
    mask = torch.zeros((size, 1, length, length), dtype=dtype, device=tokens.device)
    return arguments, {**named, "attention_mask": mask}


def _config(config_class: Any, given: dict[str, Any]) -> Any:
    """The configuration; transformers itself would take a misspelt key without a word."""
    known = {name for name in inspect.signature(config_class.__init__).parameters}
    known |= set(vars(config_class()))
    for key in given:
        if key not in known:
            raise ConfigError(f"model.{key}: {config_class.__name__} has no such argument")
    return config_class(**given)
