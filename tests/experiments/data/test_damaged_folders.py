"""However class folders are damaged: every image with its label, or one line with a remedy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import data_trees
import pytest
from data_trees import check_damage, cut, emptied, image, linked, whole_or_one_line, written


@pytest.mark.parametrize(
    "make", ["folders", "class_tars", "shards", "described", "hugging_face", "parquet"]
)
def test_a_whole_tree_is_read(tmp_path, make):
    assert whole_or_one_line(tmp_path / "data", getattr(data_trees, make)(tmp_path / "data")) == ""


def without_images(root: Path) -> None:
    emptied("val")(root)
    (root / "val/ant").mkdir()


FOLDERS = {
    "no folder": (written("", None), "does not exist"),
    "a file instead of a folder": (lambda root: (shutil.rmtree(root), root.write_text("x")), "no"),
    "nothing in it": (emptied("."), "no folder or tar file"),
    "no validation": (written("val", None), "no folder or tar file"),
    "a file as split": (written("val", "x"), "no folder or tar file"),
    "an empty split": (emptied("val"), "one folder of images per class"),
    "classes without images": (without_images, "one folder of images per class"),
    "images without classes": (written("train/x.png", image(1)), "class"),
    "one class": (written("train/bee", None), "holds 1 class, and there must be two"),
    "a third class": (written("train/cat/1.png", image(1)), "holds 3 classes"),
    "an unknown class": (written("val/cat/1.png", image(1)), "the first is 'cat'"),
    "an image less": (written("train/ant/20.png", None), "holds 3 training images"),
    "an empty image": (written("val/ant/20.png", b""), "empty files"),
    "a cut image": (cut("val/ant/20.png", 0.6), "cannot read"),
    "text as image": (written("train/bee/120.png", "text"), "cannot read"),
    "a folder as image": (lambda root: (root / "val/ant/x.png").mkdir(), ""),
    "a broken link": (linked("val/ant/z.png", "nowhere.png"), "cannot read"),
    "a link to itself": (linked("val/ant/z.png", "z.png"), "cannot read"),
    "a loop of folders": (linked("val/ant/again", ".."), ""),
    "two copies": (lambda root: shutil.copytree(root / "val", root / "val/copy"), "copies"),
    "files of macOS": (written("val/ant/._20.png", "x"), ""),
    "a pipe as image": (lambda root: os.mkfifo(root / "val/ant/x.png"), ""),
    "other files": (written("val/ant/20.xml", "x"), ""),
    "compressed tars alone": (
        lambda root: (shutil.rmtree(root / "val/ant"), shutil.rmtree(root / "val/bee"))
        and written("val/ant.tar.gz", "x")(root),
        "no image by suffix (1 gz)",
    ),
    "tars beside folders": (written("val/x.tar", "x"), "tar"),
}  # fmt: skip


@pytest.mark.parametrize("damage", FOLDERS)
def test_damaged_class_folders(tmp_path, damage):
    check_damage(data_trees.folders, FOLDERS[damage], tmp_path / "data")


@pytest.mark.parametrize("what", ["scandir", "stat"])
def test_a_folder_without_rights_is_one_line(tmp_path, monkeypatch, what):
    settings = data_trees.folders(tmp_path / "data")
    real = getattr(os, what)

    def refuse(path, *args, **kwargs):
        if str(path).endswith("val/bee"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(f"experiments.data.image_folders.os.{what}", refuse)
    assert "cannot list" in whole_or_one_line(tmp_path / "data", settings)
