"""Statistics of the training images' features, computed once and kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.distributed import World
from experiments.evaluations.extractors import Extractor
from experiments.evaluations.frechet import Statistics

NUM_KEPT = 10_000
"""Features that are kept for the kernel distance, spread over all images: the first ones of files
that are sorted by class would be of the first classes."""
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
"""2^64 divided by the golden ratio: multiples of it, modulo 2^64, fill the range evenly."""


def reference(
    facts: dict[str, Any],
    extractor: Extractor,
    batches: Callable[[], Iterable[Tensor]],
    cache_dir: str | None,
    world: World,
) -> Statistics:
    """Statistics of all images that `batches` gives over all processes.

    Args:
        facts: What they depend on; another fact is another file.
        extractor: Of the features.
        batches: This process's images, uint8 (N, C, H, W).
        cache_dir: Folder to keep them in; None: the user's cache.
        world: The processes.
    """
    text = json.dumps(facts, sort_keys=True)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache_dir).expanduser() if cache_dir else Path(base) / "lion-experiments"
    path = folder / f"reference-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    found = _load(path, text)
    have = torch.tensor(float(found is not None), device=world.device)
    if float(world.sum(have)) == world.size and found is not None:
        return found
    made = measured(extractor, batches(), world)
    if world.is_main:
        _save(path, made, text)
    return made


def measured(extractor: Extractor, batches: Iterable[Tensor], world: World) -> Statistics:
    """As `reference`, kept nowhere. In one pass, since a million features do not fit in memory."""
    number, kept, places = 0, [], []
    sums = products = None
    for images in batches:
        features = extractor.extract(images.to(world.device))[0].double()
        if sums is None or products is None:
            sums, products = features.new_zeros(features.shape[1]), features.T @ features * 0
        sums += features.sum(0)
        products += features.T @ features
        mine = (torch.arange(len(images)) + number) * world.size + world.rank
        kept, places, number = [*kept, features], [*places, mine], number + len(images)
        if sum(map(len, places)) > 2 * NUM_KEPT:
            chosen = spread(torch.cat(places))
            kept = [torch.cat(kept)[chosen.to(world.device)]]
            places = [torch.cat(places)[chosen]]
    widths = world.gather(torch.tensor([0 if sums is None else len(sums)], device=world.device))
    if sums is None or products is None:  # there are more processes than images
        nothing = torch.zeros(0, int(widths.max()), dtype=torch.float64, device=world.device)
        sums, products = nothing.sum(0), nothing.T @ nothing
        kept, places = [nothing], [torch.arange(0)]
    counted = int(world.sum(torch.tensor(number)))
    mean = world.sum(sums) / counted
    covariance = (world.sum(products) - counted * torch.outer(mean, mean)) / (counted - 1)
    mine = torch.cat(places)
    everywhere = world.gather(mine.to(world.device)).cpu()
    chosen = torch.isin(mine, everywhere[spread(everywhere)])
    features = in_order(torch.cat(kept)[chosen.to(world.device)], mine[chosen], world)
    return Statistics(mean.cpu(), covariance.cpu(), counted, features.cpu())


def spread(numbers: Tensor) -> Tensor:
    """Which of some numbers (N,) are kept: all, or `NUM_KEPT` evenly among them; (N,) bool.

    Of a part of the numbers at least those are kept that are kept of all.
    """
    chosen = torch.ones(len(numbers), dtype=torch.bool)
    if len(numbers) > NUM_KEPT:
        chosen[(numbers * _GOLDEN).argsort()[NUM_KEPT:]] = False
    return chosen


def in_order(rows: Tensor, numbers: Tensor, world: World) -> Tensor:
    """Rows of all processes, sorted by the numbers (N,) that they have."""
    everything = world.gather(rows.contiguous())
    order = world.gather(numbers.to(rows.device)).argsort()
    return everything[order]


def _load(path: Path, text: str) -> Statistics | None:
    """A file that cannot be read costs time only."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["facts"]) != text:
                return None
            tensors = [torch.from_numpy(file[key]) for key in ("mean", "covariance", "features")]
            mean, covariance, features = tensors
            return Statistics(mean, covariance, int(file["num_images"]), features)
    except Exception:
        return None


def _save(path: Path, made: Statistics, text: str) -> None:
    draft = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            draft,
            mean=made.mean.numpy(),
            covariance=made.covariance.numpy(),
            features=made.features.numpy(),
            num_images=np.array(made.num_images),
            facts=np.array(text),
        )
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # the folder may be a file
            draft.unlink()
