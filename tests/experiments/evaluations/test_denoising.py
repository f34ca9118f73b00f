"""The error of the predicted noise, by hand: of every image alike, with noise of its number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.diffusion.losses import Objective
from experiments.diffusion.noise_schedule import NoiseSchedule
from experiments.distributed import World
from experiments.evaluations.denoising import denoise
from experiments.evaluations.evaluation import Context

OBJECTIVE = Objective(NoiseSchedule("cosine", 40))
SIGNAL = (1 - OBJECTIVE.schedule.betas).cumprod(0).sqrt().float()


def test_a_known_error_is_found_whatever_the_times_and_the_batches() -> None:
    """The model knows the image, and errs by a number of its own on each."""
    clean = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wrong = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0])

    def predict(noisy: Tensor, times: Tensor, image: Tensor, error: Tensor) -> Tensor:
        signal = SIGNAL[times][:, None, None, None]
        noise = (noisy - signal * image) / (1 - signal**2).sqrt()
        return noise + error[:, None, None, None]

    batches = [(clean[part], (clean[part], wrong[part])) for part in (slice(0, 3), slice(3, 5))]
    context = Context(World(0, 1, torch.device("cpu")), seed=1, batch_size=3, step=0)
    (found,) = denoise(predict, batches, OBJECTIVE, 3, "val", context)
    squares = wrong.square()
    assert found.value == pytest.approx(float(squares.mean()), rel=1e-3)
    assert found.error == pytest.approx(float(squares.std(correction=0)) / 5**0.5, rel=1e-3)
    assert (found.metric, found.split, found.n, found.better) == ("eps_loss", "val", 5, "lower")


def test_an_image_has_the_noise_of_its_number_in_any_process() -> None:
    """Of two processes, this one has the second, fourth and sixth image."""
    world: Any = SimpleNamespace(rank=1, size=2, device=torch.device("cpu"), sum=lambda x: x)
    context = Context(world, seed=1, batch_size=2, step=0)
    images = torch.zeros(3, 1, 4, 4)
    zero = lambda noisy, times: torch.zeros_like(noisy)  # noqa: E731
    batches = [(images[:2], ()), (images[2:], ())]
    (found,) = denoise(zero, batches, OBJECTIVE, 2, "val", context)
    squares = []
    for number in (1, 3, 5):
        generator = context.generator(number)
        torch.rand(1, generator=generator)  # where its time steps begin
        squares.append(float(torch.empty(2, 1, 4, 4).normal_(generator=generator).square().mean()))
    assert found.value == pytest.approx(sum(squares) / 3, rel=1e-5) and found.n == 3
    assert list(denoise(zero, [], OBJECTIVE, 2, "val", context)) == []
