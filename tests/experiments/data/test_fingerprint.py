"""The same data has the same fingerprint wherever it lies; other data has another."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
import tiny
import torch

from experiments.data import fingerprint
from experiments.data.image_files import ImageFiles
from experiments.data.in_memory import InMemoryImages


def tensors(**changes: torch.Tensor) -> InMemoryImages:
    splits = dict(tiny.images().splits)
    for split, images in changes.items():
        splits[split] = images, splits[split][1]
    return InMemoryImages("toy", splits, num_classes=4)


def test_tensors_of_the_same_content_agree():
    assert tensors().fingerprint == tensors().fingerprint == tiny.images().fingerprint
    copied = tiny.images().splits["val"][0].transpose(2, 3).contiguous().transpose(2, 3)
    assert tensors(val=copied).fingerprint == tensors().fingerprint


def test_one_pixel_label_split_type_or_shape_makes_another():
    images, labels = tiny.images().splits["val"]
    pixel, turned = images.clone(), images.flip(-1)
    pixel[3, 0, 2, 2] += 1e-3
    found = {tensors(val=x).fingerprint for x in (images, pixel, turned, images.double())}
    other_label = labels.clone()
    other_label[0] = (other_label[0] + 1) % 4
    splits = tiny.images().splits
    for val in ((images, other_label), (images[:-1], labels[:-1])):
        found.add(InMemoryImages("toy", {**splits, "val": val}, 4).fingerprint)
    swapped = {**splits, "val": splits["test"], "test": splits["val"]}
    found.add(InMemoryImages("toy", swapped, 4).fingerprint)
    assert len(found) == 7


@pytest.fixture
def tree(tmp_path: Path, class_folders) -> Path:
    class_folders(tmp_path / "here" / "train", {"ant": [1, 2, 3], "bee": [70, 80]})
    class_folders(tmp_path / "here" / "val", {"ant": [9], "bee": [99]})
    return tmp_path / "here"


def of(root: Path, **changes) -> str:
    settings = {
        "num_train": 5,
        "num_workers": 0,
        "cache_dir": str(root.parent / "cache"),
        **changes,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ImageFiles("toy", num_classes=2, root=str(root), **settings).fingerprint


def test_files_agree_wherever_they_lie(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "there")
    assert of(tree) == of(tree) == of(tmp_path / "there")
    (tree / "val" / "ant" / "._ant_9.JPEG").write_bytes(b"of macOS")
    (tree / "notes.txt").write_text("not in a split")
    assert of(tree) == of(tmp_path / "there")


def test_another_name_size_class_or_split_of_files_makes_another(tree, tmp_path):
    found = [of(tree), of(tree, num_holdout=2)]
    changes = [
        lambda p: (p / "train/ant/ant_1.JPEG").rename(p / "train/ant/ant_1b.JPEG"),
        lambda p: (p / "train/ant/ant_1.JPEG").write_bytes(b"another size"),
        lambda p: (p / "train/ant/ant_1.JPEG").rename(p / "train/bee/ant_1.JPEG"),
        lambda p: [(p / s / "bee").rename(p / s / "cat") for s in ("train", "val")],
        lambda p: (p / "val/ant/ant_10.JPEG").write_bytes(b"one more"),
        lambda p: (p / "val/bee/bee_99.JPEG").write_bytes(b"another size"),
    ]
    for number, change in enumerate(changes):
        changed = tmp_path / f"changed{number}"
        shutil.copytree(tree, changed)
        change(changed)
        found.append(of(changed))
    assert len(set(found)) == len(found)


def test_sizes_are_sampled_where_there_are_many(monkeypatch):
    monkeypatch.setattr(fingerprint, "_MOST_SIZES", 2)
    asked = []

    class Counted:
        labels, class_names = torch.zeros(7, dtype=torch.int64).numpy(), ["a"]

        def file_name(self, index: int) -> str:
            return str(index)

        def num_bytes(self, index: int) -> int:
            asked.append(index)
            return index

    rows = torch.arange(7).numpy()
    fingerprint.of_images({"train": (Counted(), rows)})  # pyright: ignore[reportArgumentType]
    assert asked == [0, 4]


def test_shards_and_hugging_face_have_one_too(tmp_path):
    import data_trees

    found = set()
    for make in ("class_tars", "shards", "hugging_face"):
        root = tmp_path / make / "data"
        settings = getattr(data_trees, make)(root)
        assert of(root, num_train=4, **settings) == of(root, num_train=4, **settings)
        found.add(of(root, num_train=4, **settings))
    data_trees.tar(tmp_path / "shards" / "data" / "toy-val-0.tar", data_trees.samples("other"))
    found.add(of(tmp_path / "shards" / "data", num_train=4, reader="wds"))
    relabelled = [(n, b"1" if n == "kant20.cls" else c) for n, c in data_trees.samples()]
    data_trees.tar(tmp_path / "shards" / "data" / "toy-val-0.tar", relabelled)
    found.add(of(tmp_path / "shards" / "data", num_train=4, reader="wds"))
    assert len(found) == 5
