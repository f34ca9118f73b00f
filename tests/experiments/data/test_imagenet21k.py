"""ImageNet-21k: its class lists and counts, and its three layouts on disk with held-out images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run
from experiments.config import ConfigError
from experiments.data import imagenet21k
from experiments.data.image_classes import number_training_classes
from experiments.data.image_files import ImageFiles
from experiments.data.imagenet_variants import info
from experiments.data.locate import DataMissing, check_section
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig

STILL = ImageTaskConfig(crop_scale_min=1.0, horizontal_flip=0.0, eval_crop_fraction=1.0)
TARGET = "experiments.data.image_files.ImageFiles"
CLASSES = {"n00004475": [20, 40, 60], "n00005787": [120, 140, 160], "n00006024": [200, 220, 240]}
LABELS = {name: number for number, name in enumerate(CLASSES)}


class Named:
    """A reader with class names alone: one image of each."""

    left_out: Counter[str] = Counter()

    def __init__(self, names: list[str]) -> None:
        self.class_names: list[str] | None = list(names)
        self.labels = np.arange(len(names))

    def file_name(self, index: int) -> str:
        return str(index)


def listed(num_classes: int) -> list[str]:
    return info(imagenet21k.LISTS[num_classes]).split()


@pytest.mark.parametrize("num_classes", imagenet21k.LISTS)
def test_each_version_is_numbered_like_its_list(num_classes: int) -> None:
    names = listed(num_classes)
    assert len(set(names)) == len(names) == num_classes
    shuffled = [names[n] for n in np.random.RandomState(0).permutation(num_classes)]
    images: Any = Named(shuffled)
    number_training_classes(images, num_classes, "here")
    assert images.class_names == names
    assert [names[label] for label in images.labels] == shuffled


def test_the_release_of_2011_takes_its_places_in_googles_order() -> None:
    google, release = listed(imagenet21k.GOOGLE), listed(imagenet21k.FALL_2011)
    images: Any = Named(release)
    number_training_classes(images, imagenet21k.GOOGLE, "here")
    assert images.class_names == google
    assert [google[label] for label in images.labels] == release
    assert set(range(imagenet21k.GOOGLE)) - set(images.labels) == {
        google.index(name) for name in set(google) - set(release)
    }


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda names: [*names[:-1], "n99999999"], r"1 of 11221 classes are not .*'n99999999'"),
        (lambda names: names[1:], r"holds 11220 of this version's .* lacks is 'n00005787'"),
        (lambda names: names[1:], r"complete the copy, or set data.num_classes=11220"),
    ],
)
def test_another_or_a_missing_class_is_named(change: Callable[..., Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        number_training_classes(Named(change(listed(11_221))), 11_221, "here")  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def seen(data: ImageFiles) -> dict[str, set[tuple[int, int]]]:
    """(brightness in steps of 20, label) of the training and of the held-out images."""
    plan = BatchPlan(0, data.num_train, data.num_train, data.num_train)
    (step,) = data.train_batches(plan, 0, 1, STILL)
    held = data.eval_batches(["minival"], 4, 0, 1, STILL)
    batches = {"train": step, "minival": [(x, y["minival"]) for x, y in held]}
    return {
        split: {
            (round(float(image[0, 10, 10]) / 20) * 20, int(label))
            for images, labels in found
            for image, label in zip(images, labels, strict=True)
        }
        for split, found in batches.items()
    }


@pytest.mark.parametrize("layout", ["folders", "tars per class", "shards"])
def test_each_layout_gives_every_image_once_without_a_validation_split(
    layout: str, tmp_path: Path, class_folders: Any, tar_file: Any, shards: Any, image_bytes: Any
) -> None:
    root = tmp_path / "data"
    settings: dict[str, Any] = {"train_split": "."}
    if layout == "folders":
        class_folders(root, CLASSES)
    elif layout == "tars per class":
        for name, values in CLASSES.items():
            members = {f"{name}_{value}.JPEG": image_bytes(value) for value in values}
            tar_file(root / f"{name}.tar", members)
    else:
        samples = [(f"{k}_{v}", LABELS[k], v) for k, values in CLASSES.items() for v in values]
        shards(root, {"train": [samples[:5], samples[5:]]})
        settings = {"reader": "wds", "train_split": "train"}
    section = {
        "_target_": TARGET, "name": "imagenet21k", "num_classes": 3, "num_train": 9,
        "root": str(root), "num_holdout": 2, "input_size": 16, "num_workers": 0,
        "cache_dir": str(tmp_path / "cache"), **settings,
    }  # fmt: skip
    check_section(section)
    data = ImageFiles(**{k: v for k, v in section.items() if k != "_target_"})
    assert data.eval_groups == [["minival"]] and data.num_train == 7
    found = seen(data)
    assert len(found["train"]) == 7 and len(found["minival"]) == 2
    whole = {(v, LABELS[name]) for name, values in CLASSES.items() for v in values}
    assert found["train"] | found["minival"] == whole


def test_without_held_out_images_the_validation_split_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    section = {"_target_": TARGET, "name": "imagenet21k", "root": str(tmp_path)}
    with pytest.raises(DataMissing, match=r"the split 'validation'.*timm/imagenet-w21-wds"):
        check_section(section, proxy="pretrain_proxy")
    check_section({**section, "num_holdout": 1})


@pytest.mark.parametrize("page", ["imagenet21k", "jft300m", "jft3b"])
def test_pages_of_the_data_check_what_is_there_and_name_what_stands_in(
    page: str, tmp_path: Path
) -> None:
    from omegaconf import OmegaConf

    loaded: Any = OmegaConf.load(run.CONF / f"data/{page}.yaml")
    section = {**loaded, "root": str(tmp_path)}
    assert section["name"] == (
        "imagenet21k" if page == "imagenet21k" else f"imagenet21k_for_{page}"
    )
    check_section(section)
    with pytest.raises(DataMissing, match="get .* then set data.root=.*experiment=pretrain_proxy"):
        check_section({**section, "root": None}, proxy="pretrain_proxy")
