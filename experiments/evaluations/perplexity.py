"""Cross entropy and perplexity of tokens.

All nats of a split are summed in float64 over all processes and divided once: a mean of means would
weigh short windows as much as long ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from experiments.distributed import World
from experiments.evaluations.evaluation import Measurement

LARGEST = 709.0
"""Nats of which `exp` can be taken."""


class TokenTally:
    """Sums of a split: nats, scored tokens, and what the standard error needs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sums = torch.zeros(6, dtype=torch.float64, device=world.device)

    def add(self, losses: Tensor, is_scored: Tensor) -> None:
        """Takes the nats of a batch.

        Args:
            losses: (B, T).
            is_scored: (B, T) bool.
        """
        nats = torch.where(is_scored, losses, 0.0).sum(1, dtype=torch.float64)
        counts = is_scored.sum(1).double()
        self._sums += torch.stack(
            [
                nats.sum(),
                counts.sum(),
                nats.square().sum(),
                (nats * counts).sum(),
                counts.square().sum(),
                (counts > 0).sum(),
            ]
        )

    def measurements(self, split: str, num_words: int | None = None) -> Iterator[Measurement]:
        """What the processes have together.

        Args:
            split: For the rows.
            num_words: Words behind the tokens; None: nothing is said per word.

        Yields:
            loss (nats per scored token; its standard error treats windows as independent, and of
            one alone is NaN),
            perplexity = exp(loss), and the same per word.
        """
        sums = self._world.sum(self._sums.clone()).tolist()
        nats, tokens, squares, cross, counts, num_windows = sums
        if not tokens:
            return
        loss = nats / tokens
        spread = max(squares - 2 * loss * cross + loss**2 * counts, 0.0)  # NaN stays NaN
        error = math.sqrt(spread) / tokens if num_windows > 1 else math.nan
        yield from _both(split, "", loss, error, int(tokens))
        if num_words:
            yield from _both(
                split, "_per_word", nats / num_words, error * tokens / num_words, num_words
            )


def _both(split: str, suffix: str, loss: float, error: float, n: int) -> Iterable[Measurement]:
    unit = "nats per word" if suffix else "nats per token"
    yield Measurement(split, f"loss{suffix}", loss, unit, n, "lower", error)
    perplexity = math.inf if loss > LARGEST else math.exp(loss)
    name = f"perplexity{suffix}"
    yield Measurement(split, name, perplexity, "", n, "lower", perplexity * error)
