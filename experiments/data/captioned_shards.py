"""Images with captions in tar files as img2dataset writes them, for text-to-image models.

Read by background processes; a batch is a function of the seed and the step alone, as those of
`experiments.data.image_text_pairs`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from itertools import tee
from typing import Any, cast

import numpy as np

from experiments.config import ConfigError
from experiments.data.caption_embeddings import Texts
from experiments.data.caption_paths import SHARD_RULES
from experiments.data.captioned_images import Captioned, CaptionedImages
from experiments.data.fingerprint import of_pairs
from experiments.data.image_archives import ArchiveImages
from experiments.data.image_loading import ImageBatches, Request, load
from experiments.data.image_transforms import Transform, eval_transform, flip_transform
from experiments.data.locate import check_values, expanded
from experiments.data.order import BatchPlan
from experiments.data.pair_shards import ShardCaptions, open_pairs
from experiments.data.shard_paths import find_shards
from experiments.settings.image import ImageTaskConfig


class CaptionedShards(CaptionedImages):
    """Two splits, train and val, which may lie in different folders.

    Args:
        name: For the ledger's `data` column.
        num_train: Training pairs; checked when they are first read.
        root: Folder of the shards.
        encoder: Folder of the frozen text encoder.
        train_split: Shards by name or pattern, e.g. `{00000..01242}.tar`; or a word in their names.
        val_split: The same of those whose captions are drawn.
        val_root: Folder of the latter; None: the root.
        num_workers: Loading processes per training process.
        section: As of `CaptionedImages`.
    """

    def __init__(
        self,
        name: str,
        num_train: int,
        root: str | None = None,
        encoder: str | None = None,
        *,
        train_split: str = "train",
        val_split: str = "val",
        val_root: str | None = None,
        num_workers: int = 8,
        **section: Any,
    ) -> None:
        check_values({k: v for k, v in locals().items() if k in SHARD_RULES}, SHARD_RULES)
        super().__init__(name, num_train, root, encoder, **section)
        self._places = {
            "train": (expanded(root), train_split),
            "val": (expanded(val_root) or expanded(root), val_split),
        }
        self._num_workers = num_workers

    def train_batches(
        self, plan: BatchPlan, start: int, end: int, settings: ImageTaskConfig
    ) -> Iterator[list[Captioned]]:
        per_step = len(plan.micro_numbers())
        requests = (
            (plan.epoch_of(step), numbers)
            for step in range(start, end)
            for numbers in plan.micro_batches(step)
        )
        transform = flip_transform(self.input_size, settings)
        num_workers = min(self._num_workers, (end - start) * per_step)
        loaded = self._loaded("train", requests, transform, num_workers, plan)
        for _ in range(start, end):
            yield [next(loaded) for _ in range(per_step)]

    def eval_batches(
        self, split: str, batch_size: int, rank: int, world_size: int, settings: ImageTaskConfig
    ) -> Iterator[Captioned]:
        mine = np.arange(rank, len(self._texts(split)), world_size)
        requests = [(0, mine[k : k + batch_size]) for k in range(0, len(mine), batch_size)]
        transform = eval_transform(self.input_size, settings)
        num_workers = min(self._num_workers, len(requests))
        yield from self._loaded(split, requests, transform, num_workers)

    def take(self, split: str, rows: Sequence[int], settings: ImageTaskConfig) -> Captioned:
        numbers = np.array([row % len(self._texts(split)) for row in rows])
        transform = eval_transform(self.input_size, settings)
        return next(self._loaded(split, [(0, numbers)], transform, 0))

    def _loaded(
        self,
        split: str,
        requests: Iterable[Request],
        transform: Transform,
        num_workers: int,
        plan: BatchPlan | None = None,
    ) -> Iterator[Captioned]:
        """For each request its images, embeddings of captions and mask."""
        images, captions = self._opened(split)
        embedded = self._embeddings(split)
        targets = cast(np.ndarray, embedded)  # it is asked for rows, and that is all
        batches = ImageBatches(images, np.arange(len(captions)), targets, transform, plan)
        ahead, here = tee(requests)
        for (pixels, values), (_, numbers) in zip(
            load(batches, ahead, num_workers), here, strict=True
        ):
            yield pixels, values.float(), embedded.mask(numbers)

    @cached_property
    def fingerprint(self) -> str:
        """Of names and sizes of all pairs, and the captions of some; the same wherever they lie."""
        told = f"{self._digest('train')} {self._digest('val')} {self.num_tokens}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def _check_apart(self) -> None:
        """By their shards: see `caption_paths.check_shards`."""

    def _texts(self, split: str) -> Texts:
        return self._opened(split)[1]

    def _digest(self, split: str) -> str:
        return _digest(*self._opened(split))

    def _opened(self, split: str) -> tuple[ArchiveImages, ShardCaptions]:
        root, pattern = self._places[split]
        found = self._all_opened.get(split)
        if found is None:
            shards = find_shards(str(root), pattern)
            found = open_pairs(shards, self.cache_dir, f"{self.name}, {split}")
            self._all_opened[split] = found
        if split == "train" and len(found[1]) != self.num_train:
            raise ConfigError(
                f"data.num_train={self.num_train}, but {root} holds {len(found[1])} pairs: "
                f"complete the copy, or set data.num_train={len(found[1])}"
            )
        return found

    @cached_property
    def _all_opened(self) -> dict[str, tuple[ArchiveImages, ShardCaptions]]:
        return {}


@cache
def _digest(images: ArchiveImages, captions: ShardCaptions) -> str:
    """Tells the pairs of a split from others."""
    head = f"{images.digest()} {captions.files.digest()}\n"
    return of_pairs(head, images, np.arange(len(captions)), captions)
