"""A proxy of one's own for the program search: a noisy bowl, steep in some directions.

Every array has a leading axis of lanes, and a lane's numbers must not depend on the others.
"""

from __future__ import annotations

import torch

from experiments.search.proxies.families import Family
from experiments.search.proxies.proxy import FRESH, Batch, Layout, Parameter

STEEPNESS = torch.logspace(0, 3, 64)


class Bowl:
    """loss = mean over weights of steepness (w - noise)^2 / 2."""

    name = "bowl"
    layout = Layout((Parameter("w", (64,), std=1.0),))

    def training(self, stream, num_steps):
        generator = torch.Generator().manual_seed(stream)
        noise = 0.1 * torch.randn(num_steps, 1, 64, generator=generator)
        return [Batch(one, torch.zeros(1, 1)) for one in noise]

    def validation(self, window, part):
        seed = 10_000 + 2 * window + (part == FRESH)
        noise = 0.1 * torch.randn(1, 64, generator=torch.Generator().manual_seed(seed))
        return Batch(noise, torch.zeros(1, 1))

    def loss_and_gradient(self, weights, batch):
        away = weights - batch.inputs
        return self.loss(weights, batch), STEEPNESS * away / 64

    def loss(self, weights, batch):
        return (STEEPNESS * (weights - batch.inputs).square() / 2).mean(1)


def bowl():
    return Family(Bowl, lrs=(0.001, 0.01, 0.1), what="a noisy bowl of 64 weights")


def no_family():
    return Bowl()
