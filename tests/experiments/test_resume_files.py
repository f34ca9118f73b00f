"""Exact resume with image files: loading processes, RandAugment, Mixup, and two ranks."""

from __future__ import annotations

import signal
from pathlib import Path

import forked
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from experiments.config import RunConfig

CLASSES = 3
NUM_TRAIN = 24


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of small noisy JPEG files."""
    root = tmp_path_factory.mktemp("images")
    random_state = np.random.RandomState(0)
    for split, number in (("train", NUM_TRAIN), ("val", 7), ("test", 5)):
        for index in range(number):
            folder = root / split / f"class_{index % CLASSES}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = random_state.randint(0, 255, (20, 26, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.JPEG", quality=95)
    return root


def configure(tree: Path, results_dir: Path, num_workers: int) -> RunConfig:
    return tiny.config(
        results_dir,
        data={
            "_target_": "experiments.data.image_files.ImageFiles",
            "name": "toy",
            "num_classes": CLASSES,
            "num_train": NUM_TRAIN,
            "root": str(tree),
            "test_split": "test",
            "input_size": 16,
            "num_workers": num_workers,
        },
        task={
            "_target_": "tiny.Task",
            "randaug_layers": 2,
            "randaug_magnitude": 10.0,
            "mixup_alpha": 0.4,
        },
        model={"_target_": "tiny.ColourNet", "num_classes": CLASSES},
        train__batch_size=8,
        train__micro_batch_size=4,
        train__epochs=3.0,
        checkpoint__every_steps=2,
    )


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_with_files_workers_and_augmentation_is_bit_equal(
    tree: Path, tmp_path: Path, ranks: int
) -> None:
    """The whole run loads in the process itself, the killed one with two workers."""
    whole = configure(tree, tmp_path / "whole", num_workers=0)
    killed = configure(tree, tmp_path / "killed", num_workers=2)
    assert forked.run_ranks(whole, ranks) == [0] * ranks
    call = {1: "11", 2: "6"}[ranks]  # in step 6 of 9
    assert -signal.SIGKILL in forked.run_ranks(killed, ranks, **{tiny.KILL_VARIABLE: call})
    assert forked.run_ranks(killed, ranks) == [0] * ranks
    a, b = forked.weights(whole), forked.weights(killed)
    assert a["step"] == b["step"] == 9
    for name, tensor in a["model"].items():
        assert torch.equal(tensor, b["model"][name])
    assert forked.rows(whole) == forked.rows(killed)
    told = [row["step"] for row in forked.rows(killed) if row["split"] == "test"]
    assert told and set(told) == {9}
