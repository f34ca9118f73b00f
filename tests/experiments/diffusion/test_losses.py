"""The losses against closed forms, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from experiments.config import ConfigError
from experiments.diffusion.losses import (
    Objective,
    discretised_log_likelihood,
    normal_kl,
    variational_bound,
)
from experiments.diffusion.noise_schedule import NoiseSchedule

SCHEDULE = NoiseSchedule("cosine", 1000)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_kl_is_that_of_torch() -> None:
    mean, log_variance, other_mean, other_log_variance = draw(4, 100)
    one, other = (
        Normal(mean, (log_variance / 2).exp()),
        Normal(other_mean, (other_log_variance / 2).exp()),
    )
    found = normal_kl(mean, log_variance, other_mean, other_log_variance)
    torch.testing.assert_close(found, kl_divergence(one, other), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("num_levels", [2, 17, 256])
@pytest.mark.parametrize("log_scale", [-4.0, -1.0, 1.0])
def test_probabilities_of_all_levels_sum_to_one(num_levels: int, log_scale: float) -> None:
    levels = torch.linspace(-1, 1, num_levels, dtype=torch.float64)
    for mean in (-1.7, -0.2, 0.9):
        found = discretised_log_likelihood(
            levels, torch.tensor(mean).double(), torch.tensor(log_scale).double(), num_levels
        )
        assert float(found.exp().sum()) == pytest.approx(1.0, abs=1e-9)


def test_probability_of_a_level_is_that_of_its_interval() -> None:
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)
    mean, scale = torch.tensor([0.123, 0.05], dtype=torch.float64)
    normal = Normal(mean, scale)
    found = discretised_log_likelihood(levels, mean, scale.log())
    inner = normal.cdf(levels + 1 / 255) - normal.cdf(levels - 1 / 255)
    near = (levels - mean).abs() < 0.2
    torch.testing.assert_close(found[near], inner[near].log(), rtol=1e-8, atol=1e-8)


def test_tails_keep_their_digits_in_single_precision() -> None:
    """Far above the mean 1 - 1 would be 0; the other tail is the same by symmetry."""
    scale = torch.tensor(math.log(0.1))
    above = discretised_log_likelihood(torch.tensor(3 / 255), torch.tensor(-0.6), scale)
    below = discretised_log_likelihood(torch.tensor(-3 / 255), torch.tensor(0.6), scale)
    exact = discretised_log_likelihood(
        torch.tensor(3 / 255).double(), torch.tensor(-0.6).double(), scale.double()
    )
    assert float(above) == pytest.approx(float(below), rel=1e-6)
    assert float(above) == pytest.approx(float(exact), rel=1e-4)
    assert discretised_log_likelihood(torch.tensor(0.2), torch.tensor(50.0), scale).isfinite()


def test_bound_vanishes_for_the_true_noise_and_the_true_variance() -> None:
    clean, noise = draw(2, 5, 1, 4, 4).clamp(-1, 1)
    times = torch.tensor([1, 2, 100, 500, 999])
    noisy = SCHEDULE.add_noise(clean, noise, times)
    smallest = torch.full_like(clean, -1.0)
    found = variational_bound(SCHEDULE, clean, noisy, times, noise, smallest)
    assert float(found.abs().max()) < 1e-9
    largest = variational_bound(SCHEDULE, clean, noisy, times, noise, -smallest)
    ratio = SCHEDULE.at("posterior_log_variance", times, clean) - SCHEDULE.at(
        "log_beta", times, clean
    )
    expected = 0.5 * (ratio.exp() - 1 - ratio).flatten() / math.log(2)
    torch.testing.assert_close(largest, expected, rtol=1e-9, atol=1e-12)


def test_bound_of_a_wrong_prediction_is_the_squared_error_it_is_known_to_be() -> None:
    """arXiv:2006.11239, eq. 12: beta^2 / (2 sigma^2 alpha (1 - abar)) |eps - prediction|^2."""
    clean, noise, wrong = draw(3, 4, 1, 4, 4, seed=1)
    times = torch.tensor([5, 50, 500, 950])
    noisy = SCHEDULE.add_noise(clean, noise, times)
    found = variational_bound(SCHEDULE, clean, noisy, times, wrong, torch.full_like(clean, -1.0))
    beta = SCHEDULE.betas[times]
    variance = SCHEDULE.at("posterior_log_variance", times, clean).flatten().exp()
    share = SCHEDULE.at("noise", times, clean).flatten() ** 2
    weight = beta**2 / (2 * variance * (1 - beta) * share)
    error = (wrong - noise).square().mean((1, 2, 3))
    torch.testing.assert_close(found * math.log(2), weight * error, rtol=1e-8, atol=1e-12)


def test_bound_of_the_first_step_is_the_surprise_of_the_pixels() -> None:
    """With the true noise the mean is the image, and a variance of 1 means beta."""
    clean = torch.linspace(-1, 1, 256, dtype=torch.float64)[100:116].reshape(1, 1, 4, 4)
    noise, first = draw(1, 1, 4, 4), torch.tensor([0])
    noisy = SCHEDULE.add_noise(clean, noise, first)
    found = variational_bound(SCHEDULE, clean, noisy, first, noise, torch.ones_like(clean))
    beyond = Normal(0.0, 1.0).cdf(-1 / 255 / SCHEDULE.betas[0].sqrt())
    assert float(found) == pytest.approx(-math.log2(1 - 2 * float(beyond)), rel=1e-6)


def test_hybrid_loss_adds_the_bound_and_trains_the_variance_with_it_alone() -> None:
    clean, noise, prediction, variance = draw(4, 3, 2, 4, 4, seed=2)
    times = torch.tensor([0, 10, 800])
    noisy = SCHEDULE.add_noise(clean, noise, times)
    output = torch.cat([prediction, variance], 1).requires_grad_()
    hybrid = Objective(SCHEDULE, learned_variance=True).losses(output, clean, noisy, noise, times)
    simple = Objective(SCHEDULE).losses(prediction, clean, noisy, noise, times)
    bound = variational_bound(SCHEDULE, clean, noisy, times, prediction, variance)
    torch.testing.assert_close(hybrid, simple + 0.001 * 1000 * bound)
    torch.testing.assert_close(simple, (prediction - noise).square().mean((1, 2, 3)))
    hybrid.sum().backward()
    assert output.grad is not None
    expected = 2 * (prediction - noise) / prediction[0].numel()
    torch.testing.assert_close(output.grad[:, :2], expected)
    assert output.grad[:, 2:].abs().sum() > 0


def test_other_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="gives 3 channels for images of 3.*model.out_channels=6"):
        Objective(SCHEDULE, learned_variance=True).split(torch.zeros(1, 3, 2, 2), 3)
    for kind, wanted in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        split, _ = Objective(SCHEDULE).split(torch.zeros(1, 3, 2, 2, dtype=kind), 3)
        assert split.dtype == wanted
