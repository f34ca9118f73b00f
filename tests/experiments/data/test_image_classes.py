"""A class has one number in all splits, whatever each reader would have given it."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
import torch
from data_trees import image as encoded

from experiments.config import ConfigError
from experiments.data import image_splits, image_twins
from experiments.data.image_classes import number_training_classes, require_imagenet
from experiments.data.image_files import ImageFiles
from experiments.data.image_folders import FolderImages
from experiments.data.image_splits import ImageSplits
from experiments.data.imagenet_variants import lemmas, synsets
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig

STILL = ImageTaskConfig(crop_scale_min=1.0, horizontal_flip=0.0, eval_crop_fraction=1.0)
BRIGHTNESS = {"cat": 20, "dog": 120, "eel": 220}


def source(root: Path, num_classes: int, num_train: int, **changes) -> ImageFiles:
    settings = {"num_workers": 0, "input_size": 16, "cache_dir": str(root / "cache"), **changes}
    return ImageFiles("toy", num_classes, num_train, str(root), **settings)


def brightness_by_label(batches) -> dict[int, set[int]]:
    """Label to the brightness of its images, in steps of 20."""
    found: dict[int, set[int]] = {}
    for images, labels in batches:
        for image, label in zip(images, labels.tolist(), strict=True):
            found.setdefault(label, set()).add(round(float(image[0, 10, 10]) / 20) * 20)
    return found


def evaluated(data: ImageFiles) -> dict[int, set[int]]:
    batches = data.eval_batches(["toy_val"], 4, 0, 1, STILL)
    return brightness_by_label((images, labels["toy_val"]) for images, labels in batches)


def trained(data: ImageFiles) -> dict[int, set[int]]:
    size = data.num_train
    plan = BatchPlan(0, size, size, size)
    return brightness_by_label(b for step in data.train_batches(plan, 0, 1, STILL) for b in step)


def same_in_both(data: ImageFiles, names: dict[str, int] = BRIGHTNESS) -> None:
    expected = {number: {value} for number, value in enumerate(names.values())}
    for order in ((trained, evaluated), (evaluated, trained)):
        for look in order:
            assert look(data) == expected


@pytest.mark.parametrize(
    "train, val, wrong",
    [
        (["class0", "class1"], ["class0", "class2"], "1 of 2 .* the first is 'class2'"),
        (["a", "b", "c", "d", "e"], ["a", "aa", "b", "c", "d"], "1 of 5 .* the first is 'aa'"),
        (["a", "b"], ["A", "B"], "2 of 2 .* the first is 'A'"),
    ],
)
def test_a_class_that_training_lacks_is_refused(tmp_path, class_folders, train, val, wrong):
    class_folders(tmp_path / "train", {name: [1, 2] for name in train})
    class_folders(tmp_path / "val", {name: [3] for name in val})
    data = source(tmp_path, len(train), 2 * len(train))
    with pytest.raises(ConfigError, match=wrong + ": give each class the same name") as error:
        evaluated(data)
    assert "\n" not in str(error.value)


def test_a_class_that_validation_lacks_keeps_the_numbers_and_is_said(tmp_path, class_folders):
    class_folders(tmp_path / "train", {name: [v] for name, v in BRIGHTNESS.items()})
    class_folders(tmp_path / "val", {"cat": [20], "eel": [220]})
    data = source(tmp_path, 3, 3)
    with pytest.warns(UserWarning, match="no image of 1 of 3 classes, the first is 'dog'"):
        assert evaluated(data) == {0: {20}, 2: {220}}


def test_a_name_that_another_system_encodes_otherwise_is_told(tmp_path, class_folders):
    """As macOS writes names, with accents apart: both look the same."""
    for split, form in (("train", "NFC"), ("val", "NFD")):
        class_folders(tmp_path / split, {normalize(form, "caf\u00e9"): [20], "tea": [120]})
    with pytest.raises(ConfigError, match=r"', encoded otherwise \(NFC, NFD\): give each class"):
        evaluated(source(tmp_path, 2, 2))


@pytest.mark.filterwarnings("error")
def test_classes_without_an_image_are_said_where_there_are_numbers_alone(tmp_path, shards):
    """As of labels that begin with 1 where 0 is the first."""
    shards(tmp_path, {s: [[("a", 1, 20), ("b", 2, 120)]] for s in ("train", "validation")})
    data = source(tmp_path, 3, 2, reader="wds")
    with pytest.raises(UserWarning, match=r"\(train\) has no image of 1 of 3 .* the first is '0'"):
        trained(data)
    with pytest.raises(UserWarning, match=r"\(validation\) has no image of 1 of 3 classes"):
        evaluated(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"train_split": "x-{0..1}.tar", "val_split": "x-{1..2}.tar", "reader": "wds"},
        {"train_split": "train", "val_split": "training"},
        {"train_split": "train", "val_split": "linked"},
    ],
)
def test_what_is_trained_on_is_not_validated_on(tmp_path, class_folders, tar_file, changes):
    class_folders(tmp_path / "train", {"a": [20, 40], "b": [120, 140]})
    (tmp_path / "linked").symlink_to("train")
    for number in range(3):
        samples = {f"{k}.cls": b"%d" % k for k in (0, 1)} | {f"{k}.jpg": encoded(9) for k in (0, 1)}
        tar_file(tmp_path / f"x-{number}.tar", samples)
    with pytest.raises(ConfigError, match=r"data.val_split=.* is trained on, too: name another"):
        trained(source(tmp_path, 2, 4, **changes))
    aside = {**changes, "num_holdout": 1} if "reader" not in changes else {}
    assert trained(source(tmp_path, 2, 4, **(aside or {**changes, "val_split": "x-2.tar"})))


def test_a_split_inside_of_another_is_refused(tmp_path, class_folders, tar_file):
    class_folders(tmp_path / "train" / "x", {"a": [20, 40], "b": [120, 140]})
    class_folders(tmp_path / "train" / "y", {"c": [200]})
    for splits in (("train", "train/x"), ("train/x", "train")):
        data = source(tmp_path, 3, 5, train_split=splits[0], val_split=splits[1])
        data.num_train, data.num_classes = (5, 3) if splits[0] == "train" else (4, 2)
        data._splits.num_classes = data.num_classes
        with pytest.raises(ConfigError, match="train(/x)? is trained on, too: name another split"):
            trained(data)
    for split in ("train", "val"):
        members = {f"{name}/{split}.JPEG": encoded(20) for name in ("a", "b")}
        tar_file(tmp_path / "tars" / f"{split}.tar", members)
    with pytest.raises(ConfigError, match="val.tar is trained on, too: name another split"):
        trained(source(tmp_path / "tars", 2, 4, train_split="."))


def test_a_folder_beside_the_tars_of_a_split_is_not_inside_of_it(tmp_path, class_folders, tar_file):
    for name, value in (("a", 20), ("b", 120)):
        tar_file(tmp_path / f"{name}.tar", {"0.png": encoded(value)})
        class_folders(tmp_path / "val", {name: [value]})
    data = source(tmp_path, 2, 2, train_split=".")
    assert trained(data) == evaluated(data) == {0: {20}, 1: {120}}


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("how", ["copies", "links"])
def test_images_that_are_in_both_splits_are_said(tmp_path, class_folders, monkeypatch, how, size):
    class_folders(tmp_path / "train", {"a": [20, 40], "b": [120, 140]}, "{value}.JPEG")
    class_folders(tmp_path / "val", {"a": [60], "b": [180]}, "{value}.JPEG")
    class_folders(tmp_path / "train", {"b": [180]}, "{value}.JPEG")  # of it only the name, with
    with (tmp_path / "train/b/180.JPEG").open("ab") as file:  # a byte more behind the picture
        file.write(b" ")
    twin = tmp_path / "val" / "a" / "20.JPEG"
    if how == "links":
        twin.symlink_to(tmp_path / "train" / "a" / "20.JPEG")
    else:
        twin.write_bytes((tmp_path / "train" / "a" / "20.JPEG").read_bytes())
    data = source(tmp_path, 2, 5)
    said = r"1 of 3 images are in train, too, the first is .*/20.JPEG \(there .*: what"
    if size == "large":
        monkeypatch.setattr(image_twins, "_FEW", 0)
        said = r"1 of 2 images that have class and file name of one in train .* is .*/20.JPEG: what"
    with pytest.warns(UserWarning, match=said):
        assert data.fingerprint and len(list(data.eval_batches(["toy_val"], 4, 0, 1, STILL))) == 1


@pytest.mark.filterwarnings("error")
def test_a_set_that_is_only_evaluated_is_not_held_against_itself(tmp_path, shards):
    shards(tmp_path, {"validation": [[("a", 0, 20), ("b", 1, 120)]]})
    data = source(tmp_path, 2, 2, reader="wds", train_split="validation")
    assert evaluated(data) == {0: {20}, 1: {120}} and "training" in data._splits.__dict__


@pytest.mark.filterwarnings("error")
def test_images_that_share_a_name_alone_are_not_said(tmp_path, class_folders):
    class_folders(tmp_path / "train", {"a": [20], "b": [120]}, "1.JPEG")
    class_folders(tmp_path / "val", {"a": [60], "b": [180]}, "1.JPEG")
    data = source(tmp_path, 2, 2)
    assert data.fingerprint and evaluated(data) == {0: {60}, 1: {180}}


def test_a_tar_in_capitals_is_one_of_the_classes(tmp_path, tar_file):
    for split in ("train", "val"):
        for name, value in (("a.tar", 20), ("b.TAR", 120)):
            tar_file(tmp_path / split / name, {f"{split}.png": encoded(value)})
    data = source(tmp_path, 2, 2)
    assert trained(data) == evaluated(data) == {0: {20}, 1: {120}}


def test_a_class_of_which_all_images_are_held_out_is_said(tmp_path, class_folders):
    class_folders(tmp_path / "train", {"a": [20, 40], "b": [120]})
    with pytest.warns(UserWarning, match="sets aside every image of [12] of 2 classes, the first"):
        assert trained(source(tmp_path, 2, 3, num_holdout=2))


def test_imagenets_validation_of_another_model_waits_for_its_classes(monkeypatch):
    """A model of more classes has its own numbers for them."""
    names = [*synsets()[:2], "n99999999"]
    splits = ImageSplits("toy", 3, None, "", "train", "validation", None)
    read = {"train": names, "validation": synsets()[:2]}
    monkeypatch.setattr(image_splits, "synsets", lambda: synsets()[:2])
    monkeypatch.setattr(ImageSplits, "_read", lambda _, split: named(read[split]))
    assert splits.validation.class_names == names and "training" in splits.__dict__


def named(names: list[str]) -> Any:
    """A reader of one image of each class, numbered in the order given."""
    return SimpleNamespace(
        labels=np.arange(len(names)),
        class_names=list(names),
        left_out=Counter(),
        file_name=str,
        num_bytes=lambda _: -1,
    )


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_folders_and_tars_give_the_same_numbers(
    tmp_path, class_folders, tar_file, image_bytes, form
):
    """`class10` comes behind `class2` in both, `B` between `a` and `c`."""
    values = {"a": 20, "B": 60, "class2": 120, "class10": 180}
    class_folders(tmp_path / "train", {name: [v] for name, v in values.items()})
    if form == "folder":
        class_folders(tmp_path / "val", {name: [v] for name, v in values.items()})
    else:
        tar_file(tmp_path / "val.tar", {f"./{n}/x.JPEG": image_bytes(v) for n, v in values.items()})
    same_in_both(source(tmp_path, 4, 4), values)
    tars = source(tmp_path, 4, 4, train_split="val", val_split="train")
    assert list(trained(tars)) and tars._splits.training.class_names == list(values)


def hugging_face(folder: Path, image_bytes, **names: list[str] | None) -> str:
    """A DatasetDict whose splits number their classes each in an order of its own."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    splits = {}
    for split, order in names.items():
        kind = datasets.ClassLabel(names=order) if order else datasets.Value("int64")
        features = datasets.Features({"image": datasets.Image(), "label": kind})
        images = [{"bytes": image_bytes(v), "path": f"{n}.JPEG"} for n, v in BRIGHTNESS.items()]
        labels = [(order or list(BRIGHTNESS)).index(name) for name in BRIGHTNESS]
        content = {"image": images, "label": labels}
        splits[split] = datasets.Dataset.from_dict(content, features=features)
    datasets.DatasetDict(splits).save_to_disk(str(folder / "saved"))
    return f"hfds/{folder / 'saved'}"


