"""Models that cannot be trained together, or only with care."""

from __future__ import annotations

from typing import Any

import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional


class Noisy(tiny.Net):
    """Dropout that no module shows."""

    def forward(self, images: Tensor) -> Tensor:
        return functional.dropout(super().forward(images), 0.2, self.training)


class Counting(tiny.Net):
    """Changes a buffer while it trains."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return super().forward(images)


class Spare(tiny.Net):
    """Has weights that nothing depends on, and some that are tied."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.spare = nn.Parameter(torch.ones(2, 3))
        self.tied = self.head[2].weight

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.tied.sum()
