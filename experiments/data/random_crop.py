"""timm's random-resized crop, also of images with a side of a pixel or two.

timm rounds the sides of a crop to whole pixels, and to none where they are below a half: Pillow
makes a black image of that without a word, and torch's kernels fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.data.transforms import RandomResizedCropAndInterpolation


class RandomCrop(RandomResizedCropAndInterpolation):
    """timm's transform with crops of a pixel at least; all others, and all draws, are timm's."""

    @staticmethod
    def get_params(
        img: Any, scale: Sequence[float], ratio: Sequence[float]
    ) -> tuple[int, int, int, int]:
        """Top, left, height and width of a crop."""
        whole_width, whole_height = img.size
        timm = RandomResizedCropAndInterpolation
        top, left, height, width = timm.get_params(img, scale, ratio)
        place = min(top, whole_height - 1), min(left, whole_width - 1)
        return *place, max(1, height), max(1, width)
