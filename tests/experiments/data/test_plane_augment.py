"""RandAugment on planes is that on Pillow's images, to the last bit."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from experiments.data.image_transforms import rand_augment
from experiments.data.plane_augment import PlaneRandAugment, _smooth, on_planes

MAGNITUDES = [0.0, 0.5, 2.5, 5.0, 10.0, 15.0, 22.5, 30.0]
OPERATIONS = [getattr(op, "name", type(op).__name__) for op in rand_augment(1, 10.0).ops]


def draw(seed: int) -> np.random.RandomState:
    return np.random.RandomState(seed)


def pictures() -> dict[str, np.ndarray]:
    """(height, width, 3) uint8: every pair of levels, narrow ranges, one level, few pixels."""
    levels = np.arange(256, dtype=np.uint8)
    pairs = np.stack(np.broadcast_arrays(levels[:, None], levels[None], levels[::-1, None]), -1)
    noise = draw(0).randint(0, 256, (61, 83, 3), dtype=np.uint8)
    return {
        "pairs": pairs,
        "noise": noise,
        "narrow": noise // 5 + np.array([3, 90, 203], dtype=np.uint8),
        "few levels": noise // 100 * 100,
        "one level": np.full((20, 30, 3), 77, dtype=np.uint8),
        "black": np.zeros((9, 8, 3), dtype=np.uint8),
        "two pixels": noise[:2, :1],
        "one pixel": noise[:1, :1],
        "a row": noise[:1],
        "dark": (noise.astype(int) ** 3 >> 16).astype(np.uint8),
    }


def seeded(function, argument, seed: int):
    random.seed(seed)
    np.random.seed(seed)
    return function(argument), random.random(), np.random.rand()


@pytest.mark.parametrize("number", range(16), ids=OPERATIONS)
@pytest.mark.parametrize("name", pictures())
def test_every_operation_is_pillows(name, number):
    picture = pictures()[name]
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1))
    before = planes.copy()
    for magnitude in MAGNITUDES:
        operation = rand_augment(1, magnitude).ops[number]
        for seed in range(3):  # signs and places are drawn
            truth, *drawn = seeded(operation, Image.fromarray(picture), seed)
            found, *drawn_too = seeded(on_planes(operation), planes, seed)
            assert np.array_equal(found.transpose(1, 2, 0), np.asarray(truth)), magnitude
            assert drawn == drawn_too and found.dtype == np.uint8
    assert np.array_equal(planes, before)


def test_factors_of_blending_in_between(monkeypatch):
    """Also those that timm's magnitudes do not lead to."""
    picture = pictures()["pairs"]
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1))
    operations = {getattr(op, "name", ""): op for op in rand_augment(1, 10.0).ops}
    for name in ("Color", "Contrast", "Brightness", "Sharpness"):
        for factor in draw(1).uniform(0, 3, 12):
            operation = operations[name]
            monkeypatch.setattr(operation, "level_fn", lambda *_, factor=factor: (factor,))
            truth = np.asarray(operation(Image.fromarray(picture)))
            assert np.array_equal(on_planes(operation)(planes).transpose(1, 2, 0), truth)


def test_smoothing_never_rounds_otherwise():
    """Pillow adds in floats; every sum that 3 x 3 pixels can have is met here."""
    totals = np.arange(13 * 255 + 1)
    tiles = np.zeros((len(totals), 3, 3), dtype=int)
    tiles[:, 1, 1] = np.minimum(totals // 5, 255)
    rest = totals - 5 * tiles[:, 1, 1]
    for place in (0, 1, 2, 3, 5, 6, 7, 8):
        tiles[:, place // 3, place % 3] = np.minimum(rest, 255)
        rest = rest - tiles[:, place // 3, place % 3]
    assert not rest.any()
    picture = np.ascontiguousarray(tiles.transpose(1, 0, 2).reshape(3, -1), dtype=np.uint8)
    truth = np.asarray(Image.fromarray(picture).filter(ImageFilter.SMOOTH))
    assert np.array_equal(_smooth(picture), truth)


def test_layers_and_draws_are_timms():
    picture = pictures()["noise"]
    augment = rand_augment(3, 15.0)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)  # as resized: not contiguous
    for seed in range(30):
        truth, *drawn = seeded(augment, Image.fromarray(picture), seed)
        found, *drawn_too = seeded(PlaneRandAugment(augment), pixels, seed)
        assert torch.equal(found, torch.from_numpy(np.array(truth)).permute(2, 0, 1))
        assert drawn == drawn_too
    assert torch.equal(pixels, torch.from_numpy(picture).permute(2, 0, 1))


def test_what_is_not_known_here_is_pillows():
    from timm.data.auto_augment import AugmentOp

    planes = np.ascontiguousarray(pictures()["noise"].transpose(2, 0, 1))
    for name in ("GaussianBlur", "Contrast"):  # timm's own contrast, about the image's mean
        other = AugmentOp(name, prob=1.0, magnitude=5)
        truth = np.asarray(other(Image.fromarray(pictures()["noise"])))
        assert np.array_equal(on_planes(other)(planes).transpose(1, 2, 0), truth)
    for name in ("TranslateXRel", "Rotate"):  # not to the nearest neighbour
        move = AugmentOp(name, 1.0, 5, {"img_mean": (1, 2, 3), "interpolation": 3})
        truth, *_ = seeded(move, Image.fromarray(pictures()["noise"]), 0)
        assert np.array_equal(seeded(on_planes(move), planes, 0)[0].transpose(1, 2, 0), truth)
    posterize = AugmentOp("Posterize", prob=1.0, magnitude=5)
    posterize.aug_fn = lambda image, *_, **__: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    assert np.array_equal(on_planes(posterize)(planes), planes[:, ::-1])
