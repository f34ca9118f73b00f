"""Embeddings of many things, made by all processes together; every process gets all of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from experiments.distributed import World


def share_of(count: int, batch_size: int, world: World) -> list[np.ndarray]:
    """The numbers below `count` that this process takes, in batches."""
    mine = np.arange(world.rank, count, world.size)
    return [mine[first : first + batch_size] for first in range(0, len(mine), batch_size)]


def gathered(parts: Iterable[Tensor], count: int, width: int, world: World) -> Tensor:
    """Rows in the order of their numbers.

    Args:
        parts: This process's rows (n, width), in the order of `share_of`.
        count: Rows in all.
        width: Of a row.
        world: The processes.

    Returns:
        (count, width) float32.
    """
    rows = [part.float() for part in parts]
    own = torch.cat(rows) if rows else torch.zeros(0, width, device=world.device)
    together = world.gather(own)
    places = np.concatenate([np.arange(rank, count, world.size) for rank in range(world.size)])
    found = torch.empty_like(together)
    found[torch.from_numpy(places).to(found.device)] = together
    return found
