"""Images with captions: ROOT/SPLIT/captions.jsonl, one {"file": ..., "caption": ...} per line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.config import ConfigError, UserError
from experiments.data.caption_embeddings import Embeddings, Texts, digest_of, embed
from experiments.data.caption_paths import RULES
from experiments.data.caption_tokens import whole_characters
from experiments.data.decode import to_rgb
from experiments.data.fingerprint import of_tensors
from experiments.data.image_loading import UNREADABLE
from experiments.data.image_transforms import eval_transform
from experiments.data.locate import check_values
from experiments.data.order import BatchPlan, derive
from experiments.settings.image import ImageTaskConfig

Captioned = tuple[Tensor, Tensor, Tensor]
"""Images (N, 3, H, W) uint8, embeddings of captions (N, L, D) float32, mask (N, L) bool."""


class CaptionedImages:
    """Two splits, train and val; read as they are needed.

    Args:
        name: For the ledger's `data` column.
        root: Folder with a folder for each split.
        encoder: Folder of the frozen text encoder.
        num_train: Training images; checked when they are first read.
        input_size: Side of the images that the model sees, in pixels.
        num_tokens: Of a caption.
        embed_dim: Width of the encoder.
        encoder_sha256: That the encoder must have: it, not the path, is part of which run this is.
        cache_dir: Of embeddings; None: the user's cache folder.
    """

    honours: ClassVar[frozenset[str]] = frozenset(
        {"train_crop", "horizontal_flip", "interpolation", "eval_crop_fraction"}
    )
    eval_groups: ClassVar[list[list[str]]] = [["val"]]

    def __init__(
        self,
        name: str,
        num_train: int,
        root: str | None = None,
        encoder: str | None = None,
        *,
        input_size: int = 64,
        num_tokens: int = 128,
        embed_dim: int = 4096,
        encoder_sha256: str = "",
        cache_dir: str | None = None,
    ) -> None:
        check_values({k: v for k, v in locals().items() if k in RULES}, RULES)
        self.name, self.num_train, self.input_size = name, num_train, input_size
        self.root, self.encoder, self.cache_dir = root, encoder, cache_dir
        self.num_tokens, self.embed_dim = num_tokens, embed_dim
        self._encoder_sha256 = encoder_sha256

    def train_batches(
        self, plan: BatchPlan, start: int, end: int, settings: ImageTaskConfig
    ) -> Iterator[list[Captioned]]:
        """Per step, this process's micro-batches."""
        for step in range(start, end):
            epoch = plan.epoch_of(step)
            yield [
                self._batch("train", rows, settings, plan, epoch)
                for rows in plan.micro_batches(step)
            ]

    def eval_batches(
        self, split: str, batch_size: int, rank: int, world_size: int, settings: ImageTaskConfig
    ) -> Iterator[Captioned]:
        """Each example of a split once over all processes."""
        mine = np.arange(rank, len(self._listed(split)), world_size)
        for first in range(0, len(mine), batch_size):
            yield self._batch(split, mine[first : first + batch_size], settings)

    def take(self, split: str, rows: Sequence[int], settings: ImageTaskConfig) -> Captioned:
        """Some examples of a split, by number; beyond its end they begin again."""
        number = len(self._listed(split))
        return self._batch(split, np.array([row % number for row in rows]), settings)

    def captions(self, split: str, rows: Sequence[int]) -> list[str]:
        """Those of `take`."""
        texts = self._texts(split)
        return texts.texts([row % len(texts) for row in rows])

    def example_batch(self, size: int) -> Captioned:
        """Of the right shapes and types, on the meta device; nothing is read."""
        side, width = self.input_size, (size, self.num_tokens, self.embed_dim)
        return (
            torch.empty((size, 3, side, side), dtype=torch.uint8, device="meta"),
            torch.empty(width, device="meta"),
            torch.empty(width[:2], dtype=torch.bool, device="meta"),
        )

    def _batch(
        self,
        split: str,
        rows: np.ndarray,
        settings: ImageTaskConfig,
        plan: BatchPlan | None = None,
        epoch: int = 0,
    ) -> Captioned:
        transform = eval_transform(self.input_size, settings)
        images = []
        for row in rows:
            image = transform(_open(self._listed(split)[int(row)][0]))
            if plan is not None and settings.horizontal_flip > 0:
                draw = derive(plan.example_seed(epoch, int(row)), "flip") / 2**63
                image = (
                    torch.as_tensor(image).flip(-1) if draw < settings.horizontal_flip else image
                )
            images.append(torch.as_tensor(image))
        return torch.stack(images), *self._embeddings(split).take(rows)

    def _embeddings(self, split: str) -> Embeddings:
        return self._all_embeddings[split]

    @cached_property
    def _all_embeddings(self) -> dict[str, Embeddings]:
        self._check_apart()
        return {split: self._embedded(split) for split in ("train", "val")}

    def _embedded(self, split: str) -> Embeddings:
        made = embed(
            self._texts(split),
            self._digest(split),
            str(self.encoder),
            self.num_tokens,
            self.cache_dir,
            self._encoder_sha256,
        )
        if made.width != self.embed_dim:
            raise ConfigError(f"data.embed_dim={self.embed_dim}: the encoder gives {made.width}")
        return made

    def _texts(self, split: str) -> Texts:
        return Listed([caption for _, caption in self._listed(split)])

    def _digest(self, split: str) -> str:
        """Tells the captions of a split from others."""
        return digest_of([caption for _, caption in self._listed(split)])

    @cached_property
    def fingerprint(self) -> str:
        """Of captions, as the encoder sees them, and image files' names."""
        parts = {}
        for split in ("train", "val"):
            listed = json.dumps([(Path(p).name, c) for p, c in self._listed(split)]).encode()
            lengths = torch.from_numpy(self._embeddings(split).lengths)
            parts[split] = torch.frombuffer(bytearray(listed), dtype=torch.uint8), lengths
        return of_tensors(parts)

    def _check_apart(self) -> None:
        """Refuses to measure on what is trained on."""
        trained, held_out = (
            {os.path.normpath(path) for path, _ in self._listed(split)}
            for split in ("train", "val")
        )
        if both := sorted(trained & held_out):
            raise ConfigError(
                f"data.root={self.root}: {len(both)} of {len(held_out)} images of val are listed "
                f"in train, too, the first is {both[0]}: leave them out of one captions.jsonl"
            )

    def _listed(self, split: str) -> list[tuple[str, str]]:
        listed = _read(str(self.root), split)
        if split == "train" and len(listed) != self.num_train:
            raise ConfigError(
                f"data.num_train={self.num_train}, but {self.root} lists {len(listed)} training "
                f"images: set data.num_train={len(listed)}"
            )
        return listed


class Listed:
    """Captions in memory."""

    def __init__(self, captions: list[str]) -> None:
        self._captions = captions

    def __len__(self) -> int:
        return len(self._captions)

    def texts(self, numbers: Sequence[int] | np.ndarray) -> list[str]:
        return [self._captions[int(number)] for number in numbers]


@lru_cache(maxsize=4)
def _read(root: str, split: str) -> list[tuple[str, str]]:
    path = Path(root).expanduser() / split / "captions.jsonl"
    found: list[tuple[str, str]] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = text.removesuffix("\n").split("\n") if text else []
        for line in lines:  # not splitlines: a caption may hold other line ends
            entry: Mapping[str, Any] = json.loads(line)
            if not isinstance(entry["caption"], str) or not entry["caption"].strip():
                raise TypeError("the caption is no text, or empty")
            found.append((str(path.parent / entry["file"]), whole_characters(entry["caption"])))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; set data.root") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        place = f"{path}, line {len(found) + 1}"
        raise UserError(f'{place}: must be {{"file": ..., "caption": ...}} ({error})') from error
    if not found:
        raise UserError(f"{path} lists no image: write a line for each")
    return found


def _open(path: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read the image {path} ({reason}): restore that file") from error
