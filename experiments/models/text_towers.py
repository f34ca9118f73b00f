"""Encoders of texts: tokens to one vector of features.

Legend: N texts, T tokens, F features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from experiments.config import ConfigError
from experiments.models.from_transformers import from_config
from experiments.models.rotary_transformer import Block, check_heads, initialise_linears

POOLING = ("mean", "first")


class TransformersTextTower(nn.Module):
    """An encoder of the package transformers, e.g. BertModel, without its pooler.

    Args:
        model_name: Its class.
        pooling: mean (over the tokens that are no padding) | first (a start token's output).
        pad_id: Token that fills up short texts.
        activation_checkpointing: See `from_config`.
        config: Keywords of its configuration class.
    """

    def __init__(
        self,
        model_name: str = "BertModel",
        pooling: str = "mean",
        pad_id: int = 0,
        activation_checkpointing: bool = False,
        **config: Any,
    ) -> None:
        super().__init__()
        self.pooling, self.pad_id = _checked(pooling), pad_id
        self.encoder: Any = from_config(model_name, activation_checkpointing, **config)
        if hasattr(self.encoder, "pooler"):
            self.encoder.pooler = None
        self.num_features = int(self.encoder.config.hidden_size)
        self.vocab_size = int(self.encoder.config.vocab_size)

    def forward(self, tokens_NT: Tensor) -> Tensor:
        """Features (N, F)."""
        seen_NT = tokens_NT != self.pad_id
        output = self.encoder(input_ids=tokens_NT, attention_mask=seen_NT.long())
        return pooled(output.last_hidden_state, seen_NT, self.pooling)


class RotaryTextTower(nn.Module):
    """A small pre-norm transformer with rotary positions that sees both sides.

    Args:
        vocab_size: Tokens.
        width: F, a multiple of twice `num_heads`.
        depth: Blocks.
        num_heads: Of attention.
        pooling: mean (over the tokens that are no padding) | first.
        pad_id: Token that fills up short texts.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int = 64,
        depth: int = 2,
        num_heads: int = 4,
        pooling: str = "mean",
        pad_id: int = 0,
    ) -> None:
        super().__init__()
        check_heads(width, num_heads)
        self.pooling, self.pad_id = _checked(pooling), pad_id
        self.num_features, self.vocab_size = width, vocab_size
        self.embedding = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(Block(width, num_heads, False, 10_000.0) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        initialise_linears(self, depth)
        nn.init.normal_(self.embedding.weight)

    def forward(self, tokens_NT: Tensor) -> Tensor:
        """Features (N, F)."""
        seen_NT = tokens_NT != self.pad_id
        x_NTF = self.embedding(tokens_NT)
        for block in self.blocks:
            x_NTF = block(x_NTF, seen_NT)
        return pooled(self.norm(x_NTF), seen_NT, self.pooling)


def pooled(x_NTF: Tensor, seen_NT: Tensor, pooling: str) -> Tensor:
    """(N, F): the first place, or the mean of those that are seen."""
    if pooling == "first":
        return x_NTF[:, 0]
    weights = seen_NT.to(x_NTF.dtype)[..., None]
    return (x_NTF * weights).sum(1) / torch.clamp(weights.sum(1), min=1)


def _checked(pooling: str) -> str:
    if pooling not in POOLING:
        raise ConfigError(f"model.text.pooling={pooling}: choose one of {', '.join(POOLING)}")
    return pooling
