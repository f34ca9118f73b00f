"""timm's vision transformers, with what big pre-training needs besides.

Source: arXiv:2106.04560 (head bias, pooling by attention) and timm.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from experiments.config import ConfigError


def vision_transformer(
    model_name: str,
    *,
    head_bias: float = 0.0,
    activation_checkpointing: bool = False,
    **settings: Any,
) -> nn.Module:
    """`timm.create_model`, and two settings that it has not.

    Args:
        model_name: Of timm, e.g. vit_giant_patch14_224.
        head_bias: Of the last layer before training. With a sigmoid per class and thousands of
            classes most answers are no: -10 begins near there.
        activation_checkpointing: Compute each block again in the backward pass instead of keeping
            what it computed: a third more work for a fraction of the memory, the same numbers.
        settings: Of timm's model: num_classes, img_size, global_pool, class_token, ...

    Raises:
        ConfigError: where the model has no head with a bias.
    """
    model: Any = timm.create_model(model_name, **settings)
    if head_bias:
        bias = getattr(model.get_classifier(), "bias", None)
        if bias is None:
            raise ConfigError(f"model.head_bias={head_bias}: {model_name} has no head with a bias")
        with torch.no_grad():
            bias.fill_(head_bias)
    if activation_checkpointing:
        model.set_grad_checkpointing(True)
    return model
