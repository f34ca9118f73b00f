"""Images that two splits have in common, looked for where a file has the same class and name."""

from __future__ import annotations

from experiments.data.decode import to_rgb
from experiments.data.image_loading import UNREADABLE
from experiments.data.image_readers import LabelledImages

_MOST = 100
"""Pairs of files that are looked into, evenly spread."""


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