@pytest.mark.parametrize("order", list(itertools.permutations(BRIGHTNESS))[:4])
def test_hugging_face_names_decide_not_their_order(tmp_path, image_bytes, order):
    reader = hugging_face(tmp_path, image_bytes, train=list(BRIGHTNESS), validation=list(order))
    same_in_both(source(tmp_path, 3, 3, reader=reader))


@pytest.mark.parametrize(
    "train, val", [(None, ["cat", "dog", "eel"]), (["cat", "dog", "eel"], None)]
)
def test_names_in_one_split_alone_are_refused(tmp_path, image_bytes, train, val):
    reader = hugging_face(tmp_path, image_bytes, train=train, validation=val)
    with pytest.raises(ConfigError, match="nothing says which is which"):
        evaluated(source(tmp_path, 3, 3, reader=reader))


@pytest.mark.parametrize("split, label", [("train", 3), ("validation", 3), ("validation", 7)])
def test_numbers_without_names_must_be_classes(tmp_path, shards, split, label):
    samples = [(f"k{n}", n, 20 + 100 * n) for n in range(3)]
    splits = {"train": [list(samples)], "validation": [list(samples)]}
    shards(tmp_path, splits)
    same_in_both(source(tmp_path, 3, 3, reader="wds"))
    splits[split][0][1] = ("k1", label, 120)
    shards(tmp_path, splits)
    with pytest.raises(ConfigError, match=r"num_classes=(3, but .* holds 4|4)|has the label \d"):
        data = source(tmp_path, 3, 3, reader="wds")
        trained(data), evaluated(data)


