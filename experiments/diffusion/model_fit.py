"""Whether a diffusion model suits its images and their classes, before it is trained."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from experiments.config import ConfigError

_MOST = 1 + 1e-3
"""Of a pixel: what rounding may add is no other scale."""


def knows_classes(model: nn.Module) -> bool:
    """Whether a model is told the class; one that does not say so is taken to be."""
    return getattr(model, "num_class_embeds", True) is not None


def check_fit(
    model: Any, data: str, shape: tuple[int, ...], num_classes: int, condition_dropout: float
) -> None:
    """Holds what a model says of itself against its data.

    Args:
        model: Any; what it does not say is not checked.
        data: Name of the data, for messages.
        shape: Of an image, (C, H, W).
        num_classes: Of the data.
        condition_dropout: Share of images that are shown without their class.

    Raises:
        ConfigError: names the key, its value and the remedy.
    """
    channels = getattr(model, "in_channels", shape[0])
    if channels != shape[0]:
        raise ConfigError(
            f"model.in_channels={channels}, but the images of {data} have "
            f"{shape[0]}: choose other data, or set model.in_channels={shape[0]} and "
            "model.out_channels as it needs"
        )
    side = getattr(model, "sample_size", shape[1])
    if (side, side) != shape[1:]:  # it would train, its attention at other resolutions than named
        raise ConfigError(
            f"model.sample_size={side}, but the images of {data} are of {shape[1]} x {shape[2]}: "
            f"set model.sample_size={shape[1]}, or data.input_size={side} where they lie in files"
        )
    if not knows_classes(model):
        if condition_dropout:
            raise ConfigError(
                f"task.condition_dropout={condition_dropout}: a model with "
                "model.num_class_embeds=null is told no class: leave it at 0.0, or set "
                f"model.num_class_embeds={num_classes + 1}"
            )
        return
    known, needed = getattr(model, "num_class_embeds", None), num_classes + (condition_dropout > 0)
    if known is not None and known < needed:
        raise ConfigError(
            f"model.num_class_embeds={known}: these {num_classes} classes, and "
            f"task.condition_dropout={condition_dropout}, need {needed}"
        )


def check_signed(source: Any) -> None:
    """Holds pixels in memory against the [-1, 1] that noise, clipping and distances count on.

    Args:
        source: Of images; one whose `splits` are not held in memory is not looked at.

    Raises:
        ConfigError: for pixels beyond, as those that a classifier takes in standardised.
    """
    splits: Mapping[str, tuple[Tensor, Tensor]] = getattr(source, "splits", {})
    if not splits:
        return
    ends = torch.stack([torch.stack(images.aminmax()) for images, _ in splits.values()])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if not -_MOST <= low <= high <= _MOST:
        raise ConfigError(
            f"the pixels of {source.name} lie from {low:.4g} to {high:.4g}, and those of a "
            "diffusion model in [-1, 1]: what is beyond would be cut off its samples and of what "
            "they are held against; take data of such pixels (data=digits_signed for the digits)"
        )
    if low >= 0:
        warnings.warn(
            f"the pixels of {source.name} lie from {low:.4g} to {high:.4g}, so black, -1, is not "
            "among them: if they are shares of white, use 2 x - 1",
            stacklevel=2,
        )
