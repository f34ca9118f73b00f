"""Draws images from a diffusion model, with the samplers of diffusers.

Every sample has a generator of its own, so it does not depend on which process draws it. Where an
image is clipped, DDIM steps along the model's own noise, as diffusers does unless told otherwise;
ADM's code derives the noise anew from the clipped image (`ddim_sample` of openai/guided-diffusion).
Source: arXiv:2006.11239 (DDPM), arXiv:2010.02502 (DDIM), arXiv:2207.12598 (guidance),
arXiv:2205.11487, section 2.3 (dynamic thresholding).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from experiments.config import ConfigError
from experiments.diffusion.losses import Objective
from experiments.diffusion.noise_schedule import NoiseSchedule
from experiments.settings.diffusion import SamplingConfig

Predict = Callable[[Tensor, Tensor], Tensor]
"""Noisy images (N, C, H, W) and time steps (N,) to the model's output."""
SAMPLERS = ("ddim", "ddpm")


def read(name: str, section: Mapping[str, Any], num_time_steps: int) -> SamplingConfig:
    """A checked section of `task.judge.sampling`.

    Raises:
        ConfigError: names the key, its value and the remedy.
    """
    place, known = f"task.judge.sampling.{name}", [f.name for f in fields(SamplingConfig)]
    for key in section:
        if key not in known:
            raise ConfigError(f"{place}.{key}: no such key; there are: {', '.join(known)}")
    found = SamplingConfig(**section)
    for key, choices in {"sampler": SAMPLERS, "when": ("every", "last", "asked")}.items():
        if getattr(found, key) not in choices:
            raise ConfigError(f"{place}.{key}={getattr(found, key)}: choose {', '.join(choices)}")
    steps = found.num_steps
    if not isinstance(steps, int) or not 1 <= steps <= num_time_steps or num_time_steps % steps:
        fits = [n for n in range(1, num_time_steps + 1) if num_time_steps % n == 0]
        near = min(fits, key=lambda n: abs(n - steps)) if isinstance(steps, int) else fits[-1]
        raise ConfigError(
            f"{place}.num_steps={steps}: must divide the {num_time_steps} time steps of the "
            f"model, so that sampling begins with pure noise: set {place}.num_steps={near}"
        )
    if not isinstance(found.num_samples, int) or found.num_samples < 4:
        raise ConfigError(f"{place}.num_samples={found.num_samples}: must be 4 or more")
    if not 0 <= found.threshold < 1 or found.guidance < 0:
        raise ConfigError(
            f"{place}: threshold={found.threshold} must lie in [0, 1), guidance={found.guidance} "
            "must not be negative"
        )
    return found


def name_of(sampling: SamplingConfig) -> str:
    """Number of samples and sampler, e.g. 5k_ddim50 or 50k_ddpm1000_g5."""
    number = sampling.num_samples
    text = f"{number // 1000}k" if number % 1000 == 0 else str(number)
    text += f"_{sampling.sampler}{sampling.num_steps}"
    return text if sampling.guidance == 1.0 else f"{text}_g{sampling.guidance:g}"


def sample(
    predict: Predict,
    without: Predict | None,
    objective: Objective,
    sampling: SamplingConfig,
    start: Tensor,
    generators: list[torch.Generator],
) -> Tensor:
    """One image for each generator.

    Args:
        predict: The model with the conditions of these images.
        without: The model without conditions; needed for guidance.
        objective: That it was trained with.
        sampling: How.
        start: Standard normal noise, (N, C, H, W).
        generators: One per image, for the noise of later steps.

    Returns:
        (N, C, H, W) in [-1, 1].
    """
    scheduler = _scheduler(objective.schedule, sampling, objective.learned_variance)
    scheduler.set_timesteps(sampling.num_steps)
    noisy = start
    for time in scheduler.timesteps.tolist():
        times = torch.full((len(noisy),), time, dtype=torch.int64, device=noisy.device)
        noise, variance = objective.split(predict(noisy, times), start.shape[1])
        if sampling.guidance != 1.0:
            assert without is not None, "the task refuses guidance without dropped conditions"
            other, _ = objective.split(without(noisy, times), start.shape[1])
            noise = other + sampling.guidance * (noise - other)
        if sampling.sampler == "ddim":
            noisy = scheduler.step(noise, time, noisy, return_dict=False)[0]
        else:
            output = noise if variance is None else torch.cat([noise, variance], 1)
            noisy = scheduler.step(output, time, noisy, generator=generators, return_dict=False)[0]
    return noisy.clamp(-1, 1)


def _scheduler(schedule: NoiseSchedule, sampling: SamplingConfig, learned_variance: bool) -> Any:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    shared: dict[str, Any] = {
        "num_train_timesteps": schedule.num_steps,
        "trained_betas": schedule.betas.tolist(),
        "clip_sample": sampling.threshold == 0,
        "thresholding": sampling.threshold > 0,
        "dynamic_thresholding_ratio": sampling.threshold or 0.995,
        "sample_max_value": 1e6,  # diffusers' default of 1 would be plain clipping
        "timestep_spacing": "leading",  # every T / n-th step, as ADM's code
    }
    if sampling.sampler == "ddim":
        return DDIMScheduler(**shared)
    return DDPMScheduler(
        **shared, variance_type="learned_range" if learned_variance else "fixed_small"
    )