@pytest.mark.parametrize("reader", ["folder", "wds"])
def test_the_pages_number_of_classes_must_be_the_datas(tmp_path, class_folders, shards, reader):
    class_folders(tmp_path / "train", {name: [v] for name, v in BRIGHTNESS.items()})
    shards(tmp_path, {"train": [[(f"k{n}", n, 9) for n in range(3)]]})
    data = source(tmp_path, 4, 3, reader=reader)
    with pytest.raises(ConfigError, match=r"num_classes=4, but .* holds 3 classes.*num_classes=3"):
        trained(data)


def test_names_that_differ_in_case_or_zeros_have_one_order_on_every_machine(
    tmp_path, class_folders, monkeypatch
):
    names = ["A", "a", "x01", "x1", "y1²3"]
    class_folders(tmp_path, {name: [9] for name in names})
    scan = os.scandir
    seen = set()
    for backwards in (False, True):
        monkeypatch.setattr(
            os, "scandir", lambda p, r=backwards: sorted(scan(p), key=lambda e: e.name, reverse=r)
        )
        images = FolderImages(tmp_path)
        assert images.class_names == names
        seen.add(tuple(images.file_name(row) for row in range(5)))
    assert len(seen) == 1


def labelled(names, labels=None, files=None) -> SimpleNamespace:
    """A reader without images."""
    labels = np.arange(1000) if labels is None else labels
    name_of = (lambda row: files[row]) if files else str
    return SimpleNamespace(labels=labels, class_names=names, left_out=Counter(), file_name=name_of)


