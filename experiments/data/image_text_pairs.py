"""Image-text pairs at the scale of CC12M, read from files by background processes.

A batch is a function of the seed and the step alone: not of the number of loading processes, of the
ranks, or of where a run resumed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from experiments.config import ConfigError
from experiments.data.caption_tokens import CaptionTokens
from experiments.data.captioned_images import Listed
from experiments.data.captioned_sets import CaptionedSet, Pairs
from experiments.data.fingerprint import of_pairs
from experiments.data.image_loading import ImageBatches, load
from experiments.data.image_transforms import eval_transform, flip_transform
from experiments.data.karpathy import KarpathyCaptions, read_split
from experiments.data.loading_processes import num_loading
from experiments.data.locate import expanded
from experiments.data.order import BatchPlan
from experiments.data.pair_paths import PAIRS, check_splits
from experiments.data.pair_shards import open_pairs
from experiments.data.shard_paths import find_shards
from experiments.data.tokenizer import open_tokenizer
from experiments.ranges import check_all

_LOOKED_AT = 1000
"""Captions whose length is looked at."""


class ImageTextPairs:
    """Pairs to train on; a part to search in, where there is one.

    Args:
        name: For the ledger's `data` column.
        num_train: Pairs on disk; checked when they are first read.
        root: Folder of the data.
        reader: shards (tar files as img2dataset writes them) | karpathy (COCO, Flickr30k: every
            caption is a pair).
        annotations: Karpathy's json; None: the one in the root.
        train_split: Shards by name or pattern, e.g. `{00000..01242}.tar`; or train.
        val_split: The same for retrieval, as split `val`; None: none.
        input_size: Side of the images that the model sees, in pixels.
        num_tokens: Of a caption.
        tokenizer_file: SentencePiece model or tokenizer.json.
        tokenizer_sha256: Of that file.
        num_workers: Loading processes per training process; None: by the cores, see `num_loading`.
        cache_dir: Where indexes of tar files are kept; None: the user's cache folder.
    """

    honours: ClassVar[frozenset[str]] = frozenset(
        {"crop", "horizontal_flip", "interpolation", "mean", "std"}
    )

    def __init__(
        self,
        name: str,
        num_train: int,
        root: str | None = None,
        *,
        reader: str = "shards",
        annotations: str | None = None,
        train_split: str = "train",
        val_split: str | None = None,
        input_size: int = 224,
        num_tokens: int = 16,
        tokenizer_file: str | None = None,
        tokenizer_sha256: str | None = None,
        num_workers: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        check_all({k: v for k, v in locals().items() if k in PAIRS}, PAIRS, "data")
        if reader == "karpathy":
            check_splits([train_split, val_split])
        self.name, self.num_train, self.input_size = name, num_train, input_size
        self._root, self._reader, self._annotations = expanded(root), reader, annotations
        self._train_split, self._val_split = train_split, val_split
        self._num_tokens, self._num_workers, self._cache_dir = num_tokens, num_workers, cache_dir
        self._tokenizer = tokenizer_file, tokenizer_sha256

    @cached_property
    def tokens(self) -> CaptionTokens:
        file, sha256 = self._tokenizer
        return CaptionTokens(open_tokenizer(str(file), sha256), self._num_tokens)

    @cached_property
    def eval_sets(self) -> Mapping[str, CaptionedSet]:
        if self._val_split is None:
            return {}
        if self._reader == "karpathy":
            shared = {"input_size": self.input_size, "num_workers": self._num_workers}
            return {
                "val": KarpathyCaptions(
                    self.name, self._root, self._annotations, self._val_split, **shared
                )
            }
        return {"val": _PairsToSearch(self, *self._opened(self._val_split))}

    def train_batches(
        self, plan: BatchPlan, start: int, end: int, settings: Any, with_images: bool = True
    ) -> Iterator[list[Pairs]]:
        images, rows, captions = self._train
        targets = _Tokens(captions, self.tokens)
        per_step = len(plan.micro_numbers())
        if not with_images:
            for step in range(start, end):
                yield [(torch.from_numpy(n), targets.of(n)) for n in plan.micro_batches(step)]
            return
        transform = flip_transform(self.input_size, settings)
        batches = ImageBatches(images, rows, cast(np.ndarray, targets), transform, plan)
        requests = (
            (plan.epoch_of(step), numbers)
            for step in range(start, end)
            for numbers in plan.micro_batches(step)
        )
        loaded = load(batches, requests, num_loading(self._num_workers, (end - start) * per_step))
        for _ in range(start, end):
            yield [next(loaded) for _ in range(per_step)]

    def train_images(self, batches: Sequence[np.ndarray], settings: Any) -> Iterator[Tensor]:
        images, rows, _ = self._train
        yield from self._shown(images, rows, batches, settings)

    def example_batch(self, size: int) -> Pairs:
        side = self.input_size
        images = torch.empty(size, 3, side, side, dtype=torch.uint8, device="meta")
        return images, torch.empty(size, self._num_tokens, dtype=torch.int64, device="meta")

    @cached_property
    def fingerprint(self) -> str:
        """Which pairs these are: `train_fingerprint`, and that of the part to search in.

        The same wherever the data lies.
        """
        if self._val_split is None:
            return self.train_fingerprint
        return f"{self.train_fingerprint} {self._digest(*self._opened(self._val_split))}"

    @cached_property
    def train_fingerprint(self) -> str:
        """A hash of the number of pairs, and of names, sizes and captions of some."""
        return self._digest(*self._train)

    def _digest(self, images: Any, rows: np.ndarray, captions: Any) -> str:
        head = f"{len(rows)} {self.tokens.tokenizer.sha256}\n"
        return of_pairs(head, images, rows, captions)[:16]

    @cached_property
    def _train(self) -> tuple[Any, np.ndarray, Any]:
        """Reader of images, its row of each pair, and captions."""
        images, rows, captions = self._opened(self._train_split)
        if len(rows) != self.num_train:
            raise ConfigError(
                f"data.num_train={self.num_train}, but {self._root} holds {len(rows)} pairs: "
                f"complete the copy, or set data.num_train={len(rows)}"
            )
        self._say_cut(captions)
        return images, rows, captions

    def _say_cut(self, captions: Any) -> None:
        """Says how many of some captions, evenly spread, are longer than what the model sees."""
        step = -(-len(captions) // _LOOKED_AT)
        texts = captions.texts(range(0, len(captions), step))
        if cut := self.tokens.num_cut(texts):
            warnings.warn(
                f"{self.name}: {cut} of {len(texts)} captions that were looked at have more than "
                f"data.num_tokens={self._num_tokens} tokens, and lose their end",
                stacklevel=4,
            )

    def _opened(self, split: str) -> tuple[Any, np.ndarray, Any]:
        if self._reader == "karpathy":
            images, said = read_split(str(self._root), expanded(self._annotations), split)
            rows = np.repeat(np.arange(len(said)), [len(captions) for captions in said])
            return images, rows, Listed([text for captions in said for text in captions])
        shards = find_shards(str(self._root), split)
        images, captions = open_pairs(shards, self._cache_dir, f"{self.name}, {split}")
        return images, np.arange(len(captions)), captions

    def _shown(
        self, images: Any, rows: np.ndarray, batches: Sequence[np.ndarray], settings: Any
    ) -> Iterator[Tensor]:
        transform = eval_transform(self.input_size, settings)
        wanted = ImageBatches(images, rows, np.zeros(len(rows), np.int64), transform)
        requests = [(0, numbers) for numbers in batches]
        for pixels, _ in load(wanted, requests, num_loading(self._num_workers, len(requests))):
            yield pixels


class _PairsToSearch:
    """A split of shards, one caption to an image; see `captioned_sets.CaptionedSet`."""

    def __init__(self, of: ImageTextPairs, images: Any, rows: np.ndarray, captions: Any) -> None:
        self._of, self._images, self.image_of = of, images, rows
        self.captions: Sequence[str] = captions.texts(range(len(rows)))
        self.num_images = len(rows)

    def images(self, batches: Sequence[np.ndarray], settings: Any) -> Iterator[Tensor]:
        yield from self._of._shown(self._images, self.image_of, batches, settings)


class _Tokens:
    """What `ImageBatches` asks for as labels: rows of tokens, made where the images are loaded."""

    def __init__(self, captions: Any, tokens: CaptionTokens) -> None:
        self._captions, self._tokens = captions, tokens

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        return self._tokens(self._captions.texts(numbers))

    def of(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(self[numbers])
