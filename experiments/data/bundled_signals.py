"""Signals made by MNIST-1D's published procedure, for proxies of pre-training and fine-tuning.

Nothing is downloaded. Source: arXiv:2011.14439; package mnist1d (Apache-2.0).
"""

from __future__ import annotations

import random
from functools import partial
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.data.bundled import cached
from experiments.data.bundled_paths import package_folder
from experiments.data.in_memory import InMemoryImages
from experiments.data.label_noise import redrawn

_TEMPLATE_SEED = 21
_SPLIT_SEEDS = {"train": 1100, "val": 1101, "test": 1102, "shifted": 1103}
_MANY_SEEDS = {"train": 1200, "val": 1201, "test": 1202}
_SHIFT = {"corr_noise_scale": 0.35, "shear_scale": 1.05}
"""Of the split `shifted`: 1.4 times the noise around a signal and the slope under it."""


def random_classes(
    name: str,
    num_classes: int = 100,
    num_train: int = 10_000,
    num_val: int = 2000,
    num_test: int = 2000,
) -> InMemoryImages:
    """Signals of length 40 in classes whose templates are drawn at random, not digits.

    Each template has 12 points of white noise, made alike as the package does with its digits: mean
    0, standard deviation 1, beginning at 0, divided by 6.

    Args:
        name: For the ledger.
        num_classes: Templates.
        num_train: Training signals, a multiple of num_classes; num_val and num_test alike.
        num_val: Validation signals.
        num_test: Test signals.
    """
    package_folder("mnist1d")
    numbers = {"train": num_train, "val": num_val, "test": num_test}

    def make() -> dict[str, np.ndarray]:
        templates = _random_templates(num_classes)
        return _generated(numbers, templates, final_seq_length=40)

    key = "-".join(map(str, ["random", version("mnist1d"), num_classes, *numbers.values()]))
    return _in_memory(name, cached(key, make), num_classes)


def long_signals(
    name: str,
    length: int = 72,
    num_train: int = 1000,
    num_val: int = 2000,
    num_test: int = 4000,
) -> InMemoryImages:
    """MNIST-1D's own ten classes at another length than its 40, with few labelled signals.

    Splits: train, val, test, and `shifted`, as many as test with 1.4 times the noise around a
    signal and the slope under it.

    Args:
        name: For the ledger.
        length: Points of a signal.
        num_train: Training signals, a multiple of 10; num_val and num_test alike.
        num_val: Validation signals.
        num_test: Test signals.
    """
    package_folder("mnist1d")
    numbers = {"train": num_train, "val": num_val, "test": num_test}

    def make() -> dict[str, np.ndarray]:
        arrays = _generated(numbers, None, final_seq_length=length)
        shifted = _generated({"shifted": num_test}, None, final_seq_length=length, **_SHIFT)
        return arrays | shifted

    parts = ["long", version("mnist1d"), length, *numbers.values(), *_SHIFT.values()]
    key = "-".join(map(str, parts))
    return _in_memory(name, cached(key, make), 10)


def many_signals(
    name: str,
    num_train: int = 20_000,
    num_val: int = 20_000,
    num_test: int = 20_000,
    label_noise: float = 0.0,
) -> InMemoryImages:
    """MNIST-1D as published, with as many signals as are wanted, and labels that may be wrong.

    So many test signals that seeds are all the noise there is: 20,000 of them leave 0.3 points.

    Args:
        name: For the ledger; the number of training signals and the noise are added to it.
        num_train: Training signals, a multiple of 10; num_val and num_test alike.
        num_val: Validation signals.
        num_test: Test signals.
        label_noise: Share of the training labels that is drawn anew, each class as likely: with
            10 classes nine tenths of it are wrong. Validation and test keep the true ones.
    """
    package_folder("mnist1d")
    numbers = {"train": num_train, "val": num_val, "test": num_test}
    arrays: dict[str, np.ndarray] = {}
    for split, number in numbers.items():
        key = f"many-{version('mnist1d')}-{split}-{number}"
        arrays |= cached(key, partial(_generated, {split: number}, None, seed=_MANY_SEEDS[split]))
    arrays["train_labels"] = redrawn(arrays["train_labels"], label_noise, 10)
    said = f", {100 * label_noise:g} % of labels redrawn" if label_noise else ""
    return _in_memory(f"{name}, {num_train} signals{said}", arrays, 10)


def _random_templates(num_classes: int) -> dict[str, np.ndarray]:
    points = np.random.RandomState(_TEMPLATE_SEED).randn(num_classes, 12)
    points -= points.mean(1, keepdims=True)
    points /= points.std(1, keepdims=True)
    points -= points[:, :1]
    return {"x": points / 6, "t": np.linspace(-5, 5, 12) / 6, "y": np.arange(num_classes)}


def _generated(
    numbers: dict[str, int], templates: dict[str, np.ndarray] | None, **changes: Any
) -> dict[str, np.ndarray]:
    """Signals (N, length) and labels of each split; each split has a seed of its own."""
    from mnist1d.data import get_dataset_args, make_dataset

    states = random.getstate(), np.random.get_state()  # the package seeds the global generators
    arrays = {}
    for split, number in numbers.items():
        own = {"num_samples": number, "train_split": 1.0, "seed": _SPLIT_SEEDS[split]}
        settings = SimpleNamespace(**{**vars(get_dataset_args()), **own, **changes})
        made = make_dataset(settings, templates)
        arrays |= {split: made["x"].astype(np.float32), f"{split}_labels": made["y"]}
    random.setstate(states[0])
    np.random.set_state(states[1])
    return arrays


def _in_memory(name: str, arrays: dict[str, np.ndarray], num_classes: int) -> InMemoryImages:
    """Arrays as images of one row."""
    splits: dict[str, tuple[Tensor, Tensor]] = {
        split: (
            torch.from_numpy(arrays[split])[:, None, None, :],
            torch.from_numpy(arrays[f"{split}_labels"].astype(np.int64)),
        )
        for split in _SPLIT_SEEDS
        if split in arrays
    }
    return InMemoryImages(name, splits, num_classes)
