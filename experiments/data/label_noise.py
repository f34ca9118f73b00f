"""Labels of which a share was drawn anew: data whose teacher is often wrong."""

from __future__ import annotations

import numpy as np

SEED = 77
"""Of the draw: the same examples are wrong in every run."""


def redrawn(labels: np.ndarray, share: float, num_classes: int) -> np.ndarray:
    """Labels of which a share was drawn anew, each class as likely, the old one included.

    So a share of (1 - 1 / num_classes) of those is wrong afterwards. A larger share redraws what a
    smaller one does, and more.

    Args:
        labels: (N,) integers from 0 to num_classes - 1; not changed.
        share: 0 to 1.
        num_classes: Of the new labels.
    """
    random_state = np.random.RandomState(SEED)
    order = random_state.permutation(len(labels))
    drawn = random_state.randint(num_classes, size=len(labels))
    chosen = order[: round(share * len(labels))]
    changed = labels.copy()
    changed[chosen] = drawn[chosen]
    return changed