def test_imagenets_classes_get_imagenets_order():
    shuffled = list(np.random.RandomState(0).permutation(synsets()))
    images = labelled(shuffled)
    number_training_classes(images, 1000, "here")
    assert images.class_names == synsets()
    assert [synsets()[label] for label in images.labels] == shuffled


def real_names_and_labels(agreeing: bool) -> SimpleNamespace:
    """The first 100 validation images with labels that ReaL shares, or does not."""
    from experiments.data.imagenet_variants import real_labels

    files = [f"ILSVRC2012_val_{n:08d}.JPEG" for n in range(1, 101)]
    shown = real_labels(labelled(None, np.zeros(100, np.int64), files), 1000)
    assert shown is not None
    labels = shown.targets.argmax(1)
    return labelled(None, labels if agreeing else (labels + 1) % 1000, files)


def variants_of_imagenet():
    words_of = lemmas()
    words = [words_of[synset] for synset in synsets()]
    yield "wnids", labelled(synsets()), True
    yield "words in order", labelled(words), True
    yield "first words", labelled([w.partition(",")[0].replace(" ", "_") for w in words]), True
    yield "words sorted", labelled(sorted(words)), False
    yield "other words", labelled([f"class {n}" for n in range(1000)]), False
    yield "fewer", labelled(words[:999]), False
    yield "numbers without file names", labelled(None), True
    yield "folders 0..999", labelled([str(n) for n in range(1000)]), True
    yield "numbers like ReaL's", real_names_and_labels(True), True
    yield "numbers unlike ReaL's", real_names_and_labels(False), False


