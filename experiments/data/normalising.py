"""Pixels of files as the model sees them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels 0..255 of files become floats; images in memory are normalised already.

    Args:
        images: (N, C, H, W), uint8 or floats.
        mean: Of each channel, of pixels in 0..1.
        std: The same.
    """
    if images.dtype != torch.uint8:
        return images
    # Numbers from Python wait for a GPU each time, so there they are sent once.
    constants = _kept if images.device.type == "cuda" else _made
    shift, scale = (constants(tuple(values), images.device) for values in (mean, std))
    return images.float().div_(255.0).sub_(shift).div_(scale)


def _made(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


_kept = lru_cache(maxsize=32)(_made)
