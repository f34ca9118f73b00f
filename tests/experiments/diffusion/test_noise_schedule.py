"""The schedules are those of the literature, and their tables follow from the betas."""

from __future__ import annotations

import pytest
import torch

from experiments.config import ConfigError
from experiments.diffusion.noise_schedule import NoiseSchedule, betas


@pytest.mark.parametrize(
    ("name", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")]
)
def test_betas_are_those_of_diffusers(name: str, theirs: str) -> None:
    from diffusers import DDPMScheduler

    expected = DDPMScheduler(num_train_timesteps=1000, beta_schedule=theirs).betas
    torch.testing.assert_close(betas(name, 1000).float(), expected, rtol=1e-4, atol=1e-8)


def test_linear_ends_alike_for_every_length() -> None:
    ends = [
        NoiseSchedule("linear", n).at("signal", torch.tensor([n - 1]), torch.zeros(1, 1, 1, 1))
        for n in (100, 1000, 4000)
    ]
    assert all(0.004 < float(end) < 0.008 for end in ends)


def test_adding_noise_step_by_step_is_adding_it_at_once() -> None:
    """Mean and variance of a product of the single steps, in float64."""
    schedule, mean, variance = NoiseSchedule("cosine", 50), 1.0, 0.0
    like = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    for time, beta in enumerate(schedule.betas.tolist()):
        mean, variance = (1 - beta) ** 0.5 * mean, (1 - beta) * variance + beta
        times = torch.tensor([time])
        assert float(schedule.at("signal", times, like)) == pytest.approx(mean, rel=1e-9)
        assert float(schedule.at("noise", times, like)) ** 2 == pytest.approx(variance, rel=1e-9)


def test_posterior_is_bayes_rule() -> None:
    """q(x_{t-1} | x_t, x_0) from the two normal densities that it is made of."""
    schedule, time = NoiseSchedule("linear", 100), 37
    like = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    beta = float(schedule.betas[time])
    before = torch.tensor([time - 1])
    prior_scale = float(schedule.at("signal", before, like))
    prior_variance = float(schedule.at("noise", before, like)) ** 2
    clean, noisy = 0.3, -0.8
    precision = 1 / prior_variance + (1 - beta) / beta
    mean = (prior_scale * clean / prior_variance + (1 - beta) ** 0.5 * noisy / beta) / precision
    found, log_variance = schedule.posterior(like + clean, like + noisy, torch.tensor([time]))
    assert float(found) == pytest.approx(mean, rel=1e-9)
    assert float(log_variance.exp()) == pytest.approx(1 / precision, rel=1e-9)
    ends = torch.tensor([0, 1])  # of step 0 it is a point: step 1 stands in for its logarithm
    first, second = schedule.posterior(like + clean, like + noisy, ends)[1].flatten()
    assert first == second and second.isfinite()


def test_noise_is_taken_off_again() -> None:
    schedule = NoiseSchedule("cosine", 1000)
    clean, noise = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64).unbind()
    times = torch.tensor([0, 500, 990])
    noisy = schedule.add_noise(clean, noise, times)
    torch.testing.assert_close(schedule.clean_from_noise(noisy, noise, times), clean)


def test_refusals_name_the_remedy() -> None:
    with pytest.raises(ConfigError, match="noise_schedule=sqrt: choose one of linear, cosine"):
        betas("sqrt", 10)
    with pytest.raises(ConfigError, match="num_time_steps=20: linear needs 21 or more"):
        betas("linear", 20)