@pytest.mark.parametrize("what, images, is_it", list(variants_of_imagenet()))
def test_imagenets_test_sets_need_imagenets_classes(what, images, is_it):
    if is_it:
        require_imagenet(images, "data.real_labels=true", "here")
        return
    with pytest.raises(ConfigError, match="data.real_labels=true needs ImageNet's 1000") as error:
        require_imagenet(images, "data.real_labels=true", "here")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("first", ["training", "validation"])
def test_imagenet_to_validate_on_needs_imagenet_to_train_on(tmp_path, image_bytes, first):
    image = tmp_path / "image.jpeg"
    image.write_bytes(image_bytes(90, size=(8, 8)))
    for number, synset in enumerate(synsets()):
        for folder in (tmp_path / "train" / f"word{number}", tmp_path / "val" / synset):
            folder.mkdir(parents=True)
            os.link(image, folder / "x.JPEG")
    data = source(tmp_path, 1000, 1000)
    with pytest.raises(ConfigError, match="1000 of 1000 classes that the training split lacks"):
        for look in (trained, evaluated) if first == "training" else (evaluated, trained):
            look(data)


@pytest.mark.parametrize("setting", ["real_labels", "eval_roots"])
def test_a_thousand_folders_named_by_words_are_not_imagenet(tmp_path, image_bytes, setting):
    image = tmp_path / "image.jpeg"
    image.write_bytes(image_bytes(90, size=(8, 8)))
    for split in ("train", "val"):
        for number in range(1000):
            folder = tmp_path / split / f"word{number}"
            folder.mkdir(parents=True)
            os.link(image, folder / f"ILSVRC2012_val_{number + 1:08d}.JPEG")
    value = {"real_labels": True} if setting == "real_labels" else {"eval_roots": {"a": "/a"}}
    data = source(tmp_path, 1000, 1000, **value)
    with pytest.raises(ConfigError, match=f"data.{setting}.* needs ImageNet's.*'word0'"):
        for group in data.eval_groups:
            for images, _ in data.eval_batches(group, 1000, 0, 1, STILL):
                assert isinstance(images, torch.Tensor)


@pytest.mark.parametrize("num_others", [400, 600])
def test_a_thousand_other_classes_of_wordnet_are_a_data_set_of_their_own(num_others: int) -> None:
    """A few strangers in ImageNet are a mistake, that would move the numbers of the others."""
    others = [f"n{number:08d}" for number in range(num_others)]
    names = sorted([*others, *synsets()[num_others:]])
    images = SimpleNamespace(class_names=names, labels=np.arange(1000), file_name=lambda i: "x")
    if num_others > 500:
        number_training_classes(images, 1000, "train")
        assert images.class_names == names and list(images.labels) == list(range(1000))
        return
    with pytest.raises(ConfigError, match="'n00000000' is not one of .*, and 600 of the others"):
        number_training_classes(images, 1000, "train")
