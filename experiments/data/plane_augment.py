"""RandAugment on planes of bytes: the operations of `rand_augment`, to the last bit, at less cost.

For whatever changes pixels one by one, Pillow has Python round a table of 768 numbers, and it
smooths in floats. Here such operations are arithmetic on bytes, or a table for `bytes.translate`;
what blends, rotates or shears is Pillow's still. Planes go into a batch without being reordered.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, from_numpy

from experiments.data.image_transforms import GREY, Cutout, contrast_about_grey, grey_level

Planes = NDArray[np.uint8]
"""(3, height, width), contiguous."""

_RAMP = np.arange(256, dtype=np.uint8)[None]


class PlaneRandAugment:
    """timm's RandAugment, from a (3, H, W) uint8 tensor to another; the same random draws."""

    def __init__(self, of: Any) -> None:
        self._choose = copy.copy(of)
        self._choose.ops = [on_planes(operation) for operation in of.ops]

    def __call__(self, pixels: Tensor) -> Tensor:
        return from_numpy(self._choose(np.ascontiguousarray(pixels.numpy())))


def on_planes(operation: Any) -> Callable[[Planes], Planes]:
    """An operation of RandAugment on planes; one that is not known here is left to Pillow.

    The result may share memory with the argument, which is never written to.
    """
    from timm.data.auto_augment import NAME_TO_OP, AugmentOp

    if isinstance(operation, Cutout):
        return partial(_cut_out, operation.box)
    known = (NAME_TO_OP.get(getattr(operation, "name", "")), contrast_about_grey)
    if isinstance(operation, AugmentOp) and operation.aug_fn in known:
        function = _OWN.get(name := getattr(operation.aug_fn, "__name__", ""))
        if operation.kwargs["resample"] == Image.Resampling.NEAREST:
            function = _NEAREST.get(name, function)
        if function is not None:
            found = copy.copy(operation)
            found.aug_fn = function
            return found
    return partial(_by_pillow, operation)


def _by_pillow(operation: Callable[[Image.Image], Image.Image], planes: Planes) -> Planes:
    return _together(operation(_image(planes)).split())


def _translate(axis: int, planes: Planes, fraction: float, fillcolor: Any, **_: Any) -> Planes:
    """By whole pixels, as the nearest neighbour has it."""
    size = planes.shape[axis]
    shift = math.floor(fraction * size + 0.5)
    found = np.empty_like(planes)
    found[:] = np.reshape(fillcolor, (3, 1, 1))
    into, out_of = found.swapaxes(0, axis), planes.swapaxes(0, axis)
    start, end = max(0, -shift), min(size, size - shift)
    if start < end:
        into[start:end] = out_of[start + shift : end + shift]
    return found


def _auto_contrast(planes: Planes, **_: Any) -> Planes:
    return _translated(planes, [_stretch(int(p.min()), int(p.max())) for p in planes])


def _stretch(low: int, high: int) -> Planes:
    """The table that makes `low` 0 and `high` 255."""
    if high <= low:
        return _RAMP
    scale = 255.0 / (high - low)
    return np.clip(_RAMP * scale + -low * scale, 0, 255).astype(np.uint8)


def _equalize(planes: Planes, **_: Any) -> Planes:
    return _translated(planes, [_levelling(np.array(i.histogram())) for i in _images(planes)])


def _levelling(counts: NDArray[np.int64]) -> Planes:
    """The table that makes a histogram flat."""
    (used,) = counts.nonzero()
    step = (counts.sum() - counts[used[-1]]) // 255
    if len(used) <= 1 or not step:
        return _RAMP
    below = np.concatenate(([0], counts.cumsum()[:-1]))
    return np.minimum((step // 2 + below) // step, 255).astype(np.uint8)


def _invert(planes: Planes, **_: Any) -> Planes:
    return ~planes


def _posterize(planes: Planes, bits_to_keep: int, **_: Any) -> Planes:
    return planes & np.uint8(256 - 2 ** (8 - min(8, bits_to_keep)))


def _solarize(planes: Planes, thresh: float, **_: Any) -> Planes:
    return planes ^ (planes >= thresh) * np.uint8(255)


def _solarize_add(planes: Planes, add: int, thresh: int = 128, **_: Any) -> Planes:
    raised = np.minimum(_RAMP + np.int64(add), 255)
    table = np.where(thresh > _RAMP, raised, _RAMP).astype(np.uint8)
    return _translated(planes, [table] * 3)


def _brightness(planes: Planes, factor: float, **_: Any) -> Planes:
    return _translated(planes, [_blended_ramp(0, factor)] * 3)


def _contrast(planes: Planes, factor: float, **_: Any) -> Planes:
    _, height, width = planes.shape
    return _translated(planes, [_blended_ramp(grey_level(width, height), factor)] * 3)


def _blended_ramp(level: int, factor: float) -> Planes:
    ramp = Image.fromarray(_RAMP)
    return np.asarray(Image.blend(Image.new("L", ramp.size, level), ramp, factor))


def _color(planes: Planes, factor: float, **_: Any) -> Planes:
    grey = _image(planes).convert("L")
    return _together(Image.blend(grey, plane, factor) for plane in _images(planes))


def _sharpness(planes: Planes, factor: float, **_: Any) -> Planes:
    smooth = map(_smooth, planes)
    pairs = zip(map(Image.fromarray, smooth), _images(planes), strict=True)
    return _together(Image.blend(blurred, plane, factor) for blurred, plane in pairs)


def _smooth(plane: Planes) -> Planes:
    """Means over 3 x 3 pixels, the middle one five times; the rim stays."""
    wide = plane.astype(np.uint16)
    rows = wide[:-2] + wide[1:-1]
    rows += wide[2:]
    total = rows[:, :-2] + rows[:, 1:-1]
    total += rows[:, 2:]
    total += wide[1:-1, 1:-1] << 2
    total += 6
    total //= 13  # never halfway between two, 13 being odd
    found = plane.copy()
    found[1:-1, 1:-1] = total
    return found


def _cut_out(draw_box: Callable[[int, int], tuple[int, int, int, int]], planes: Planes) -> Planes:
    found = planes.copy()
    left, top, right, bottom = draw_box(planes.shape[2], planes.shape[1])
    found[:, top:bottom, left:right] = np.reshape(GREY, (3, 1, 1))
    return found


def _translated(planes: Planes, tables: list[Planes]) -> Planes:
    found = np.empty_like(planes)
    for plane, table, out in zip(planes, tables, found, strict=True):
        bytes_found = plane.tobytes().translate(table.tobytes())
        out[:] = np.frombuffer(bytes_found, np.uint8).reshape(out.shape)
    return found


def _images(planes: Planes) -> Iterator[Image.Image]:
    """Grey images in the same memory."""
    return map(Image.fromarray, planes)


def _image(planes: Planes) -> Image.Image:
    return Image.merge("RGB", list(_images(planes)))


def _together(images: Iterable[Image.Image]) -> Planes:
    return np.stack([np.asarray(image) for image in images])


_OWN: dict[str, Callable[..., Planes]] = {
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "invert": _invert,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "brightness": _brightness,
    "contrast_about_grey": _contrast,
    "color": _color,
    "sharpness": _sharpness,
}
_NEAREST: dict[str, Callable[..., Planes]] = {
    "translate_x_rel": partial(_translate, 2),
    "translate_y_rel": partial(_translate, 1),
}
