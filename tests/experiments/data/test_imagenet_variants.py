"""The further ImageNet test sets, in the layouts of their archives."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.config import ConfigError
from experiments.data.image_files import ImageFiles
from experiments.data.image_folders import FolderImages
from experiments.data.image_readers import open_split
from experiments.data.imagenet_variants import open_variant, real_labels, synsets
from experiments.data.locate import DataMissing
from experiments.settings.image import ImageTaskConfig

SETTINGS = ImageTaskConfig(eval_crop_fraction=1.0)


@pytest.fixture
def write(tmp_path, image_bytes) -> Callable[[Path, str], None]:
    """Puts one tiny image, the same everywhere."""
    original = tmp_path / "image.jpeg"
    original.write_bytes(image_bytes(100, size=(8, 8)))

    def put(path: Path, name: str) -> None:
        path.mkdir(parents=True, exist_ok=True)
        os.link(original, path / name)

    return put


@pytest.fixture
def validation(tmp_path, write) -> Path:
    """One validation image of each of the 1000 classes, numbered like the originals."""
    for number, name in enumerate(synsets(), start=1):
        write(tmp_path / "val" / name, f"ILSVRC2012_val_{number:08d}.JPEG")
    return tmp_path


def source(root: Path, **changes) -> ImageFiles:
    settings = {"num_workers": 0, "input_size": 8, "cache_dir": str(root / "cache"), **changes}
    return ImageFiles("imagenet", 1000, 1000, str(root), **settings)


def evaluated(data: ImageFiles, split: str):
    """All images and labels of a split."""
    (group,) = [group for group in data.eval_groups if split in group]
    batches = list(data.eval_batches(group, 256, 0, 1, SETTINGS))
    if not batches or split not in batches[0][1]:
        return None
    images = torch.cat([images for images, _ in batches])
    return images, torch.cat([labels[split] for _, labels in batches])


def test_validation_and_real_share_their_images(validation):
    data = source(validation, real_labels=True)
    assert data.eval_groups == [["imagenet_val", "imagenet_real"]]
    _, labels = evaluated(data, "imagenet_val")
    assert labels.tolist() == list(range(1000))
    _, targets = evaluated(data, "imagenet_real")
    assert targets.dtype == torch.bool and targets.shape == (1000, 1000)
    # Number 1 has no ReaL label, number 2 has two.
    assert not targets[0].any() and targets[1].nonzero().flatten().tolist() == [795, 970]
    assert data.visible_classes("imagenet_real") is None


def test_real_follows_names_in_shards_not_their_order(tmp_path, shards):
    keys = [(f"ILSVRC2012_val_{number:08d}", 0, 9) for number in (3, 1, 2)]
    shards(tmp_path, {"validation": [keys]})
    images = open_split("wds", str(tmp_path), "validation", str(tmp_path / "cache"))
    shown = real_labels(images, 1000)
    packaged = {1: [], 2: [795, 970], 3: [230, 231]}
    assert shown is not None
    assert [np.flatnonzero(row).tolist() for row in shown.targets] == [
        packaged[n] for n in (3, 1, 2)
    ]


def test_real_is_left_out_with_a_notice_where_names_are_lost(tmp_path, write):
    for number, name in enumerate(synsets()):
        write(tmp_path / "val" / name, f"{number}.JPEG")
    data = source(tmp_path, real_labels=True)
    with pytest.warns(UserWarning, match="imagenet_real is left out"):
        assert evaluated(data, "imagenet_real") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        assert evaluated(data, "imagenet_real") is None


def test_v2_folders_are_numbers_not_words(tmp_path, validation, image_bytes):
    for number in range(1000):
        folder = tmp_path / "v2" / "imagenetv2-matched-frequency-format-val" / str(number)
        folder.mkdir(parents=True)
        (folder / "a.jpeg").write_bytes(image_bytes(number % 250, size=(8, 8)))
    data = source(tmp_path, eval_roots={"v2": str(tmp_path / "v2"), "a": None})
    assert data.eval_groups == [["imagenet_val"], ["imagenet_v2"]]
    images, labels = evaluated(data, "imagenet_v2")
    assert sorted(labels.tolist()) == list(range(1000))
    assert ((images[:, 0, 6, 6].long() - labels % 250).abs() <= 6).all()
    assert data.visible_classes("imagenet_v2") is None


@pytest.mark.parametrize("key", ["a", "r"])
def test_subsets_keep_imagenets_class_numbers(tmp_path, validation, write, key):
    info = Path(__import__("timm").__file__).parent / "data" / "_info"
    names = (info / f"imagenet_{key}_synsets.txt").read_text().split()
    numbers = [int(n) for n in (info / f"imagenet_{key}_indices.txt").read_text().split()]
    for name in names:
        write(tmp_path / f"imagenet-{key}" / name, "x.jpg")
    data = source(tmp_path, eval_roots={key: str(tmp_path / f"imagenet-{key}")})
    visible = data.visible_classes(f"imagenet_{key}")
    assert visible is not None and visible.dtype == torch.int64
    assert visible.tolist() == sorted(numbers) and len(numbers) == 200
    _, labels = evaluated(data, f"imagenet_{key}")
    assert sorted(labels.tolist()) == sorted(numbers)


def test_sketch_and_its_incomplete_or_foreign_copies(tmp_path, validation, write):
    for name in synsets():
        write(tmp_path / "sketch" / name, "sketch_0.JPEG")
    data = source(tmp_path, eval_roots={"sketch": str(tmp_path / "sketch")})
    _, labels = evaluated(data, "imagenet_sketch")
    assert labels.tolist() == list(range(1000)) and data.visible_classes("imagenet_sketch") is None
    (tmp_path / "sketch" / synsets()[999]).rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=f"first that differs is '{synsets()[999]}'"):
        open_variant("sketch", str(tmp_path / "sketch"))
    with pytest.raises(DataMissing, match=r"data\.eval_roots\.r=.*imagenet-r"):
        open_variant("r", str(tmp_path / "nowhere"))


@pytest.fixture
def objectnet(tmp_path) -> Path:
    """Three folders, two of them in ImageNet, with a red border, and the archive's mappings."""
    from PIL import Image

    root = tmp_path / "objectnet-1.0"
    for folder, grey in {"alarm_clock": 50, "air_freshener": 90, "banana": 130}.items():
        (root / "images" / folder).mkdir(parents=True)
        image = Image.new("RGB", (20, 20), (255, 0, 0))
        image.paste((grey, grey, grey), (2, 2, 18, 18))
        image.save(root / "images" / folder / "0.png")
    lines = ["kit fox, Vulpes macrotis", "banana", "digital clock", "analog clock"]
    numbers = {278: 0, 954: 1, 530: 2, 409: 3}  # line of each class, as torchvision orders them
    files = {
        "folder_to_objectnet_label.json": json.dumps(
            {"alarm_clock": "Alarm clock", "air_freshener": "Air freshener", "banana": "Banana"}
        ),
        "objectnet_to_imagenet_1k.json": json.dumps(
            {"Alarm clock": "analog clock; digital clock", "Banana": "banana"}
        ),
        "pytorch_to_imagenet_2012_id.json": json.dumps({str(k): v for k, v in numbers.items()}),
        "imagenet_to_label_2012_v2": "\n".join(lines) + "\n",
    }
    (root / "mappings").mkdir()
    for name, content in files.items():
        (root / "mappings" / name).write_text(content)
    return root


