"""The transforms are the papers'."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.data.decoders import DECODERS
from experiments.data.image_transforms import (
    Cutout,
    eval_transform,
    rand_augment,
    train_transform,
)
from experiments.data.random_crop import RandomCrop
from experiments.settings.image import ImageTaskConfig


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.RandomState(0).randint(0, 256, (60, 80, 3), dtype=np.uint8))


def test_rand_augment_does_not_clip_the_papers_magnitude():
    operations = {op.name: op for op in rand_augment(2, 15.0).ops if hasattr(op, "name")}
    random.seed(0)
    angle = abs(operations["Rotate"].level_fn(15.0, {})[0])
    assert angle == pytest.approx(45.0)  # 30 degrees at magnitude 10, in a straight line beyond
    for op in operations.values():
        assert op.magnitude == 15.0 and op.magnitude_max >= 15.0 and op.prob == 1.0
    grey = Image.new("RGB", (40, 40), (200, 200, 200))
    corner = np.asarray(operations["Rotate"](grey))[0, 0]
    assert corner.tolist() == [128, 128, 128]


def test_levels_are_those_of_the_original():
    """big_vision's `level_to_arg` at magnitude 15, for images of 224: 100 and 40 pixels are 1."""
    operations = {getattr(op, "name", type(op).__name__): op for op in rand_augment(2, 15.0).ops}
    levels = {
        "Rotate": 45.0, "Posterize": 6, "SolarizeAdd": 165, "ShearX": 0.45, "ShearY": 0.45,
        **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), 2.8),
    }  # fmt: skip
    for name, level in levels.items():
        assert abs(operations[name].level_fn(15.0, {})[0]) == pytest.approx(level), name
    assert operations["Solarize"].level_fn(15.0, {})[0] >= 256  # 384 there: no level is changed
    assert abs(operations["TranslateXRel"].level_fn(15.0, {})[0]) * 224 == pytest.approx(150, 0.01)
    assert round(operations["Cutout"].fraction * 224) == 60


@pytest.mark.parametrize(("side", "about"), [(224, 196), (128, 64), (384, 255)])
def test_contrast_is_about_the_number_of_pixels_over_256_as_in_the_original(side, about):
    (contrast,) = (op for op in rand_augment(1, 6.0).ops if getattr(op, "name", "") == "Contrast")
    ramp = np.arange(side * side, dtype=np.uint32).reshape(side, side) % 251
    image = Image.fromarray(ramp.astype(np.uint8)).convert("RGB")
    found = np.asarray(contrast(image))[..., 0].astype(int)
    wanted = about + (0.6 * 1.8 + 0.1) * (ramp.astype(int) - about)
    assert np.abs(found - np.clip(wanted, 0, 255)).max() < 1 + 1e-6  # cut


def test_rand_augment_has_the_sixteen_operations_of_the_original():
    augment = rand_augment(2, 10.0)
    names = [getattr(op, "name", type(op).__name__) for op in augment.ops]
    assert len(names) == 16 and "Cutout" in names and augment.num_layers == 2


@pytest.mark.parametrize("magnitude", [0.0, 0.5, 2.4, 2.5, 5.0, 10.0, 15.0, 22.5, 30.0])
def test_every_operation_runs_at_every_magnitude(photo, magnitude):
    random.seed(0)
    for operation in rand_augment(1, magnitude).ops:
        for _ in range(4):  # signs and lengths are drawn
            changed = operation(photo)
            assert changed.size == photo.size and changed.mode == "RGB"
    (posterize,) = (
        op for op in rand_augment(1, magnitude).ops if getattr(op, "name", "") == "Posterize"
    )
    assert posterize.level_fn(magnitude, {}) == (max(1, int(magnitude / 10 * 4)),)


def test_cutout_greys_out_a_square_of_the_given_size():
    random.seed(1)
    image = Image.new("RGB", (224, 224))
    done = np.asarray(Cutout(15.0)(image))
    rows, columns = np.nonzero(done[:, :, 0] == 128)
    assert 60 <= np.ptp(rows) + 1 <= 120 and 60 <= np.ptp(columns) + 1 <= 120
    assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert not np.asarray(image).any()  # the original is left alone


def test_evaluation_resizes_the_shorter_side_and_cuts_the_centre():
    settings = ImageTaskConfig(eval_crop_fraction=0.5, interpolation="bilinear")
    pixels = np.zeros((64, 128, 3), dtype=np.uint8)
    pixels[16:48, 48:80] = 255  # the central 32 x 32 pixels
    image = eval_transform(16, settings)(Image.fromarray(pixels))
    assert image.shape == (3, 16, 16) and image.dtype == torch.uint8
    assert image[:, 1:-1, 1:-1].min() > 240


def test_border_is_cut_before_anything_else():
    pixels = np.zeros((36, 36, 3), dtype=np.uint8)
    pixels[2:-2, 2:-2] = 77
    settings = ImageTaskConfig(eval_crop_fraction=1.0)
    assert (eval_transform(32, settings, border=2)(Image.fromarray(pixels)) == 77).all()


def test_crop_and_flip_follow_the_settings(photo):
    still = ImageTaskConfig(crop_scale_min=1.0, horizontal_flip=0.0)
    flipped = ImageTaskConfig(crop_scale_min=1.0, horizontal_flip=1.0)
    images = []
    for settings in (still, flipped):
        random.seed(0)
        images.append(train_transform(32, settings)(photo))
    assert torch.equal(images[0], images[1].flip(-1))
    assert images[0].shape == (3, 32, 32) and images[0].dtype == torch.uint8


@pytest.mark.parametrize("kind", ["random", "inception"])
@pytest.mark.parametrize("least", [0.05, 0.5])
def test_no_crop_is_smaller_than_the_settings_say(kind, least):
    """A ramp from left to right and one from top to bottom tell where a crop has been."""
    across = np.broadcast_to(np.arange(240, dtype=np.uint8), (240, 240))
    ramps = Image.fromarray(np.stack([across, across.T, across], -1))
    settings = ImageTaskConfig(horizontal_flip=0.0, train_crop=kind, crop_scale_min=least)
    areas = []
    for seed in range(200):
        random.seed(seed)
        torch.manual_seed(seed)
        x = train_transform(24, settings)(ramps).float()
        areas.append(float(np.ptp(x[0].numpy()) * np.ptp(x[1].numpy())) / 240**2 * (24 / 23) ** 2)
    assert 0.9 * least < min(areas) < 1.3 * least and max(areas) > 0.8


@pytest.mark.parametrize("decoder", ["pil", "tensor"])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 3)])
def test_an_image_of_a_pixel_or_two_is_not_cropped_to_nothing(size, decoder):
    settings = ImageTaskConfig(horizontal_flip=0.0)
    decode = DECODERS[decoder](train_transform(8, settings))
    image = Image.new("RGB", size, (200, 200, 200))
    for seed in range(60):
        random.seed(seed)
        assert (decode.finish(decode.decode(image)) == 200).all()


def test_other_crops_are_timms(photo):
    from timm.data.transforms import RandomResizedCropAndInterpolation as Timm

    arguments = (photo, (0.08, 1.0), (3 / 4, 4 / 3))
    for seed in range(20):
        random.seed(seed)
        expected = Timm.get_params(*arguments), random.random()
        random.seed(seed)
        assert (RandomCrop.get_params(*arguments), random.random()) == expected
