"""Losses of a classifier: one class an image, or any number of them.

Source: arXiv:2006.07159, section 6, and arXiv:2010.11929, appendix B: a sigmoid for each class, as
used on JFT, whose images have several labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

NO_LABEL = -1
"""Fills up the rows of (N, K) labels where an image has fewer than K."""


def sigmoid_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy of each class, summed over the classes.

    With targets t in {0, 1}: -sum over classes of t log s(x) + (1 - t) log(1 - s(x)), s the
    sigmoid. A model that says nothing (scores 0) has num_classes ln 2.

    Args:
        scores: (N, num_classes).
        labels: (N,) int64; (N, K) int64, filled up with `NO_LABEL`; or (N, num_classes) float,
            soft targets in [0, 1].

    Returns:
        (N,) nats.
    """
    targets = labels if labels.is_floating_point() else multi_hot(labels, scores.shape[1])
    losses = functional.binary_cross_entropy_with_logits(
        scores.float(), targets.float(), reduction="none"
    )
    return losses.sum(1)


def multi_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Class numbers, (N,) or (N, K) int64, as (N, num_classes) bool."""
    labels = labels[:, None] if labels.dim() == 1 else labels
    found = torch.zeros(len(labels), num_classes + 1, dtype=torch.bool, device=labels.device)
    found.scatter_(1, labels.where(labels != NO_LABEL, num_classes), True)
    return found[:, :num_classes]
