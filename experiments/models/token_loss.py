"""Cross entropy of tokens, for big vocabularies without the logits of all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from experiments.config import ConfigError

IGNORED = -100
"""A target that is not scored."""


def logits_of(output: Any) -> Tensor:
    """The logits of a plain module, or of one of transformers."""
    return output if isinstance(output, Tensor) else output.logits


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats of each token, in float32; 0 where the target is `IGNORED`.

    Args:
        logits: (..., V).
        targets: (...) int64.
    """
    flat = logits.float().flatten(0, -2)
    each = functional.cross_entropy(flat, targets.flatten(), reduction="none", ignore_index=IGNORED)
    return each.view(targets.shape)


def mean_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats per scored token, a scalar in float32."""
    flat = logits.float().flatten(0, -2)
    return functional.cross_entropy(flat, targets.flatten(), ignore_index=IGNORED)


class DeferredLinear(nn.Linear):
    """An output layer that hands its input on where told so; `chunked_token_loss` then applies it.

    `defer_output` turns the output layer of a model into one, in place: weights and their names
    stay as they are.
    """

    deferred = False

    def forward(self, input: Tensor) -> Tensor:
        return input if self.deferred else super().forward(input)


def defer_output(model: nn.Module) -> nn.Module:
    """Makes a model's output layer one that can be deferred.

    Raises:
        ConfigError: where the model does not say which layer that is.
    """
    find = getattr(model, "get_output_embeddings", None)
    head = find() if find else None
    if head is None or type(head) not in (nn.Linear, DeferredLinear):
        raise ConfigError(
            f"task.loss_chunk: {type(model).__name__} has no linear output layer "
            "(get_output_embeddings): set task.loss_chunk=null"
        )
    head.__class__ = DeferredLinear
    return model


@contextmanager
def deferred(model: nn.Module) -> Iterator[DeferredLinear]:
    """The output layer of a model, which meanwhile hands its input on."""
    (head,) = (m for m in model.modules() if isinstance(m, DeferredLinear))
    head.deferred = True
    try:
        yield head
    finally:
        head.deferred = False


def chunked_token_loss(hidden: Tensor, head: nn.Linear, targets: Tensor, chunk: int) -> Tensor:
    """Nats per scored token, a scalar; the logits of `chunk` tokens are held at a time.

    They are computed again in the backward pass, which costs one more product with the head. Under
    bf16 the gradient of the head is summed over the chunks in bfloat16: its error was measured as
    0.4 % with 8 of them, 0.7 % with 32 and 2 % with 128, where whole logits have 0.24 %.

    Args:
        hidden: (..., D).
        head: The output layer.
        targets: (...) int64; `IGNORED` ones do not count.
        chunk: Tokens, > 0.
    """
    rows, wanted = hidden.flatten(0, -2), targets.flatten()
    total = torch.zeros((), device=hidden.device)
    for h, t in zip(rows.split(chunk), wanted.split(chunk), strict=True):
        total = total + checkpoint(_summed, h, head.weight, head.bias, t, use_reentrant=False)
    return total / (wanted != IGNORED).sum()


def _summed(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    logits = functional.linear(hidden, weight, bias).float()
    return functional.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORED)
