"""Distances between sets of images by their features: Fréchet and kernel distance.

Source: arXiv:1706.08500 (FID), arXiv:1801.01401 (KID), arXiv:1911.07023 (bias in 1 / n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

KERNEL_BLOCK = 1000
"""Most features of each side behind one kernel distance; the blocks are averaged."""


@dataclass(frozen=True)
class Statistics:
    """What the Fréchet distance knows of a set of images."""

    mean: Tensor  # (D,) float64
    covariance: Tensor  # (D, D) float64, unbiased
    num_images: int
    features: Tensor  # (M, D) float64: some of them, for the kernel distance; M may be 0


def statistics(features: Tensor, num_kept: int = 0) -> Statistics:
    """Mean and covariance of features (N, D), N of 2 or more; keeps the first `num_kept`."""
    features = features.double()
    mean = features.mean(0)
    centred = features - mean
    covariance = centred.T @ centred / (len(features) - 1)
    return Statistics(mean, covariance, len(features), features[:num_kept])


def frechet_distance(ours: Statistics, theirs: Statistics) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), by torchmetrics; NaN where one is NaN."""
    known = (ours.mean, ours.covariance, theirs.mean, theirs.covariance)
    if any(part.isnan().any() for part in known):
        return math.nan
    from torchmetrics.image.fid import FrechetInceptionDistance

    # Every process has all features: torchmetrics would add them up once more.
    metric: Any = FrechetInceptionDistance(
        feature=_Given(len(ours.mean)), sync_on_compute=False, dist_sync_on_step=False
    )
    for kind, side in (("fake", ours), ("real", theirs)):
        number = side.num_images
        products = side.covariance * (number - 1) + number * torch.outer(side.mean, side.mean)
        setattr(metric, f"{kind}_features_sum", side.mean * number)
        setattr(metric, f"{kind}_features_cov_sum", products)
        setattr(metric, f"{kind}_features_num_samples", torch.tensor(number))
    metric.orig_dtype, metric._update_count = torch.float64, 1
    return float(metric.compute())


class _Given(nn.Module):
    """Stands where torchmetrics expects an extractor: the features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def halves(features: Tensor, reference: Statistics) -> float:
    """Mean Fréchet distance of either half of the samples: what half as many would have given.

    Classes are asked for in turn, so each half has every class where n is a multiple of twice
    their number.
    """
    middle = len(features) // 2
    parts = features[:middle], features[middle : 2 * middle]
    found = [frechet_distance(statistics(part), reference) for part in parts]
    return sum(found) / 2


def kernel_distance(ours: Tensor, theirs: Tensor) -> tuple[float, float | None, int]:
    """Unbiased squared maximum mean discrepancy with the kernel (x y / D + 1)^3, by torchmetrics.

    Args:
        ours: (N, D) float64.
        theirs: (M, D) float64; maybe sorted by class, so that a block takes every so-manieth.

    Returns:
        Mean over blocks of at most `KERNEL_BLOCK`, its standard error where there are several
        blocks, and how many samples of each side stood behind it.
    """
    from torchmetrics.image.kid import poly_mmd

    least = min(len(ours), len(theirs))
    size = min(KERNEL_BLOCK, least)
    number = least // size
    values = torch.stack(
        [poly_mmd(theirs[k::number][:size], ours[k * size : (k + 1) * size]) for k in range(number)]
    )
    error = float(values.std() / number**0.5) if number > 1 else None
    return float(values.mean()), error, size * number
