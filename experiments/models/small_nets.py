"""Nets of a few thousand weights, for the regimes in which every step has to be cheap.

timm and torchvision have none for signals of 40 points. No dropout and no batch norm, so that many
runs can be trained together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def small_mlp(num_inputs: int = 40, width: int = 64, num_classes: int = 10) -> nn.Module:
    """Two hidden layers of a width, GELU; images (N, ...) of num_inputs numbers are flattened."""
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(num_inputs, width), nn.GELU()),
        *(nn.Linear(width, width), nn.GELU()),
        nn.Linear(width, num_classes),
    )


def small_cnn(length: int = 40, channels: int = 16, num_classes: int = 10) -> nn.Module:
    """Three convolutions along a signal, each halving it, and a linear layer; (N, 1, 1, length)."""
    layers: list[nn.Module] = [nn.Flatten(2)]
    for before, kernel in ((1, 5), (channels, 3), (channels, 3)):
        layers += [nn.Conv1d(before, channels, kernel, stride=2, padding=kernel // 2), nn.GELU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * -(-length // 8), num_classes))


class SmallLSTM(nn.Module):
    """An LSTM that reads a signal patch by patch, and a linear layer on its last state.

    torch's cell, unrolled: `torch.func.vmap` has no rule for the fused layer, and these runs are
    to be trained together. The forget gate begins open (bias 1), as is usual.

    Args:
        length: Points of a signal; images are (N, 1, 1, length).
        patch: Points that are read at a time; must divide the length.
        width: Of the state.
        num_classes: Outputs.

    Raises:
        ValueError: a patch that does not divide the length.

    Source: the bias of the forget gate, Jozefowicz et al. (ICML 2015).
    """

    def __init__(
        self, length: int = 40, patch: int = 8, width: int = 32, num_classes: int = 10
    ) -> None:
        super().__init__()
        if length % patch:
            raise ValueError(f"patch={patch} must divide length={length}: take one that does")
        self.patch, self.width = patch, width
        self.cell = nn.LSTMCell(patch, width)
        self.head = nn.Linear(width, num_classes)
        with torch.no_grad():
            self.cell.bias_ih[width : 2 * width] = 1.0
            self.cell.bias_hh[width : 2 * width] = 0.0

    def forward(self, images: Tensor) -> Tensor:
        signals = images.flatten(1)
        hidden = signals.new_zeros(len(signals), self.width)
        cell = hidden
        for patch in signals.split(self.patch, 1):
            hidden, cell = self.cell(patch, (hidden, cell))
        return self.head(hidden)


class BagOfWords(nn.Module):
    """The sum of the vectors of a text's words over the root of their number, and a linear layer.

    Most rows of the embedding have no gradient in most steps, for words are rare.

    Args:
        num_words: Words that are known; they are numbered from 1, and 0 is no word.
        width: Of a vector.
        num_classes: Outputs.
    """

    def __init__(self, num_words: int = 1500, width: int = 8, num_classes: int = 66) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_words + 1, width, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.5)  # common words add up
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of texts (N, 1, 1, words): whole numbers, as floats."""
        words = images.flatten(1).long()
        vectors = self.embedding(words)
        there = (words > 0).to(vectors.dtype).unsqueeze(-1)
        return self.head((vectors * there).sum(1) / there.sum(1).clamp(min=1.0).sqrt())
