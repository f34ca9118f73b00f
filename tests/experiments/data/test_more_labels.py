"""Further labels of images come from a text file, and are part of which run it is."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.config import ConfigError
from experiments.data import more_labels
from experiments.data.image_files import ImageFiles
from experiments.data.order import BatchPlan
from experiments.models.class_loss import sigmoid_loss
from experiments.settings.image import ImageTaskConfig

STILL = ImageTaskConfig(crop_scale_min=1.0, horizontal_flip=0.0, eval_crop_fraction=1.0)
CLASSES = {"ant": [20, 40], "bee": [120, 140], "cat": [200, 220]}
LINES = "ant_20.JPEG\tbee cat\nbee_140.JPEG\tbee ant\nelsewhere.JPEG\tant\n"


def source(root: Path, text: str, digest: str | None = None, **changes: Any) -> ImageFiles:
    file = root / "more.tsv"
    file.write_text(text)
    settings: dict[str, Any] = {
        "train_split": ".", "num_holdout": 2, "num_workers": 0, "input_size": 16, **changes,
    }  # fmt: skip
    digest = digest or hashlib.sha256(text.encode()).hexdigest()
    given = {"more_labels": str(file), "more_labels_sha256": digest}
    return ImageFiles("toy", 3, 6, str(root / "data"), **settings, **given)


@pytest.fixture
def root(tmp_path: Path, class_folders: Any) -> Path:
    class_folders(tmp_path / "data", CLASSES)
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*1 lines are of no training image")
def test_images_have_the_labels_of_their_folder_and_of_their_line(root: Path) -> None:
    data = source(root, LINES)
    (step,) = data.train_batches(BatchPlan(0, 4, 4, 4), 0, 1, STILL)
    held = [(x, y["minival"]) for x, y in data.eval_batches(["minival"], 4, 0, 1, STILL)]
    found = {
        round(float(image[0, 10, 10]) / 20) * 20: {n for n in labels.tolist() if n >= 0}
        for images, rows in [*step, *held]
        for image, labels in zip(images, rows, strict=True)
    }
    assert found == {20: {0, 1, 2}, 40: {0}, 120: {1}, 140: {0, 1}, 200: {2}, 220: {2}}
    images, labels = step[0]
    assert torch.isfinite(sigmoid_loss(torch.zeros(4, 3), labels)).all()
    assert [t.dim() for t in data.example_batch(2)] == [images.dim(), labels.dim()]


def test_names_that_are_no_utf_8_and_a_mark_at_the_beginning(root: Path) -> None:
    """The first line was of no image for whom Windows wrote the file."""
    from types import SimpleNamespace

    names = [os.fsdecode(b"caf\xe9.jpg"), "a.jpg"]
    images: Any = SimpleNamespace(
        class_names=["ant", "bee"], labels=np.array([0, 0]), file_name=names.__getitem__
    )
    file = root / "odd.tsv"
    file.write_bytes(b"\xef\xbb\xbfa.jpg\tbee\ncaf\xe9.jpg\tbee\n")
    labels, num_unknown = more_labels.read(str(file), images, 2)
    assert labels.tolist() == [[0, 1], [0, 1]] and num_unknown == 0


@pytest.mark.parametrize(
    "text, said",
    [
        ("a/ant_20.JPEG\tbee\n", r"none of its 1 lines is .* write names as 'ant_20.JPEG'"),
        ("ant_20.JPEG bee\n", r"line 1: write FILE NAME, a tab, and classes"),
        ("ant_20.JPEG\tbee\nant_20.JPEG\tcat\n", r"line 2: ant_20.JPEG has a line before"),
        ("ant_20.JPEG\tbee\nant_40.JPEG\twasp\n", r"line 2: 'wasp' must be a class of the train"),
    ],
)
def test_a_line_that_means_nothing_is_named(root: Path, text: str, said: str) -> None:
    data = source(root, text)
    with pytest.raises(ConfigError, match=said) as error:
        next(iter(data.train_batches(BatchPlan(0, 4, 4, 4), 0, 1, STILL)))
    assert "\n" not in str(error.value)


def test_another_content_is_refused_with_its_digest(root: Path) -> None:
    digest = hashlib.sha256(LINES.encode()).hexdigest()
    with pytest.raises(ConfigError, match=re.escape(f"set data.more_labels_sha256={digest}")):
        source(root, LINES, digest="0" * 64)
    with pytest.raises(ConfigError, match="more_labels_sha256 is set, but not data.more_labels"):
        ImageFiles("toy", 3, 6, str(root), more_labels_sha256="x")
    with pytest.raises(ConfigError, match="name a text file"):
        ImageFiles("toy", 3, 6, str(root), more_labels=str(root / "nowhere"))
