"""What a diffusion model is trained on: the simple loss, and the bound behind learned variances.

Source: arXiv:2006.11239, eq. 14 (simple); arXiv:2102.09672, eqs. 15 and 16 (hybrid).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.config import ConfigError
from experiments.diffusion.noise_schedule import NoiseSchedule

_LEAST_PROBABILITY = 1e-12  # of a pixel's value, so that its logarithm is finite


@dataclass(frozen=True)
class Objective:
    """The loss of a model that predicts the noise.

    simple: mean of (eps - prediction)^2. Hybrid, for models that also interpolate the variance:
    simple + bound_weight T L_t, where L_t is `variational_bound` with the predicted mean held
    fixed, so that it trains the variance alone.
    """

    schedule: NoiseSchedule
    learned_variance: bool = False
    bound_weight: float = 0.001  # of the bound over all T steps, in bits per dimension
    num_levels: int = 256  # values that a pixel can have, evenly over [-1, 1]

    def losses(
        self, output: Tensor, clean: Tensor, noisy: Tensor, noise: Tensor, times: Tensor
    ) -> Tensor:
        """Loss of each example, (N,).

        Args:
            output: Of the model, (N, C, H, W), or (N, 2C, H, W) with the variance.
            clean: x_0 in [-1, 1], (N, C, H, W).
            noisy: x_t, (N, C, H, W).
            noise: eps, (N, C, H, W).
            times: t, (N,) int64.

        Raises:
            ConfigError: where the model has another number of channels.
        """
        prediction, variance = self.split(output, noise.shape[1])
        simple = (prediction - noise).square().mean((1, 2, 3))
        if variance is None:
            return simple
        bound = variational_bound(
            self.schedule, clean, noisy, times, prediction.detach(), variance, self.num_levels
        )
        return simple + self.bound_weight * self.schedule.num_steps * bound

    def split(self, output: Tensor, num_channels: int) -> tuple[Tensor, Tensor | None]:
        """A model's output as noise and, where it is learned, variance; float32 or finer."""
        wanted = num_channels * (1 + self.learned_variance)
        if output.shape[1] != wanted:
            raise ConfigError(
                f"the model gives {output.shape[1]} channels for images of {num_channels}, but "
                f"task.learned_variance={str(self.learned_variance).lower()} needs {wanted}: set "
                f"model.out_channels={wanted}, or the other task.learned_variance"
            )
        output = output if output.dtype == torch.float64 else output.float()
        if not self.learned_variance:
            return output, None
        prediction, variance = output.chunk(2, 1)
        return prediction, variance


def variational_bound(
    schedule: NoiseSchedule,
    clean: Tensor,
    noisy: Tensor,
    times: Tensor,
    predicted_noise: Tensor,
    variance: Tensor,
    num_levels: int = 256,
) -> Tensor:
    """One term of the variational bound per example, (N,), in bits per dimension.

    t > 0: KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)); t = 0: -log p(x_0 | x_1), discretised.
    p has the log variance f log beta + (1 - f) log posterior variance, f = (variance + 1) / 2.

    Args:
        schedule: Of the noise.
        clean: x_0 in [-1, 1], (N, C, H, W).
        noisy: x_t, (N, C, H, W).
        times: t, (N,) int64.
        predicted_noise: (N, C, H, W).
        variance: Of the model, [-1, 1] where it interpolates, (N, C, H, W).
        num_levels: Values that a pixel can have.
    """
    true_mean, true_log_variance = schedule.posterior(clean, noisy, times)
    predicted = schedule.clean_from_noise(noisy, predicted_noise, times)
    mean, _ = schedule.posterior(predicted, noisy, times)
    share = (variance + 1) / 2
    log_variance = share * schedule.at("log_beta", times, clean) + (1 - share) * true_log_variance
    divergence = normal_kl(true_mean, true_log_variance, mean, log_variance)
    surprise = -discretised_log_likelihood(clean, mean, 0.5 * log_variance, num_levels)
    is_first = (times == 0).reshape(-1, 1, 1, 1)
    return torch.where(is_first, surprise, divergence).mean((1, 2, 3)) / math.log(2)


def normal_kl(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Tensor:
    """KL divergence of a normal distribution from another, elementwise, in nats."""
    difference = log_variance - other_log_variance
    distance = (mean - other_mean).square() * torch.exp(-other_log_variance)
    return 0.5 * (torch.exp(difference) - 1.0 - difference + distance)


def discretised_log_likelihood(
    values: Tensor, mean: Tensor, log_scale: Tensor, num_levels: int = 256
) -> Tensor:
    """Log probability, in nats, of the level that each value is, under a normal distribution.

    A level takes what lies nearer to it than to its neighbours; the outermost take the tails.

    Args:
        values: On the levels, evenly over [-1, 1].
        mean: Of the distribution.
        log_scale: Logarithm of its standard deviation.
        num_levels: 2 or more.
    """
    half = 1 / (num_levels - 1)
    centred, precision = values - mean, torch.exp(-log_scale)
    above, below = precision * (centred + half), precision * (centred - half)
    # On the side of the mean where both tails are small, so that their difference keeps its digits.
    flipped = below > 0
    above, below = torch.where(flipped, -below, above), torch.where(flipped, -above, below)
    is_lowest, is_highest = values < -1 + half, values > 1 - half
    upper = torch.where(torch.where(flipped, is_lowest, is_highest), 1.0, _cdf(above))
    lower = torch.where(torch.where(flipped, is_highest, is_lowest), 0.0, _cdf(below))
    return (upper - lower).clamp_min(_LEAST_PROBABILITY).log()


def _cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-x / math.sqrt(2))