def test_objectnet_classes_border_and_overlap(tmp_path, validation, objectnet):
    data = source(tmp_path, eval_roots={"objectnet": str(objectnet)})
    images, targets = evaluated(data, "imagenet_objectnet")
    assert targets.dtype == torch.bool and targets.shape == (2, 1000)
    assert [row.nonzero().flatten().tolist() for row in targets] == [[409, 530], [954]]
    assert images[0].unique().tolist() == [50] and images[1].unique().tolist() == [130]  # no red
    visible = data.visible_classes("imagenet_objectnet")
    assert visible is not None and visible.tolist() == [409, 530, 954]


def test_objectnet_needs_the_whole_archive(tmp_path, objectnet):
    with pytest.raises(DataMissing, match="objectnet-1.0 of the unpacked archive"):
        open_variant("objectnet", str(objectnet / "images"))


def test_class_folders_must_be_imagenets_in_its_order(validation, write):
    for name in synsets():
        write(validation / "train" / name, "x.JPEG")
    (validation / "val" / synsets()[5]).rename(validation / "val" / "n00000001")
    with pytest.raises(ConfigError, match="the first is 'n00000001'"):
        evaluated(source(validation), "imagenet_val")
    assert len(FolderImages(validation / "val").labels) == 1000
    (validation / "train" / synsets()[5]).rename(validation / "train" / "n00000001")
    with pytest.raises(ConfigError, match="'n00000001' is not one of ImageNet-1k's"):
        evaluated(source(validation), "imagenet_val")


def test_damaged_mappings_of_objectnet_are_one_line(objectnet):
    (objectnet / "mappings" / "pytorch_to_imagenet_2012_id.json").write_text("{")
    with pytest.raises(ConfigError, match="mappings is damaged .* unpack the archive again"):
        open_variant("objectnet", str(objectnet))
