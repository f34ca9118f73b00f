"""Which sides of a token a language model sees: a task is about one of them, or about both."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from experiments.config import ConfigError
from experiments.models.token_loss import logits_of

_LENGTH = 8
"""Tokens that are shown."""


def check_causal(model: nn.Module, vocab_size: int) -> None:
    """Refuses a model whose logits change with the tokens behind them.

    Its loss would fall to 0 by reading off what it is to predict: transformers' models of BERT's
    kind see both sides unless told otherwise.

    Args:
        model: As built, in any mode; one without data (on the meta device) is not looked at.
        vocab_size: Of its tokens.

    Raises:
        ConfigError: names keys that make a model causal.
    """
    if sides(model, vocab_size)[1]:
        raise ConfigError(
            "model: what it says of a token changes with the tokens behind it, so it would see "
            "what it is to predict: choose a causal one (model.causal=true, "
            "model.bidirectional=false, model.is_decoder=true), or a page of masked language"
        )


def say_if_causal(model: nn.Module, vocab_size: int) -> None:
    """Says of a model for hidden tokens that it sees what stands before them alone."""
    if sides(model, vocab_size) == (True, False):
        warnings.warn(
            "model: it sees the tokens before a hidden one, and none behind it: "
            "model.bidirectional=true or model.causal=false shows both sides",
            stacklevel=2,
        )


@torch.no_grad()
def sides(model: nn.Module, vocab_size: int) -> tuple[bool, bool]:
    """Whether logits change with another first token, and with another last one.

    False where that cannot be told.
    """
    weight = next(model.parameters(), None)
    if weight is None or any(p.is_meta for p in model.parameters()):
        return False, False
    rows = (torch.arange(_LENGTH, device=weight.device) % vocab_size).repeat(3, 1)
    rows[1, 0], rows[2, -1] = (rows[0, 0] + 1) % vocab_size, (rows[0, -1] + 1) % vocab_size
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        same, first, last = logits_of(model(rows)).float()
    except Exception:  # the first step says what such a model lacks
        return False, False
    finally:
        for part in training:
            part.training = True
    least = 1e-5 * (1 + same.abs().max())
    before, behind = (same - first)[1:].abs().max(), (same - last)[:-1].abs().max()
    return bool(before > least), bool(behind > least)
