"""A perceptron with one hidden layer, on MNIST-1D signals or on digits.

Source: data as in `experiments.data.bundled`; shapes are this suite's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.search.proxies.examples import Examples
from experiments.search.proxies.proxy import Batch, Layout, Parameter, cross_entropy, relu_back


class Perceptron:
    """relu(x W1 + b1) W2; no output bias (10 numbers would break the alignment)."""

    def __init__(self, name: str, examples: Examples, num_hidden: int = 32) -> None:
        self.name = name
        self._examples = examples
        self.num_inputs, self.num_hidden = examples.num_inputs, num_hidden
        self.layout = Layout(
            (
                Parameter("hidden", (self.num_inputs, num_hidden), self.num_inputs**-0.5),
                Parameter("bias", (num_hidden,), 0.0),
                Parameter("output", (num_hidden, examples.num_classes), num_hidden**-0.5),
            )
        )

    def training(self, stream: int, num_steps: int) -> Sequence[Batch]:
        """See `Proxy`."""
        return self._examples.training(stream, num_steps)

    def validation(self, window: int, part: str) -> Batch:
        """See `Proxy`."""
        return self._examples.validation(window, part)

    def loss_and_gradient(self, weights: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Proxy`; the derivative is written out, which is twice as quick as autograd."""
        first, bias, second = self.layout.views(weights)
        hidden = torch.baddbmm(bias[:, None], batch.inputs, first).relu_()
        losses, slope = cross_entropy(torch.bmm(hidden, second), batch.targets)
        gradient = torch.empty_like(weights)
        to_first, to_bias, to_second = self.layout.views(gradient)
        to_second.copy_(torch.bmm(hidden.mT, slope))
        back = relu_back(torch.bmm(slope, second.mT), hidden)
        to_first.copy_(torch.bmm(batch.inputs.mT, back))
        to_bias.copy_(back.sum(1))
        return losses, gradient

    def loss(self, weights: Tensor, batch: Batch) -> Tensor:
        """See `Proxy`."""
        first, bias, second = self.layout.views(weights)
        hidden = torch.baddbmm(bias[:, None], batch.inputs, first).relu_()
        return cross_entropy(torch.bmm(hidden, second), batch.targets)[0]
