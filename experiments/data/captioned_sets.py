"""What contrastive training and retrieval need of images with texts, and the sets in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from experiments.config import ConfigError
from experiments.data.caption_tokens import CaptionTokens
from experiments.data.fingerprint import of_tensors
from experiments.data.order import BatchPlan
from experiments.data.tokenizer import Tokenizer

Pairs = tuple[Tensor, Tensor]
"""Images (N, C, H, W), uint8 as in files or normalised floats, and tokens (N, T) int64."""


class CaptionedSet(Protocol):
    """Images to search by texts, and the other way round."""

    @property
    def captions(self) -> Sequence[str]:
        """Texts."""
        ...

    @property
    def image_of(self) -> np.ndarray:
        """The image that each caption is about: (number of captions,) int64."""
        ...

    @property
    def num_images(self) -> int:
        """Each has a caption or several."""
        ...

    def images(self, batches: Sequence[np.ndarray], settings: Any) -> Iterator[Tensor]:
        """For each row of image numbers: these images, without augmentation."""
        ...


class PairSource(Protocol):
    """Pairs to train on, and sets to search in."""

    name: str
    num_train: int
    tokens: CaptionTokens
    eval_sets: Mapping[str, CaptionedSet]  # by split

    def train_batches(
        self, plan: BatchPlan, start: int, end: int, settings: Any, with_images: bool = True
    ) -> Iterator[list[Pairs]]:
        """Per step, this process's micro-batches; without images, their numbers (N,) int64."""
        ...

    def train_images(self, batches: Sequence[np.ndarray], settings: Any) -> Iterator[Tensor]:
        """For each row of example numbers: their images, without augmentation."""
        ...

    def example_batch(self, size: int) -> Pairs:
        """Of the shapes and types of `train_batches`, on the meta device."""
        ...


@dataclass(frozen=True)
class CaptionedImagesInMemory:
    """A set of which all is held in memory."""

    pixels: Tensor  # (number of images, C, H, W) float32
    captions: Sequence[str]
    image_of: np.ndarray

    @property
    def num_images(self) -> int:
        return len(self.pixels)

    def images(self, batches: Sequence[np.ndarray], settings: Any) -> Iterator[Tensor]:
        for numbers in batches:
            yield self.pixels[torch.from_numpy(numbers)]


class InMemoryPairs:
    """Splits of (images, a caption of each) in memory.

    Args:
        name: For the ledger.
        splits: Images (N, C, H, W) float32, normalised, and N captions. "train" is trained on.
        tokenizer: Of the captions.
        num_tokens: Of a caption.

    Raises:
        ConfigError: where there is no split to train on, or not one caption for each image.
    """

    honours: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        name: str,
        splits: Mapping[str, tuple[Tensor, Sequence[str]]],
        tokenizer: Tokenizer,
        num_tokens: int,
    ) -> None:
        if "train" not in splits:
            raise ConfigError(f"data {name} has no split 'train', only {', '.join(splits)}")
        for split, (images, captions) in splits.items():
            if len(images) != len(captions):
                raise ConfigError(
                    f"data {name}, {split}: {len(images)} images and {len(captions)} captions: "
                    "give each image one"
                )
        self.name, self.splits = name, dict(splits)
        self.tokens = CaptionTokens(tokenizer, num_tokens)
        self.num_train = len(splits["train"][1])
        self.eval_sets: Mapping[str, CaptionedSet] = {
            split: CaptionedImagesInMemory(images, captions, np.arange(len(captions)))
            for split, (images, captions) in splits.items()
            if split != "train"
        }

    @cached_property
    def _train_tokens(self) -> Tensor:
        return torch.from_numpy(self.tokens(self.splits["train"][1]))

    def train_batches(
        self, plan: BatchPlan, start: int, end: int, settings: Any, with_images: bool = True
    ) -> Iterator[list[Pairs]]:
        images = self.splits["train"][0]
        for step in range(start, end):
            rows = [torch.from_numpy(numbers) for numbers in plan.micro_batches(step)]
            yield [(images[row] if with_images else row, self._train_tokens[row]) for row in rows]

    def train_images(self, batches: Sequence[np.ndarray], settings: Any) -> Iterator[Tensor]:
        for numbers in batches:
            yield self.splits["train"][0][torch.from_numpy(numbers)]

    def example_batch(self, size: int) -> Pairs:
        images = self.splits["train"][0][:1].to("meta")
        tokens = torch.empty(size, self.tokens.num_tokens, dtype=torch.int64, device="meta")
        return images.expand(size, *images.shape[1:]), tokens

    @cached_property
    def fingerprint(self) -> str:
        """Which examples these are."""
        return of_tensors(
            {s: (i, torch.from_numpy(self.tokens(c))) for s, (i, c) in self.splits.items()}
        )


def digest_of(captions: Sequence[str], image_of: np.ndarray) -> str:
    """Short hash of what a set asks for."""
    digest = hashlib.sha256()
    for caption in captions:
        digest.update(caption.encode(errors="surrogateescape") + b"\0")
    digest.update(np.ascontiguousarray(image_of, "<i8").tobytes())
    return digest.hexdigest()[:12]
