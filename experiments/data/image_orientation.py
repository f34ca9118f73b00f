"""Images that their files say to show turned or mirrored (EXIF), which is not done here."""

from __future__ import annotations

import numpy as np

from experiments.data.image_loading import UNREADABLE
from experiments.data.image_readers import LabelledImages

_ORIENTATION, _UPRIGHT = 0x112, 1
_MOST = 100
"""Files whose heads are read, evenly spread."""


def turned(images: LabelledImages) -> tuple[list[str], int]:
    """Places of images that are not stored upright, among some, and how many were looked at."""
    rows = np.unique(np.linspace(0, len(images.labels) - 1, _MOST).astype(np.int64)).tolist()
    return [images.name(row) for row in rows if _is_turned(images, row)], len(rows)


def _is_turned(images: LabelledImages, row: int) -> bool:
    try:
        with images.open(row) as image:
            return image.getexif().get(_ORIENTATION, _UPRIGHT) in range(2, 9)
    except UNREADABLE:  # said when it is asked for
        return False
