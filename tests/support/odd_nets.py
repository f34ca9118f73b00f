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


class Louder(tiny.Net):
    """Gives more where several are stacked."""

    def forward(self, images: Tensor) -> Tensor:
        found = super().forward(images)
        return found * 1.1 if _is_stacked(found) else found


class Steeper(tiny.Net):
    """Has another gradient there, and the same loss."""

    def forward(self, images: Tensor) -> Tensor:
        found = super().forward(images)
        return found * 1.1 - (found * 0.1).detach() if _is_stacked(found) else found


def _is_stacked(tensor: Tensor) -> bool:
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


class Spare(tiny.Net):
    """Has weights that nothing depends on, and some that are tied."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.spare = nn.Parameter(torch.ones(2, 3))
        self.tied = self.head[2].weight

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.tied.sum()
