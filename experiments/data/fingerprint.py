"""A short hash that tells whether two runs had the same examples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from experiments.data.image_readers import LabelledImages

_MOST_SIZES = 10_000  # of files that are asked for their size, per split
_MOST_HASHED = 10_000  # pairs whose captions are read
_LENGTH = 16  # hexadecimal digits


def of_tensors(splits: Mapping[str, tuple[Tensor, Tensor]]) -> str:
    """Hash of the name, shape, type and content of each split's tensors.

    Args:
        splits: Name to images and labels of any shape.
    """
    digest = hashlib.sha256()
    for split, tensors in sorted(splits.items()):
        for tensor in tensors:
            digest.update(f"{split} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()[:_LENGTH]


def of_images(splits: Mapping[str, tuple[LabelledImages, np.ndarray]]) -> str:
    """Hash of the class list, labels, file names and sizes of each split, in their order.

    Not the folder where they lie, and not the pixels: a file changed in place is noticed by its
    size alone, and in a split of more than 10,000 images only if its size is among those asked for.

    Args:
        splits: Name to a reader and its rows, (N,) int64.
    """
    digest = hashlib.sha256()
    for split, (images, rows) in sorted(splits.items()):
        digest.update(
            f"{split} {len(rows)} {images.class_names}\n".encode(errors="surrogateescape")
        )
        digest.update(images.labels[rows].astype("<i8").tobytes())
        for row in rows:
            digest.update(images.file_name(int(row)).encode(errors="surrogateescape") + b"\n")
        asked = rows[:: -(-len(rows) // _MOST_SIZES) or 1]
        sizes = np.array([images.num_bytes(int(row)) for row in asked])
        digest.update(sizes.astype("<i8").tobytes())
    return digest.hexdigest()[:_LENGTH]


def of_pairs(head: str, images: Any, rows: np.ndarray, captions: Any) -> str:
    """Hash of names, sizes and captions of pairs, hex; of many, some evenly spread ones are read.

    Args:
        head: What else it depends on.
        images: With `file_name` and `num_bytes`.
        rows: Row of `images` for each caption, (N,) int64.
        captions: With `texts`.
    """
    digest = hashlib.sha256(head.encode())
    for number in range(0, len(rows), -(-len(rows) // _MOST_HASHED)):
        row = int(rows[number])
        told = (images.file_name(row), images.num_bytes(row), captions.texts([number])[0])
        digest.update(repr(told).encode(errors="backslashreplace") + b"\n")
    return digest.hexdigest()
