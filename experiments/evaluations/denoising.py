"""How well a diffusion model predicts the noise in images that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from experiments.diffusion.draws import stratified_draws
from experiments.diffusion.losses import Objective
from experiments.evaluations.evaluation import Context, Measurement


def denoise(
    predict: Callable[..., Tensor],
    batches: Iterable[tuple[Tensor, tuple[Tensor, ...]]],
    objective: Objective,
    num_draws: int,
    split: str,
    context: Context,
) -> Iterator[Measurement]:
    """Mean squared error of the predicted noise, at time steps and noise fixed per image.

    Args:
        predict: x_t, t and the conditions to the model's output.
        batches: This process's images in [-1, 1], (N, C, H, W), and conditions; number k of
            process r is example k * processes + r.
        objective: That the model was trained with; only its schedule and shape count here.
        num_draws: Time steps, each with noise, per image.
        split: Of the images.
        context: Gives the random numbers of each example.

    Yields:
        eps_loss, with the standard error over the images.
    """
    world, number = context.world, 0
    sums = torch.zeros(3, dtype=torch.float64, device=world.device)
    for images, conditions in batches:
        places = [(number + k) * world.size + world.rank for k in range(len(images))]
        number += len(images)
        generators = [context.generator(place) for place in places]
        shape, num_steps = tuple(images.shape[1:]), objective.schedule.num_steps
        draws = stratified_draws(generators, num_draws, shape, num_steps)
        images, *given = (x.to(world.device) for x in (images, *conditions))
        errors = torch.zeros(len(images), dtype=torch.float64, device=world.device)
        for noise, times in zip(*(d.to(world.device) for d in draws), strict=True):
            noisy = objective.schedule.add_noise(images, noise, times)
            predicted, _ = objective.split(predict(noisy, times, *given), images.shape[1])
            errors += (predicted - noise).square().mean((1, 2, 3)).double() / num_draws
        counted = torch.tensor(len(images), device=world.device)
        sums += torch.stack([errors.sum(), errors.square().sum(), counted.double()])
    total, squares, counted = world.sum(sums).tolist()
    if counted:
        mean = total / counted
        error = (max(squares / counted - mean**2, 0.0) / counted) ** 0.5  # NaN stays NaN
        yield Measurement(split, "eps_loss", mean, "mse", int(counted), "lower", error)
