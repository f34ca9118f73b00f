"""Labelled signals for the proxies of images: MNIST-1D and scikit-learn's digits.

The training split trains; the validation split is the search's, the test split gives final
numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from experiments.data import bundled
from experiments.data.in_memory import InMemoryImages
from experiments.search.proxies.proxy import FRESH, SEARCH, Batch, positions

SPLITS = {SEARCH: "val", FRESH: "test"}
SOURCES = {"mnist1d": bundled.mnist1d, "digits": bundled.digits}
NUM_INPUTS = {"mnist1d": 40, "digits": 64}


class Examples:
    """Flat signals and their classes."""

    num_classes = 10

    def __init__(self, source: str, batch_size: int = 32, num_validation: int = 256) -> None:
        self.source, self.batch_size, self.num_validation = source, batch_size, num_validation
        self.num_inputs = NUM_INPUTS[source]

    @cached_property
    def _splits(self) -> dict[str, tuple[Tensor, Tensor]]:
        return _load(SOURCES[self.source](self.source))

    def training(self, stream: int, num_steps: int) -> Sequence[Batch]:
        """Batches (1, batch_size, inputs), drawn with replacement."""
        inputs, labels = self._splits["train"]
        drawn = positions(stream, num_steps, self.batch_size, len(labels))
        return [Batch(inputs[one][None], labels[one][None]) for one in torch.from_numpy(drawn)]

    def validation(self, window: int, part: str) -> Batch:
        """`num_validation` examples (or the whole split), (1, n, inputs)."""
        inputs, labels = self._splits[SPLITS[part]]
        size = min(self.num_validation, len(labels))
        begin = window % (len(labels) // size) * size
        return Batch(inputs[None, begin : begin + size], labels[None, begin : begin + size])


def _load(images: InMemoryImages) -> dict[str, tuple[Tensor, Tensor]]:
    """Each split with its examples in a fixed random order, so that windows hold every class."""
    splits = {}
    for name, (pixels, labels) in images.splits.items():
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        splits[name] = pixels[order].flatten(1).contiguous(), labels[order]
    return splits
