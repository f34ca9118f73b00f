"""How much noise is added at each time step, and what follows from it.

Source: arXiv:2006.11239 (linear), arXiv:2102.09672 (cosine).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from experiments.config import ConfigError

SCHEDULES = ("linear", "cosine")


def betas(name: str, num_steps: int) -> Tensor:
    """Share of noise that each step adds; (num_steps,) float64 in (0, 1).

    linear: from 1e-4 to 0.02, times 1000 / T, so that the end is the same for every T.
    cosine: 1 - a(t + 1) / a(t), at most 0.999, with a(t) = cos((t / T + .008) / 1.008 pi / 2)^2.

    Raises:
        ConfigError: unknown name, or too few steps for it.
    """
    if name not in SCHEDULES:
        raise ConfigError(f"task.noise_schedule={name}: choose one of {', '.join(SCHEDULES)}")
    least = 21 if name == "linear" else 1  # below, the largest share would be 1 or more
    if num_steps < least:
        raise ConfigError(f"task.num_time_steps={num_steps}: {name} needs {least} or more")
    if name == "linear":
        scale = 1000 / num_steps
        return torch.linspace(scale * 1e-4, scale * 0.02, num_steps, dtype=torch.float64)
    times = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    kept = torch.cos((times + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - kept[1:] / kept[:-1]).clamp(max=0.999)


class NoiseSchedule:
    """Tables over the time steps 0 ... T-1.

    Args:
        name: linear or cosine.
        num_steps: T.
    """

    def __init__(self, name: str, num_steps: int) -> None:
        self.name, self.num_steps = name, num_steps
        self.betas = betas(name, num_steps)
        kept = torch.cumprod(1 - self.betas, 0)
        before = torch.cat([kept.new_ones(1), kept[:-1]])
        variance = self.betas * (1 - before) / (1 - kept)
        # The first posterior is a point; the second's variance stands in for its logarithm.
        variance = torch.cat([variance[1:2], variance[1:]]) if num_steps > 1 else self.betas
        self._tables = {
            "signal": kept.sqrt(),
            "noise": (1 - kept).sqrt(),
            "posterior_clean": self.betas * before.sqrt() / (1 - kept),
            "posterior_noisy": (1 - before) * (1 - self.betas).sqrt() / (1 - kept),
            "posterior_log_variance": variance.log(),
            "log_beta": self.betas.log(),
        }
        self._on: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def at(self, table: str, times: Tensor, like: Tensor) -> Tensor:
        """Values of a table, (N, 1, 1, 1), on the device and in the type of `like`.

        Args:
            table: signal and noise: x_t = signal x_0 + noise eps; posterior_clean,
                posterior_noisy, posterior_log_variance: q(x_{t-1} | x_t, x_0) has the mean
                clean x_0 + noisy x_t; log_beta.
            times: (N,) int64.
            like: Any tensor with 4 dimensions.
        """
        key = like.device, like.dtype
        if key not in self._on:
            self._on[key] = {name: value.to(*key) for name, value in self._tables.items()}
        return self._on[key][table][times].reshape(-1, *(1 for _ in like.shape[1:]))

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """x_t of x_0 and eps; all (N, C, H, W)."""
        signal, share = (self.at(table, times, clean) for table in ("signal", "noise"))
        return signal * clean + share * noise

    def clean_from_noise(self, noisy: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """x_0 of x_t and eps; all (N, C, H, W)."""
        return (noisy - self.at("noise", times, noisy) * noise) / self.at("signal", times, noisy)

    def posterior(self, clean: Tensor, noisy: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(x_{t-1} | x_t, x_0); the latter (N, 1, 1, 1)."""
        mean = self.at("posterior_clean", times, clean) * clean
        mean = mean + self.at("posterior_noisy", times, noisy) * noisy
        return mean, self.at("posterior_log_variance", times, clean)
