"""A small pre-norm transformer with rotary positions, for text proxies.

The models of transformers cannot take its place here: their learned absolute positions keep a model
this small on the unigram plateau, and their rotary ones build masks from the data, which
`torch.func.vmap` (`launcher=vectorised`) cannot follow, and cost twice the time of a step.

Legend: B sequences, T positions, D width, H heads, K width of a head, V symbols.
Source: arXiv:2104.09864 (rotary positions).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class RotaryTransformer(nn.Module):
    """Token numbers to logits; the output is tied to the embedding.

    Weights start normal with a standard deviation of 1 / sqrt(inputs), the embedding with
    1 / sqrt(width); what writes into the residual is divided by sqrt(2 depth).

    Args:
        vocab_size: Symbols.
        width: A multiple of twice `num_heads`.
        depth: Blocks.
        num_heads: Of attention.
        causal: Whether a position sees only those before it.
        rotary_base: Longest wavelength, in positions over 2 pi.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int = 64,
        depth: int = 2,
        num_heads: int = 4,
        causal: bool = True,
        rotary_base: float = 10_000.0,
    ) -> None:
        super().__init__()
        check_heads(width, num_heads)
        self.embedding = nn.Embedding(vocab_size, width)
        blocks = [Block(width, num_heads, causal, rotary_base) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, vocab_size)
        self.head.weight = self.embedding.weight
        self._initialise(depth)

    def _initialise(self, depth: int) -> None:
        initialise_linears(self, depth, besides=self.head)
        nn.init.normal_(self.embedding.weight, std=self.embedding.embedding_dim**-0.5)
        nn.init.zeros_(self.head.bias)

    def get_input_embeddings(self) -> nn.Embedding:
        """The first layer, under the name that transformers gives it."""
        return self.embedding

    def get_output_embeddings(self) -> nn.Linear:
        """The last layer, likewise."""
        return self.head

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        x_BTD = self.embedding(tokens_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.head(self.norm(x_BTD))


def check_heads(width: int, num_heads: int) -> None:
    """Refuses a width that does not divide into heads of pairs.

    Raises:
        ValueError: names the multiple that it must be.
    """
    if width % (2 * num_heads):
        raise ValueError(f"width={width} must be a multiple of 2 x num_heads={2 * num_heads}")


def initialise_linears(model: nn.Module, depth: int, besides: nn.Module | None = None) -> None:
    """Normal weights of 1 / sqrt(inputs), less where a block writes its result; biases of 0.

    Args:
        model: Whose linear layers.
        depth: Blocks.
        besides: A layer that is left as it is.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not besides:
            std = module.in_features**-0.5
            if name.endswith("out"):
                std /= (2 * depth) ** 0.5
            nn.init.normal_(module.weight, std=std)
            nn.init.zeros_(module.bias)


class Block(nn.Module):
    """Attention and an MLP, each behind a norm and around a residual."""

    def __init__(self, width: int, num_heads: int, causal: bool, rotary_base: float) -> None:
        super().__init__()
        self.num_heads, self.causal, self.rotary_base = num_heads, causal, rotary_base
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def forward(self, x_BTD: Tensor, seen_BT: Tensor | None = None) -> Tensor:
        """(B, T, D); `seen_BT` (bool) leaves out places that nobody looks at."""
        x_BTD = x_BTD + self._attend(self.attention_norm(x_BTD), seen_BT)
        hidden = functional.gelu(self.mlp_in(self.mlp_norm(x_BTD)))
        return x_BTD + self.mlp_out(hidden)

    def _attend(self, x_BTD: Tensor, seen_BT: Tensor | None) -> Tensor:
        size, length, width = x_BTD.shape
        parts = self.qkv(x_BTD).view(size, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q_BHTK, k_BHTK, v_BHTK = parts.unbind(0)
        cos_TK, sin_TK = rotary_table(length, q_BHTK.shape[-1], self.rotary_base, x_BTD)
        mixed_BHTK = functional.scaled_dot_product_attention(
            rotate(q_BHTK, cos_TK, sin_TK),
            rotate(k_BHTK, cos_TK, sin_TK),
            v_BHTK,
            attn_mask=None if seen_BT is None else seen_BT[:, None, None, :],
            is_causal=self.causal,
        )
        return self.attention_out(mixed_BHTK.transpose(1, 2).reshape(size, length, width))


def rotary_table(length: int, width: int, base: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles of each position, each (T, K), in the type of `like`."""
    pairs = torch.arange(width // 2, device=like.device, dtype=torch.float32)
    frequencies = base ** (-2 * pairs / width)
    positions = torch.arange(length, device=like.device, dtype=torch.float32)
    angles = (positions[:, None] * frequencies).repeat(1, 2)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate(x_BHTK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Turns the pairs (k, k + K/2) of each vector by the angle of its position."""
    first, second = x_BHTK.chunk(2, -1)
    return x_BHTK * cos_TK + torch.cat((-second, first), -1) * sin_TK
