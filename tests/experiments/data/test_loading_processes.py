"""The number of loading processes follows the cores that are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments.data import loading_processes
from experiments.data.image_files import ImageFiles
from experiments.data.loading_processes import num_loading, usable_cores
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 64 cores, of which a process may use some."""

    def make(cores: int, processes: int = 1, quota: str | None = None) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        path = tmp_path / "cpu.max"
        if quota is not None:
            path.write_text(quota)
        monkeypatch.setattr(loading_processes, "_QUOTA", path)

    return make


@pytest.mark.parametrize(
    "cores, processes, quota, expected",
    [(16, 1, None, 15), (64, 8, None, 7), (64, 1, None, 16), (2, 1, None, 1), (1, 1, None, 1),
     (4, 8, None, 1), (64, 1, "400000 100000\n", 3), (16, 1, "max 100000\n", 15),
     (16, 1, "50000 100000\n", 1), (8, 1, "", 7)],
)  # fmt: skip
def test_by_the_cores_where_nobody_says(machine, cores, processes, quota, expected):
    machine(cores, processes, quota)
    assert num_loading(None, 1000) == expected
    assert num_loading(None, 0) == 0


def test_what_a_page_says_counts(machine):
    machine(64)
    assert [num_loading(number, 6) for number in (0, 3, 40)] == [0, 3, 6]


def test_without_affinity_all_cores_count(machine, monkeypatch):
    machine(3)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 64


def test_a_source_of_images_asks(machine, monkeypatch, tmp_path: Path, class_folders):
    machine(3)
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
