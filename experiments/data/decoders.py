"""What decodes and resizes images: Pillow, or torch's kernels on tensors.

Both draw the same random numbers, so crops, flips and operations are the same, and both see the
same decoded pixels. Resized ones differ by some levels of 255, since the kernels round
otherwise, so a run with one is another run than with the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.config import ConfigError
from experiments.data.decode import to_rgb
from experiments.data.jpeg_regions import Box, decode_region

Transform = Callable[[Any], Tensor]
"""From an RGB image of Pillow's to (3, H, W) uint8."""


class Decoder(Protocol):
    """A transform, cut in two where the file can be closed."""

    def decode(self, image: Image.Image) -> Any:
        """From an opened image file to pixels; may draw random numbers."""
        ...

    def finish(self, pixels: Any) -> Tensor:
        """From these pixels to (3, H, W) uint8."""
        ...


class PillowDecoder:
    """Everything by Pillow."""

    def __init__(self, transform: Transform) -> None:
        self._transform = transform

    def decode(self, image: Image.Image) -> Image.Image:
        return to_rgb(image)

    def finish(self, pixels: Image.Image) -> Tensor:
        return self._transform(pixels)


class TensorDecoder:
    """JPEGs are decoded only where they are looked at, if that is possible; torch resizes.

    RandAugment's operations are those of Pillow to the last bit (`plane_augment`).

    Raises:
        ConfigError: for an interpolation that tensors do not have.
    """

    def __init__(self, transform: Transform) -> None:
        from timm.data.transforms import RandomResizedCropAndInterpolation

        first, *rest = _steps(transform)
        self._crop: Any = None
        if isinstance(first, RandomResizedCropAndInterpolation):
            _check(first.interpolation)
            self._crop = first
        else:
            rest = [first, *rest]
        self._rest = _on_tensors(rest)

    def decode(self, image: Image.Image) -> Tensor:
        if self._crop is None:
            return to_tensor(image)
        return to_tensor(image, self._crop.get_params(image, self._crop.scale, self._crop.ratio))

    def finish(self, pixels: Tensor) -> Tensor:
        if self._crop is not None:
            pixels = _resize(pixels, list(self._crop.size), self._crop.interpolation)
        for step in self._rest:
            pixels = step(pixels)
        return pixels


DECODERS: dict[str, Callable[[Transform], Decoder]] = {
    "pil": PillowDecoder,
    "tensor": TensorDecoder,
}
"""By the value of `data.decoder`."""


def to_tensor(image: Image.Image, box: Box | None = None) -> Tensor:
    """Decodes an image, or a box of it; the pixels of `decode.to_rgb` as (3, H, W) uint8."""
    file: Any = getattr(image, "fp", None)  # None where the reader has decoded it
    if box is not None and file is not None and (image.format, image.mode) == ("JPEG", "RGB"):
        file.seek(0)
        found = decode_region(file.read(), box, lambda: _by_pillow(image, box))
        if found is not None:
            return found
    return _by_pillow(image, box)


def _by_pillow(image: Image.Image, box: Box | None) -> Tensor:
    rgb = to_rgb(image)
    if box is not None:
        top, left, height, width = box
        rgb = rgb.crop((left, top, left + width, top + height))
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


def _steps(transform: Transform) -> list[Any]:
    from torchvision.transforms import Compose

    if not isinstance(transform, Compose):
        return [transform]
    return [step for part in transform.transforms for step in _steps(part)]


def _on_tensors(steps: list[Any]) -> list[Callable[[Any], Any]]:
    """Steps on Pillow's images as steps on tensors."""
    from timm.data.auto_augment import RandAugment
    from torchvision.transforms import Resize

    from experiments.data.plane_augment import PlaneRandAugment

    own = {Resize: _Resize, RandAugment: PlaneRandAugment}
    return [own.get(type(step), _as_it_is)(step) for step in steps]


def _as_it_is(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return step


class _Resize:
    """torchvision's `Resize`, which without v2 would leave uint8."""

    def __init__(self, of: Any) -> None:
        _check(of.interpolation)
        self.size = [of.size] if isinstance(of.size, int) else list(of.size)
        self.interpolation = of.interpolation

    def __call__(self, pixels: Tensor) -> Tensor:
        return _resize(pixels, self.size, self.interpolation)


def _resize(pixels: Tensor, size: list[int], interpolation: Any) -> Tensor:
    from torchvision.transforms.v2 import functional

    # As an image of a batch, rows of RGB values are known to be such, and stay so.
    batch = pixels.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return functional.resize(batch, size, interpolation, antialias=True)[0]


def _check(interpolation: Any) -> None:
    if interpolation.value not in ("bilinear", "bicubic"):
        raise ConfigError(
            f"data.decoder=tensor cannot resize by task.interpolation={interpolation.value}: "
            "set data.decoder=pil, or task.interpolation=bicubic or bilinear"
        )
