"""TensorFlow's random crop, with which Google's image models are trained.

timm's takes every share of the area as often as another; here it is every height up to the
largest that fits, so crops are closer: of images of 500 x 375, from 5 % of the area on, they have
34 % of it on average, and timm's 41 %.

Source: tensorflow/tensorflow, core/kernels/image/sample_distorted_bounding_box_op.cc, as called by
google-research/big_vision (pp/ops_image.py) and google-research/vision_transformer.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from timm.data.transforms import RandomResizedCropAndInterpolation

RATIO = (0.75, 1.33)
"""Width by height, least and most."""
_ATTEMPTS = 100


class InceptionCrop(RandomResizedCropAndInterpolation):
    """timm's transform with TensorFlow's draw. Random numbers come from Python's generator."""

    def __init__(self, size: int, scale: tuple[float, float], interpolation: str) -> None:
        super().__init__(size, scale=scale, ratio=RATIO, interpolation=interpolation)

    @staticmethod
    def get_params(
        img: Any, scale: Sequence[float], ratio: Sequence[float]
    ) -> tuple[int, int, int, int]:
        """Top, left, height and width of a crop; the whole image where none fits."""
        whole_width, whole_height = img.size
        for _ in range(_ATTEMPTS):
            found = draw_size(whole_width, whole_height, scale, random.uniform(*ratio))
            if found is not None:
                height, width = found
                return (
                    _offset(whole_height - height),
                    _offset(whole_width - width),
                    height,
                    width,
                )
        return 0, 0, whole_height, whole_width


def draw_size(
    whole_width: int, whole_height: int, scale: Sequence[float], ratio: float
) -> tuple[int, int] | None:
    """Height and width of a crop of one ratio; None where it would not fit.

    Args:
        whole_width: Of the image.
        whole_height: The same.
        scale: Least and largest share of the image's area.
        ratio: Width by height.
    """
    least, most = (share * whole_width * whole_height for share in scale)
    lowest, highest = round(math.sqrt(least / ratio)), round(math.sqrt(most / ratio))
    if round(highest * ratio) > whole_width:
        highest = int((whole_width + 0.5 - 1e-7) / ratio)
        highest -= round(highest * ratio) > whole_width
    highest = min(highest, whole_height)
    height = random.randint(lowest, highest) if lowest < highest else highest
    if round(height * ratio) * height < least:  # by rounding alone
        height += 1
    if round(height * ratio) * height > most:
        height -= 1
    width = round(height * ratio)
    fits = 0 < width <= whole_width and 0 < height <= whole_height
    return (height, width) if fits and least <= height * width <= most else None


def _offset(room: int) -> int:
    """Evenly from 0 to one below what is possible, as in the original."""
    return random.randrange(room) if room else 0
