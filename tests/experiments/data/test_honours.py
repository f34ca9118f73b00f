"""A setting that would do nothing is refused; every page of today does what it says."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

import run
from experiments.build import locate
from experiments.config import ConfigError
from experiments.data.honours import refuse_ignored
from experiments.data.image_files import ImageFiles
from experiments.data.in_memory import InMemoryImages
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig

OWN = ("loss", "label_smoothing", "mixup_alpha", "cutmix_alpha")  # what the task itself does
OTHER = {
    "randaug_layers": 2, "randaug_magnitude": 9.0, "crop_scale_min": 0.5, "horizontal_flip": 0.9,
    "max_shift": 2.0, "max_rotation": 0.3, "max_zoom": 0.2, "eval_crop_fraction": 0.5,
    "train_crop": "centre", "interpolation": "nearest",
    "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.2],
}  # fmt: skip
"""Another value than the default for each setting that is a source's business."""
BASIS = {"randaug_magnitude": {"randaug_layers": 2}}
"""What a setting needs to do anything."""
NORMALISED = {"mean", "std"}  # by the task, where the source gives bytes


def test_each_setting_is_the_tasks_or_some_sources():
    known = {field.name for field in fields(ImageTaskConfig)} - {"_target_"}
    assert known == {*OWN, *OTHER} == {*OWN, *InMemoryImages.honours, *ImageFiles.honours}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Eight noisy images for training and for validation, of 2 classes."""
    from PIL import Image

    root = tmp_path_factory.mktemp("files")
    noise = np.random.RandomState(0)
    for split in ("train", "val"):
        for number in range(8):
            path = root / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.randint(0, 256, (40, 30, 3), np.uint8)).save(path)
    return ImageFiles("toy", 2, 8, str(root), num_workers=0, input_size=16)


def seen(source, settings: ImageTaskConfig) -> list[torch.Tensor]:
    """All images that training and evaluation get."""
    plan = BatchPlan(0, 8, 8, 8)
    batches = [batch[0] for step in source.train_batches(plan, 0, 2, settings) for batch in step]
    (group, *_) = source.eval_groups
    return batches + [x for x, _ in source.eval_batches(group, 99, 0, 1, settings)]


@pytest.mark.parametrize("kind", ["files", "in_memory"])
@pytest.mark.parametrize("key", OTHER)
def test_a_source_honours_just_what_it_says(kind, key, request):
    source = request.getfixturevalue("files") if kind == "files" else tiny.images(num_train=8)
    basis = ImageTaskConfig(**BASIS.get(key, {}))
    before, after = (seen(source, s) for s in (basis, replace(basis, **{key: OTHER[key]})))
    changed = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert changed == (key in source.honours and key not in NORMALISED)
    if key in NORMALISED:  # bytes are normalised later, floats are already
        assert (key in source.honours) == (before[0].dtype == torch.uint8)


@pytest.mark.parametrize("source", [InMemoryImages, ImageFiles])
@pytest.mark.parametrize("key", OTHER)
def test_what_a_source_does_not_honour_is_refused_in_one_line(source, key):
    settings = ImageTaskConfig(**{**BASIS.get(key, {}), key: OTHER[key]})
    if key in source.honours:
        refuse_ignored(settings, source.honours, "toy", OWN)
        return
    with pytest.raises(ConfigError, match=r"task\.\w+=.* does nothing with the data toy") as error:
        refuse_ignored(settings, source.honours, "toy", OWN)
    assert "\n" not in str(error.value)


def test_the_message_names_what_the_source_heeds_and_the_default():
    with pytest.raises(
        ConfigError, match=r"heeds horizontal_flip.*: set task.crop_scale_min=0.08$"
    ):
        refuse_ignored(ImageTaskConfig(crop_scale_min=0.5), InMemoryImages.honours, "digits", OWN)


def test_all_that_does_nothing_is_named_at_once():
    page = ImageTaskConfig(max_shift=1.0, max_rotation=0.2, max_zoom=0.12)
    remedy = r"set task.max_shift=0.0 task.max_rotation=0.0 task.max_zoom=0.0$"
    with pytest.raises(ConfigError, match=remedy):
        refuse_ignored(page, ImageFiles.honours, "mine", OWN)


def test_a_magnitude_without_layers_does_nothing():
    with pytest.raises(ConfigError, match=r"randaug_magnitude=9.0 does nothing while"):
        refuse_ignored(ImageTaskConfig(randaug_magnitude=9.0), ImageFiles.honours, "toy", OWN)


def test_the_smallest_area_of_a_crop_that_draws_none_does_nothing():
    honours = ImageFiles.honours
    refuse_ignored(ImageTaskConfig(train_crop="centre"), honours, "toy", OWN)
    refuse_ignored(ImageTaskConfig(train_crop="inception", crop_scale_min=0.5), honours, "toy", OWN)
    with pytest.raises(ConfigError, match="train_crop=centre: set task.crop_scale_min=0.08$"):
        refuse_ignored(
            ImageTaskConfig(train_crop="centre", crop_scale_min=0.5), honours, "toy", OWN
        )


def test_settings_of_the_task_and_equal_ones_pass():
    own = ImageTaskConfig(label_smoothing=0.1, mixup_alpha=0.2, cutmix_alpha=0.3)
    refuse_ignored(own, InMemoryImages.honours, "toy", OWN)
    same = ImageTaskConfig(mean=(0.5, 0.5, 0.5))  # type: ignore[arg-type]
    refuse_ignored(same, InMemoryImages.honours, "toy", OWN)


def test_a_source_that_does_not_say_refuses_nothing():
    refuse_ignored(ImageTaskConfig(max_zoom=0.5, randaug_layers=3), None, "theirs")


HONOURS = {
    "experiments.data.image_files.ImageFiles": ImageFiles.honours,
    "experiments.data.bundled.digits": InMemoryImages.honours,
    "experiments.data.bundled.mnist1d": InMemoryImages.honours,
    "experiments.data.bundled.fashion_mnist": InMemoryImages.honours,
    "experiments.data.bundled_glyphs.glyph_identities": InMemoryImages.honours,
    "experiments.data.bundled_signals.long_signals": InMemoryImages.honours,
    "experiments.data.bundled_signals.many_signals": InMemoryImages.honours,
    "experiments.data.bundled_verses.verses": InMemoryImages.honours,
    "experiments.data.bundled_signals.random_classes": InMemoryImages.honours,
}


@pytest.mark.parametrize("page", sorted(p.stem for p in Path("conf/experiment").glob("*.yaml")))
def test_every_page_of_images_passes(page):
    config = run.compose([f"experiment={page}"])
    if config.task["_target_"] != ImageTaskConfig._target_:
        pytest.skip("another task")
    plain = {key: value for key, value in config.task.items() if key != "_target_"}
    settings = ImageTaskConfig(**plain)
    honours = HONOURS[config.data["_target_"]]
    assert callable(locate(config.data["_target_"], "data"))
    refuse_ignored(settings, honours, config.data["name"], OWN)
    assert asdict(settings)["horizontal_flip"] == config.task["horizontal_flip"]
