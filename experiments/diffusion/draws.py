"""Noise, time steps and dropped conditions as functions of the seed and a position.

A step's draws do not depend on the number of processes or the size of the micro-batches, and an
evaluation's not on anything but the example: so resuming and measuring again are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.data.order import BatchPlan, derive


@dataclass(frozen=True)
class Draws:
    """Random numbers of some examples."""

    noise: Tensor  # (N, *shape) float32, standard normal
    times: Tensor  # (N,) int64, uniform over 0 ... T-1
    dropped: Tensor  # (N,) bool: whose condition is left out
    generators: list[torch.Generator]  # for what else an example needs


def training_draws(
    plan: BatchPlan,
    step: int,
    micro_number: int,
    shape: tuple[int, ...],
    num_steps: int,
    drop: float,
) -> Draws:
    """Of one micro-batch: each example's follow from its place in the global batch.

    Args:
        plan: Gives seed and sizes.
        step: Optimizer step.
        micro_number: Of the micro-batch within the global batch.
        shape: Of an image, (C, H, W).
        num_steps: T.
        drop: Probability of leaving the condition out.
    """
    first = micro_number * plan.micro_batch_size
    seeds = [
        derive(plan.seed, "diffusion", step, first + place)
        for place in range(plan.micro_batch_size)
    ]
    return _draw([torch.Generator().manual_seed(seed) for seed in seeds], shape, num_steps, drop)


def _draw(
    generators: list[torch.Generator], shape: tuple[int, ...], num_steps: int, drop: float
) -> Draws:
    noise = torch.empty(len(generators), *shape)
    uniform = torch.empty(len(generators), 2)
    for row, generator in enumerate(generators):
        uniform[row].uniform_(generator=generator)
        noise[row].normal_(generator=generator)
    times = (uniform[:, 0] * num_steps).long().clamp_(max=num_steps - 1)
    return Draws(noise, times, uniform[:, 1] < drop, generators)


def stratified_draws(
    generators: list[torch.Generator], num_draws: int, shape: tuple[int, ...], num_steps: int
) -> tuple[Tensor, Tensor]:
    """Several time steps per example, spread evenly over all, with a noise for each.

    Draw k of an example has t = floor(T (k + u) / K), u uniform: over u, every t is as likely.

    Args:
        generators: One per example.
        num_draws: K.
        shape: Of an image.
        num_steps: T.

    Returns:
        noise (K, N, *shape) and times (K, N).
    """
    noise = torch.empty(num_draws, len(generators), *shape)
    starts = torch.empty(len(generators))
    for row, generator in enumerate(generators):
        starts[row : row + 1].uniform_(generator=generator)
        noise[:, row] = torch.empty(num_draws, *shape).normal_(generator=generator)
    places = (torch.arange(num_draws)[:, None] + starts) / num_draws
    return noise, (places * num_steps).long().clamp_(max=num_steps - 1)
