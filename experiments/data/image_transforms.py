"""What happens to an image between file and batch: timm's transforms, uint8 in the end.

Normalisation happens on the device, in the task.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import Image

from experiments.config import ConfigError
from experiments.data.decoders import Transform
from experiments.settings.image import ImageTaskConfig

GREY = (128, 128, 128)
"""Fills what an operation of RandAugment leaves empty."""
_CUTOUT = 40 / 224  # half side at magnitude 10, of the image side


def train_transform(input_size: int, settings: ImageTaskConfig) -> Transform:
    """A crop, of any of three kinds, horizontal flip, RandAugment; (3, side, side) uint8.

    Random numbers come from the global generators of Python, numpy and torch.

    Raises:
        ConfigError: for another crop.
    """
    from timm.data.transforms import MaybePILToTensor
    from torchvision import transforms

    from experiments.data.random_crop import RandomCrop

    crop = RandomCrop(
        input_size, scale=(settings.crop_scale_min, 1.0), interpolation=settings.interpolation
    )
    if settings.train_crop == "centre":
        interpolation = transforms.InterpolationMode(settings.interpolation)
        resize = transforms.Resize(input_size, interpolation)
        crop = transforms.Compose([resize, transforms.CenterCrop(input_size)])
    elif settings.train_crop == "inception":
        from experiments.data.inception_crop import InceptionCrop

        crop = InceptionCrop(input_size, (settings.crop_scale_min, 1.0), settings.interpolation)
    elif settings.train_crop != "random":
        raise ConfigError(
            f"task.train_crop={settings.train_crop}: choose random, inception or centre"
        )
    steps: list[Any] = [crop]
    if settings.horizontal_flip > 0:
        steps.append(transforms.RandomHorizontalFlip(settings.horizontal_flip))
    if settings.randaug_layers > 0:
        steps.append(rand_augment(settings.randaug_layers, settings.randaug_magnitude))
    return transforms.Compose([*steps, MaybePILToTensor()])


def eval_transform(input_size: int, settings: Any, border: int = 0) -> Transform:
    """Resizes the shorter side to input_size / eval_crop_fraction, cuts out the centre; uint8.

    Args:
        input_size: Side of the result in pixels.
        settings: `eval_crop_fraction` and `interpolation`; where it says `crop="square"`, both
            sides are brought to the size, and nothing is cut off.
        border: Pixels to cut off each side of the original image first.
    """
    from timm.data.transforms_factory import create_transform

    transform: Any = create_transform(
        input_size,
        is_training=False,
        use_prefetcher=True,
        interpolation=settings.interpolation,
        crop_pct=settings.eval_crop_fraction,
        crop_mode="squash" if getattr(settings, "crop", "centre") == "square" else "center",
        crop_border_pixels=border or None,
    )
    return transform


def flip_transform(input_size: int, settings: Any) -> Transform:
    """That of evaluations, and a horizontal flip where one is asked for."""
    plain = eval_transform(input_size, settings)
    if not settings.horizontal_flip:
        return plain
    from torchvision import transforms

    flip = transforms.RandomHorizontalFlip(settings.horizontal_flip)
    return transforms.Compose([flip, plain])


def rand_augment(layers: int, magnitude: float) -> Any:
    """RandAugment as big_vision and T5X have it, made of timm's operations.

    Both scales end at 10 (`_MAX_LEVEL`, `_LEVEL_DENOM`) and go on beyond it in a straight line, so
    the papers' magnitude 15 is 15 here. But timm's own `rand-m15-n2` is another augmentation: it
    clips at 10 unless `mmax` is given, skips each operation with probability 0.5 (the original
    draws such a probability and does not use it), has no Cutout, fills and interpolates by the
    model's settings, adds at most 128 in SolarizeAdd, and blends Contrast about the image's own
    grey. All six are as in the original here.

    Args:
        layers: Operations per image.
        magnitude: 0..30 in the papers' scale.

    Source: arXiv:1909.13719; google-research/big_vision, pp/autoaugment.py.
    """
    from timm.data.auto_augment import RandAugment, rand_augment_ops

    # Differs from the paper: lengths are fractions of the image (0.45 and 40/224 of the side, for
    # the 100 and 40 pixels of images of 224).
    hparams = {
        "img_mean": GREY,
        "interpolation": Image.Resampling.NEAREST,
        "magnitude_max": max(10.0, magnitude),
    }
    operations = rand_augment_ops(magnitude=magnitude, prob=1.0, hparams=hparams)
    for operation in operations:
        if operation.name == "Posterize":
            operation.level_fn = partial(_bits_kept, operation.level_fn)
        elif operation.name == "SolarizeAdd":
            operation.level_fn = _added
        elif operation.name == "Contrast":
            operation.aug_fn = contrast_about_grey
    return RandAugment([*operations, Cutout(magnitude)], layers)


def _bits_kept(level_fn: Callable[..., tuple[int]], level: float, hparams: Any) -> tuple[int]:
    """At least 1: below magnitude 2.5 it would be 0, where TensorFlow's shifts end at 7 of 8."""
    (bits,) = level_fn(level, hparams)
    return (max(1, bits),)


def _added(level: float, hparams: Any) -> tuple[int]:
    """Levels that SolarizeAdd adds to dark pixels: 165 at magnitude 15."""
    return (int(level / 10 * 110),)


def contrast_about_grey(image: Image.Image, factor: float, **_: Any) -> Image.Image:
    """Moves an image away from one grey, or towards it, by a factor."""
    level = grey_level(image.width, image.height)
    return Image.blend(Image.new("RGB", image.size, (level,) * 3), image, factor)


def grey_level(width: int, height: int) -> int:
    """About which Contrast blends: 196 for images of 224.

    The original means the image's mean grey, but takes the sum of its histogram, which is the
    number of pixels, and divides that by 256.
    """
    return min(255, width * height // 256)


class Cutout:
    """Greys out a square around a random pixel, the operation of RandAugment that timm lacks."""

    def __init__(self, magnitude: float) -> None:
        self.fraction = magnitude / 10 * _CUTOUT

    def __call__(self, image: Image.Image) -> Image.Image:
        image = image.copy()
        image.paste(GREY, self.box(image.width, image.height))
        return image

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Draws the part of an image to grey out: left, top, right, bottom."""
        x, y = random.randrange(width), random.randrange(height)
        half_x, half_y = round(self.fraction * width), round(self.fraction * height)
        left, top = max(0, x - half_x), max(0, y - half_y)
        return left, top, min(width, x + half_x), min(height, y + half_y)
