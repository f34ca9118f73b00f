"""Data that packages ship, for proxies that train on a CPU without any download.

Each function returns images in memory with a training split, a validation split that picks
settings, and a test split that reports.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import zipfile
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from experiments.config import UserError
from experiments.data.bundled_paths import (
    FASHION_FILES,
    FASHION_NUM_TRAIN,
    check_pixels,
    digits_file,
    fashion_file,
    package_folder,
)
from experiments.data.in_memory import InMemoryImages

SPLITS = ("train", "val", "test")
FASHION_MEAN, FASHION_STD = 0.2860, 0.3530  # of all training pixels, in 0..1


def mnist1d(name: str, num_val: int = 2000, val_seed: int = 43) -> InMemoryImages:
    """MNIST-1D: the 4,000 training and 1,000 test signals of the package's own settings.

    The validation split comes from the same published procedure with another seed, so all 4,000
    signals are trained on. Nothing is downloaded.
    Source: arXiv:2011.14439; package mnist1d (Apache-2.0).

    Args:
        name: For the ledger.
        num_val: Validation signals, a multiple of 10.
        val_seed: Seed of their generation; the package's own set has 42.
    """
    package_folder("mnist1d")
    key = f"mnist1d-{version('mnist1d')}-{num_val}-{val_seed}"
    arrays = cached(key, lambda: _generate_mnist1d(num_val, val_seed))
    splits = {s: (arrays[s][:, None, None, :], arrays[f"{s}_labels"]) for s in SPLITS}
    return _in_memory(name, splits, background=0.0)


def _generate_mnist1d(num_val: int, val_seed: int) -> dict[str, np.ndarray]:
    from mnist1d.data import get_dataset_args, make_dataset

    states = random.getstate(), np.random.get_state()  # the package seeds the global generators
    standard = make_dataset(get_dataset_args())
    settings = dict(vars(get_dataset_args()), num_samples=num_val, seed=val_seed, train_split=1.0)
    fresh = make_dataset(SimpleNamespace(**settings))
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


def digits(name: str, pixels: str = "standardised") -> InMemoryImages:
    """The 1,797 real 8x8 digits that scikit-learn ships: 1,151 to train, 287 val, 359 test.

    Split within each class by a fixed seed. Read from the package's file, so scikit-learn itself
    is not imported.
    Source: UCI "Optical Recognition of Handwritten Digits"; package scikit-learn (BSD).

    Args:
        name: For the ledger.
        pixels: standardised (by the training pixels) or signed (17 levels over [-1, 1]).
    """
    check_pixels(pixels)
    table = np.loadtxt(digits_file(), delimiter=",")
    images, labels = table[:, :64].reshape(-1, 1, 8, 8) / 16.0, table[:, 64].astype(np.int64)
    random_state = np.random.RandomState(0)
    test = _hold_out(labels, np.arange(len(labels)), 0.2, random_state)
    rest = np.setdiff1d(np.arange(len(labels)), test)
    val = _hold_out(labels, rest, 0.2, random_state)
    parts = {"train": np.setdiff1d(rest, val), "val": val, "test": test}
    mean, std = images[parts["train"]].mean(), images[parts["train"]].std()
    if pixels == "signed":
        mean = std = 0.5
    images = (images - mean) / std
    splits = {split: (images[part], labels[part]) for split, part in parts.items()}
    return _in_memory(name, splits, background=float(-mean / std))


def _hold_out(
    labels: np.ndarray, pool: np.ndarray, fraction: float, random_state: np.random.RandomState
) -> np.ndarray:
    """Indices of a fraction of each class of a pool."""
    held = []
    for label in np.unique(labels):
        members = pool[labels[pool] == label]
        random_state.shuffle(members)
        held.append(members[: round(fraction * len(members))])
    return np.sort(np.concatenate(held))


def fashion_mnist(
    name: str, root: str | None = None, num_train: int = 10_000, num_val: int = 5_000
) -> InMemoryImages:
    """Fashion-MNIST: parts of the 60,000 training images to train and validate, 10,000 test.

    Source: arXiv:1708.07747; Debian package dataset-fashion-mnist, or torchvision's download.

    Args:
        name: For the ledger.
        root: Folder with the four IDX files; null: where Debian's package puts them.
        num_train: Training images, drawn by a fixed seed.
        num_val: Validation images, drawn from the rest.

    Raises:
        UserError: where the files are not there, or damaged.
    """
    order = np.random.RandomState(0).permutation(FASHION_NUM_TRAIN)
    parts = {"train": order[:num_train], "val": order[num_train : num_train + num_val]}
    splits = {}
    for split in SPLITS:
        prefix = "t10k" if split == "test" else "train"
        images = _read_idx(root, f"{prefix}-images-idx3-ubyte")[:, None]
        labels = _read_idx(root, f"{prefix}-labels-idx1-ubyte")
        part = parts.get(split, slice(None))
        splits[split] = (images[part] / 255.0 - FASHION_MEAN) / FASHION_STD, labels[part]
    return _in_memory(name, splits, background=-FASHION_MEAN / FASHION_STD)


def _read_idx(root: str | None, file_name: str) -> np.ndarray:
    """The bytes of an IDX file behind its header, in their shape."""
    path = fashion_file(root, file_name)
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        content = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
        return content.reshape(FASHION_FILES[file_name])
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}): get it again") from error


def _in_memory(
    name: str, splits: dict[str, tuple[np.ndarray, np.ndarray]], background: float
) -> InMemoryImages:
    """Arrays as tensors: images (N, C, H, W) float32, labels (N,) int64."""
    tensors: dict[str, tuple[Tensor, Tensor]] = {}
    for split, (images, labels) in splits.items():
        pixels = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
        tensors[split] = pixels, torch.from_numpy(labels.astype(np.int64))
    return InMemoryImages(name, tensors, num_classes=10, background=background)


def cached(key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays that take a while to make, kept in the user's cache folder.

    A cache that cannot be read or written costs time only.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "lion-experiments" / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        arrays = make()
    draft = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(draft, allow_pickle=False, **arrays)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # the folder may be a file
            draft.unlink()
    return arrays
