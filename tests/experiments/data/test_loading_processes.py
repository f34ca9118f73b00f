"""The number of loading processes follows the cores that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.data import loading_processes
from experiments.data.image_files import ImageFiles
from experiments.data.loading_processes import num_loading
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig


@pytest.fixture
def cores(monkeypatch):
    return lambda count: monkeypatch.setattr(loading_processes, "share", lambda: count)


@pytest.mark.parametrize("share, expected", [(64, 16), (17, 16), (7, 6), (2, 1), (1, 1)])
def test_by_the_cores_where_nobody_says(cores, share, expected):
    cores(share)
    assert num_loading(None, 1000) == expected
    assert num_loading(None, 0) == 0


def test_what_a_page_says_counts(cores):
    cores(64)
    assert [num_loading(number, 6) for number in (0, 3, 40)] == [0, 3, 6]


def test_a_source_of_images_asks(cores, monkeypatch, tmp_path: Path, class_folders):
    cores(3)
    class_folders(tmp_path / "train", {"ant": [10, 20, 30, 40], "bee": [50, 60, 70, 80]})
    class_folders(tmp_path / "val", {"ant": [1, 2], "bee": [3, 4]})
    asked = []
    monkeypatch.setattr(
        "experiments.data.image_files.load", lambda *given: asked.append(given[2]) or iter(())
    )
    data = ImageFiles("toy", 2, 8, str(tmp_path))
    with pytest.raises(RuntimeError):  # the loader is empty
        list(data.train_batches(BatchPlan(0, 8, 2, 2), 0, 3, ImageTaskConfig()))
    with pytest.raises(ValueError):
        list(data.eval_batches(["toy_val"], 1, 0, 1, ImageTaskConfig()))
    assert asked == [2, 2]
