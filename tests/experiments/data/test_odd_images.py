"""What is said of images that are there twice, stored on their side, or in odd folders."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.config import ConfigError
from experiments.data import image_twins
from experiments.data.image_files import ImageFiles
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig

STILL = ImageTaskConfig(crop_scale_min=1.0, horizontal_flip=0.0, eval_crop_fraction=1.0)


@pytest.fixture
def tree(tmp_path: Path, class_folders) -> Path:
    class_folders(tmp_path / "train", {"ant": [20, 22, 24, 26], "bee": [120, 122]})
    class_folders(tmp_path / "val", {"ant": [30], "bee": [130]})
    return tmp_path


def source(root: Path, num_train: int = 6, num_classes: int = 2, **changes: Any) -> ImageFiles:
    settings = {"num_workers": 0, "input_size": 16, **changes}
    return ImageFiles("toy", num_classes, num_train, str(root), **settings)


def said(data: ImageFiles) -> list[str]:
    """All notices of a look at training and validation images."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        next(data.train_batches(BatchPlan(0, data.num_train, 2, 2), 0, 1, STILL))
        list(data.eval_batches(data.eval_groups[0], 4, 0, 1, STILL))
    return [str(one.message) for one in caught]


def copied(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(path.read_bytes())


def test_nothing_is_said_of_sound_folders(tree: Path) -> None:
    assert said(source(tree)) == []


@pytest.mark.parametrize("decoder", ["pil", "tensor"])
def test_a_copy_under_another_name_and_class_is_found(tree: Path, decoder: str) -> None:
    copied(tree / "train/ant/ant_22.JPEG", tree / "val/ant/new.jpg")
    copied(tree / "train/ant/ant_24.JPEG", tree / "val/bee/also_new.jpg")
    (notice,) = said(source(tree, decoder=decoder))
    assert "(validation): 2 of 4 images are in train, too, 1 of them under another class" in notice
    assert "new.jpg (there " in notice and "ant_22.JPEG): what is measured" in notice


def test_an_image_under_two_classes_is_said(tree: Path) -> None:
    (tree / "train/cat").symlink_to(tree / "train/ant")
    copied(tree / "val/ant/ant_30.JPEG", tree / "val/cat/x.jpg")
    (tree / "val/cat/x.jpg").write_bytes((tree / "val/cat/x.jpg").read_bytes() + b"\0")
    notice = said(source(tree, 10, 3))[0]
    assert "(train): 4 of 10 images are there under another class, too, byte for byte" in notice


def test_what_is_set_aside_and_trained_on_under_another_name_is_said(tree: Path) -> None:
    """Every image is there twice: what is set aside had been seen, without a word."""
    for path in list((tree / "train").rglob("*.JPEG")):
        copied(path, path.with_name(f"again_{path.name}"))
    data = source(tree, 12, num_holdout=2)
    _, left, aside = data._train
    names = [[data._splits.training.name(int(row))[-7:] for row in rows] for rows in (left, aside)]
    seen = sum(name in names[0] for name in names[1])
    notices = said(data)
    assert seen and f"data.num_holdout: {seen} of 2 images that are set aside" in notices[0]
    assert len(notices) == 1, "copies within a class, all trained on, are no fault"


@pytest.mark.parametrize("split, where", [("train", "(train)"), ("val", "(validation)")])
def test_empty_files_are_refused_before_the_first_step(
    tree: Path, monkeypatch: pytest.MonkeyPatch, split: str, where: str
) -> None:
    """A full disk leaves such: without a look the first epoch stops at one, or ends with it."""
    next((tree / split / "ant").iterdir()).write_bytes(b"")
    total = {"train": 6, "val": 2}[split]
    with pytest.raises(ConfigError, match=rf"{split}.*: 1 of {total} images are empty files, the"):
        said(source(tree))
    monkeypatch.setattr(image_twins, "_MOST_SIZES", total - 1)
    split_read = {"(train)": "training", "(validation)": "validation"}[where]
    assert getattr(source(tree)._splits, split_read)  # of a very large split no size is asked


def test_of_many_bytes_some_are_compared(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(tree / "train/ant/ant_22.JPEG", tree / "val/ant/new.jpg")
    monkeypatch.setattr(image_twins, "_MOST_BYTES", 1)
    data = source(tree)
    train, val = data._splits.training, data._splits.validation
    assert len(image_twins.copies(train, val)) <= 1  # and no division by nothing
    assert image_twins.copies(val, train) in ([], [(1, 1)])
    monkeypatch.setattr(image_twins, "_FEW", 7)
    assert not image_twins.are_few(train, val)
    assert said(source(tree)) == []  # of a large set names alone lead to copies


def test_what_cannot_be_read_is_no_copy(tree: Path) -> None:
    for name in ("train/ant/broken.jpg", "val/ant/broken.jpg"):
        (tree / name).write_bytes(b"no image")
    data = source(tree, 7)
    assert image_twins.copies(data._splits.training, data._splits.validation) == []


@pytest.mark.parametrize("orientation", range(9))
def test_images_that_are_stored_on_their_side_are_said(tree: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    file = io.BytesIO()
    noise = np.random.RandomState(0).randint(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "JPEG", exif=exif)
    (tree / "val/ant/photo.jpg").write_bytes(file.getvalue())
    found = said(source(tree))
    assert len(found) == (orientation > 1)
    assert all("1 of 3 images that were looked at are to be shown turned" in n for n in found)
    assert all("photo.jpg: where it matters, store them upright" in n for n in found)


def test_odd_folders_are_named(tree: Path) -> None:
    (tree / "train/cat").mkdir()
    (tree / "train/dog").mkdir()
    with pytest.raises(ConfigError, match="holds 2 classes.*; no image .*folder cat and 1 more"):
        said(source(tree, num_classes=4))
    assert said(source(tree)) == [f"{tree} (train): no image lies in the folder cat and 1 more"]
    (tree / "train/loop").symlink_to(tree / "train")
    assert len(said(source(tree))) == 1


def test_a_folder_within_a_class_is_named(tree: Path) -> None:
    copied(tree / "val/ant/ant_30.JPEG", tree / "train/ant/worker/x.jpg")
    (tree / "val/ant/ant_30.JPEG").unlink()
    odd = "ant/worker lies in the folder of the class 'ant', and is a class 'worker' of its own"
    with pytest.raises(ConfigError, match=f"holds 3 classes.*; {odd}"):
        said(source(tree, 7))
    assert any(odd in notice for notice in said(source(tree, 7, 3)))


def test_one_class_is_no_task(tmp_path: Path, class_folders) -> None:
    class_folders(tmp_path / "train", {"ant": [20, 22]})
    (tmp_path / "train/bee").mkdir()
    (tmp_path / "train/bee/photo").write_bytes(b"")
    with pytest.raises(
        ConfigError, match="holds 1 class, .* two to tell apart: .*; no image lies in"
    ):
        said(source(tmp_path, 2))
    with pytest.raises(ConfigError, match=r"1 file is left out: .* suffix \(1 without one\)"):
        said(source(tmp_path, 2))


def test_numbers_that_begin_at_one_are_said(tmp_path: Path, image_bytes, tar_file) -> None:
    members: dict[str, bytes] = {}
    for number in range(4):
        members[f"{number}.jpg"] = image_bytes(40 * number)
        members[f"{number}.cls"] = str(1 + number % 2).encode()
    tar_file(tmp_path / "train-0.tar", members)
    tar_file(tmp_path / "val-0.tar", members)
    with pytest.raises(ConfigError, match="3 classes: .*no image is of class 0: do the numbers"):
        said(source(tmp_path, 4, reader="wds", cache_dir=str(tmp_path / "cache")))
