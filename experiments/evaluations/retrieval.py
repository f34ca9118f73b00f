"""Retrieval: are an image's captions found among all, and a caption's image among all?

Captions of the same tokens are embedded and compared once: they are as near as each other in any
batch and process, where rounding would tell them apart.

Legend: N images, M captions, K captions of unlike tokens, D embedding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.data.captioned_sets import CaptionedSet, digest_of
from experiments.distributed import World
from experiments.evaluations.alike import kinds_of
from experiments.evaluations.evaluation import Context, Measurement
from experiments.evaluations.gathering import gathered, share_of

DEPTHS = (1, 5, 10)
"""How far down the list is looked."""


def retrieve(
    model: Any,
    captioned: CaptionedSet,
    split: str,
    context: Context,
    tokens: Callable[[Sequence[str]], Tensor],
    images: Callable[[Sequence[np.ndarray]], Iterator[Tensor]],
) -> Iterator[Measurement]:
    """Recall at 1, 5 and 10, both ways.

    Args:
        model: With `encode_image`, `encode_text` and `embed_dim`, see `models.two_towers`.
        captioned: The set.
        split: Its name in the ledger.
        context: Of the evaluation.
        tokens: Texts to what `encode_text` takes, of each by itself.
        images: For each row of image numbers, what `encode_image` takes.
    """
    world, size = context.world, context.batch_size
    n, m = captioned.num_images, len(captioned.captions)
    shown = images(share_of(n, size, world))
    width = model.embed_dim
    x_ND = gathered((model.encode_image(i) for i in shown), n, width, world)
    texts, kind_M = _kinds(tokens(captioned.captions))
    shares = share_of(len(texts), size, world)
    y_KD = gathered((model.encode_text(texts[k]) for k in shares), len(texts), width, world)
    asked = digest_of(captioned.captions, captioned.image_of)
    instrument = json.dumps({"captions": asked, "images": n, "ties": "against"}, sort_keys=True)
    image_of = torch.from_numpy(np.asarray(captioned.image_of)).to(x_ND.device)
    found = {"i2t": (_to_texts, n), "t2i": (_to_images, m)}
    for way, (ranks, count) in found.items():
        hits = torch.zeros(len(DEPTHS), dtype=torch.float64, device=x_ND.device)
        for numbers in share_of(count, size, world):
            rows = torch.from_numpy(numbers).to(x_ND.device)
            ahead = ranks(x_ND, y_KD, kind_M, image_of, rows)
            hits += torch.stack([(ahead < depth).sum() for depth in DEPTHS]).double()
        for depth, value in zip(DEPTHS, _shares(hits, count, world), strict=True):
            error = 100.0 * (value * (1 - value) / count) ** 0.5
            name = f"{way}_recall{depth}"
            yield Measurement(
                split, name, 100.0 * value, "%", count, "higher", error, instrument=instrument
            )


def _shares(hits: Tensor, count: int, world: World) -> list[float]:
    return [hit / count for hit in world.sum(hits).tolist()]


def _kinds(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (K, ...) that are unlike, each where it comes first, and of each row its own (M,)."""
    kinds = kinds_of(tokens.cpu().numpy())
    first = np.unique(kinds, return_index=True)[1]
    return tokens[torch.from_numpy(first).to(tokens.device)], torch.from_numpy(kinds).to(
        tokens.device
    )


def _to_texts(x_ND: Tensor, y_KD: Tensor, kind_M: Tensor, image_of: Tensor, rows: Tensor) -> Tensor:
    """For some images: how many captions of others are ahead of the best of their own.

    Any of an image's captions will do. What is as near as it counts as ahead, so that embeddings
    that are all alike find nothing.
    """
    near = _cosines(x_ND[rows], y_KD)[:, kind_M]
    own = image_of[None, :] == rows[:, None]
    best = near.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
    return ((near >= best) & ~own).sum(1)


def _to_images(
    x_ND: Tensor, y_KD: Tensor, kind_M: Tensor, image_of: Tensor, rows: Tensor
) -> Tensor:
    """For some captions: how many other images are ahead of their own, or as near."""
    near = _cosines(y_KD[kind_M[rows]], x_ND)
    own = near.gather(1, image_of[rows][:, None])
    return (near >= own).sum(1) - 1


def _cosines(one: Tensor, other: Tensor) -> Tensor:
    """What is not a number is farther than anything: a broken embedding finds nothing."""
    with torch.autocast(one.device.type, enabled=False):
        near = one @ other.T
    return near.masked_fill(near.isnan(), -torch.inf)
