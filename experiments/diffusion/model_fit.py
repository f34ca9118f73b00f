"""Whether a diffusion model suits its images and their classes, before it is trained."""

from __future__ import annotations

from typing import Any

from torch import nn

from experiments.config import ConfigError


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
