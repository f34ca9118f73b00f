"""Images that two splits have in common, that a split has under two classes, or that are empty.

Of sets of some thousand images all are compared, by their bytes. In larger ones a file is looked
into where it has class and name of one of the other split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from experiments.data.decode import to_rgb
from experiments.data.image_loading import UNREADABLE
from experiments.data.image_readers import LabelledImages

_FEW = 10_000
"""Images of both sides, up to which all are compared."""
_MOST_BYTES = 1 << 28
"""That are read to compare them; of more, evenly spread sizes."""
_MOST_SIZES = 100_000
"""Files of a split of which the size is asked."""
_MOST = 100
"""Pairs of files of one class and name that are looked into, evenly spread."""


def are_few(one: LabelledImages, other: LabelledImages) -> bool:
    """Whether all images are compared."""
    return len(one.labels) + len(other.labels) <= _FEW


def empty(images: LabelledImages) -> list[int]:
    """Rows of files of no byte; of very large splits they are not looked for."""
    if len(images.labels) > _MOST_SIZES:
        return []
    return np.flatnonzero(_sizes(images) == 0).tolist()


def copies(one: LabelledImages, other: LabelledImages) -> list[tuple[int, int]]:
    """Images of `other` that are in `one`, byte for byte, by whatever name and class.

    Args:
        one: A split.
        other: Another.

    Returns:
        Rows in both, of each image of `other` at most one.
    """
    ours, theirs = _sizes(one), _sizes(other)
    common = np.intersect1d(ours[ours > 0], theirs[theirs > 0])
    num_bytes = ours[np.isin(ours, common)].sum() + theirs[np.isin(theirs, common)].sum()
    common = common[:: -(-int(num_bytes) // _MOST_BYTES) or 1]
    there: dict[bytes, int] = {}
    for row, digest in _digests(one, np.flatnonzero(np.isin(ours, common))):
        there.setdefault(digest, row)
    found = _digests(other, np.flatnonzero(np.isin(theirs, common)))
    return [(there[digest], row) for row, digest in found if digest in there]


def repeated(images: LabelledImages) -> list[list[int]]:
    """Rows of each image that is there more than once, byte for byte."""
    sizes = _sizes(images)
    kinds, counts = np.unique(sizes[sizes > 0], return_counts=True)
    twice = kinds[counts > 1]
    num_bytes = int(sizes[np.isin(sizes, twice)].sum())
    twice = twice[:: -(-num_bytes // _MOST_BYTES) or 1]
    rows: dict[bytes, list[int]] = {}
    for row, digest in _digests(images, np.flatnonzero(np.isin(sizes, twice))):
        rows.setdefault(digest, []).append(row)
    return [same for same in rows.values() if len(same) > 1]


def _sizes(images: LabelledImages) -> np.ndarray:
    return np.array([images.num_bytes(row) for row in range(len(images.labels))], dtype=np.int64)


def _digests(images: LabelledImages, rows: np.ndarray) -> Iterator[tuple[int, bytes]]:
    for row in map(int, rows):
        content = _content(images, row)
        if content is not None:
            yield row, hashlib.blake2b(content, digest_size=16).digest()


def _content(images: LabelledImages, row: int) -> bytes | None:
    """Of an image file; None where it cannot be read, which is said when it is asked for."""
    try:
        with images.open(row) as image:
            file = getattr(image, "fp", None)
            if file is None:
                return image.tobytes()
            file.seek(0)
            return file.read()
    except UNREADABLE:
        return None


def twins(one: LabelledImages, other: LabelledImages) -> tuple[list[str], int]:
    """Images of `other` whose pixels are those of an image of the same class and name in `one`.

    Names alone tell nothing: many sets number the images of each class. A copy under another name
    is not found.

    Args:
        one: A split.
        other: Another, its classes numbered alike.

    Returns:
        Places of such images, and how many pairs were looked into.
    """
    rows = {(label, other.file_name(row)): row for row, label in enumerate(other.labels.tolist())}
    named: dict[int, int] = {}  # row of `one` for a row of `other`
    for row, label in enumerate(one.labels.tolist()):
        key = label, one.file_name(row)
        if key[1] and key in rows:
            named.setdefault(rows[key], row)
    pairs = [(a, b) for b, a in sorted(named.items())][:: -(-len(named) // _MOST) or 1]
    return [other.name(b) for a, b in pairs if _are_the_same(one, a, other, b)], len(pairs)


def _are_the_same(one: LabelledImages, a: int, other: LabelledImages, b: int) -> bool:
    if one.num_bytes(a) != other.num_bytes(b):
        return False
    found = _pixels(one, a)
    return found is not None and found == _pixels(other, b)


def _pixels(images: LabelledImages, row: int) -> tuple[tuple[int, int], bytes] | None:
    """Size and pixels; None where the file cannot be read, which is said when it is asked for."""
    try:
        with images.open(row) as image:
            rgb = to_rgb(image)
    except UNREADABLE:
        return None
    return rgb.size, rgb.tobytes()
