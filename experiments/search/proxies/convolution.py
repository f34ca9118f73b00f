"""Two layers of convolutions and a linear one, on 8x8 digits.

A convolution is a product with patches that are cut out first, so that each lane is one matrix of
a `torch.bmm`. K: lanes, B: images, C: channels.
Source: data as in `experiments.data.bundled`; shapes are this suite's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from experiments.search.proxies.examples import Examples
from experiments.search.proxies.proxy import Batch, Layout, Parameter, cross_entropy

SIDE, KERNEL, STRIDE = 8, 3, 2


class Convolution:
    """conv 3x3 / 2, ReLU, conv 3x3 / 2, ReLU, linear; the derivative is autograd's."""

    def __init__(self, name: str, examples: Examples, channels: int = 16) -> None:
        self.name = name
        self._examples = examples
        area = KERNEL * KERNEL
        after = (SIDE // STRIDE // STRIDE) ** 2
        self.layout = Layout(
            (
                Parameter("first", (area, channels), area**-0.5),
                Parameter("first_bias", (channels,), 0.0),
                Parameter("second", (area * channels, channels), (area * channels) ** -0.5),
                Parameter("second_bias", (channels,), 0.0),
                Parameter("output", (after * channels, 10), (after * channels) ** -0.5),
            )
        )

    def training(self, stream: int, num_steps: int) -> Sequence[Batch]:
        """See `Proxy`."""
        return self._examples.training(stream, num_steps)

    def validation(self, window: int, part: str) -> Batch:
        """See `Proxy`."""
        return self._examples.validation(window, part)

    def loss_and_gradient(self, weights: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Proxy`."""
        with torch.enable_grad():
            leaf = weights.detach().requires_grad_()
            logits = self._logits(leaf, batch)
        losses, slope = cross_entropy(logits.detach().clone(), batch.targets)
        return losses, torch.autograd.grad(logits, leaf, slope)[0]

    def loss(self, weights: Tensor, batch: Batch) -> Tensor:
        """See `Proxy`."""
        return cross_entropy(self._logits(weights, batch), batch.targets)[0]

    def _logits(self, weights: Tensor, batch: Batch) -> Tensor:
        """(K, B, classes)."""
        first, first_bias, second, second_bias, output = self.layout.views(weights)
        lanes, count, _ = batch.inputs.shape
        images = batch.inputs.reshape(lanes * count, 1, SIDE, SIDE)
        x = torch.baddbmm(first_bias[:, None], _patches(images, lanes), first).relu()
        x = x.view(lanes * count, SIDE // STRIDE, SIDE // STRIDE, -1).permute(0, 3, 1, 2)
        x = torch.baddbmm(second_bias[:, None], _patches(x, lanes), second).relu()
        return torch.bmm(x.view(lanes, count, -1), output)


def _patches(images: Tensor, lanes: int) -> Tensor:
    """(K B, C, side, side) to what each place of the output sees, (K, B places, C 9)."""
    cut = functional.unfold(images, KERNEL, padding=1, stride=STRIDE).transpose(1, 2)
    return cut.reshape(lanes, -1, cut.shape[-1])
