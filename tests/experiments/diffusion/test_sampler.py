"""Samplers draw what a perfect model knows, in any company; what they cannot do is one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.config import ConfigError
from experiments.diffusion.losses import Objective
from experiments.diffusion.noise_schedule import NoiseSchedule
from experiments.diffusion.sampler import name_of, read, sample
from experiments.settings.diffusion import SamplingConfig

MEAN, DEVIATION = 0.2, 0.1


def perfect(schedule: NoiseSchedule, mean: float = MEAN, variance: bool = False):
    """E[eps | x_t] where the data are normal: known in closed form."""

    def predict(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        signal, noise = (schedule.at(t, times, noisy) for t in ("signal", "noise"))
        spread = signal**2 * DEVIATION**2 + noise**2
        found = noise * (noisy - signal * mean) / spread
        return torch.cat([found, torch.full_like(found, -1.0)], 1) if variance else found

    return predict


def drawn(sampling: SamplingConfig, number: int = 3000, variance: bool = False) -> torch.Tensor:
    objective = Objective(NoiseSchedule("cosine", 200), learned_variance=variance)
    generators = [torch.Generator().manual_seed(k) for k in range(number)]
    start = torch.stack([torch.randn(1, 1, 1, generator=g) for g in generators])
    predict = perfect(objective.schedule, variance=variance)
    return sample(predict, None, objective, sampling, start, generators)


@pytest.mark.parametrize(
    ("sampler", "steps", "variance"),
    [("ddim", 50, False), ("ddpm", 200, False), ("ddpm", 200, True), ("ddim", 50, True)],
)
def test_samples_have_the_distribution_of_the_data(
    sampler: str, steps: int, variance: bool
) -> None:
    number = 3000 if sampler == "ddim" else 600
    found = drawn(SamplingConfig(sampler, steps), number, variance)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.015)
    assert float(found.std()) == pytest.approx(DEVIATION, abs=0.015)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_sample_does_not_depend_on_its_company(sampler: str) -> None:
    sampling = SamplingConfig(sampler, 20)
    torch.testing.assert_close(drawn(sampling, 9)[:4], drawn(sampling, 4), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_time_steps_are_every_so_manieth_down_to_0(sampler: str) -> None:
    objective, seen = Objective(NoiseSchedule("cosine", 200)), []

    def predict(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        seen.append(times.tolist())
        return torch.zeros_like(noisy)

    start, generators = torch.zeros(2, 1, 1, 1), [torch.Generator() for _ in range(2)]
    sample(predict, None, objective, SamplingConfig(sampler, 5), start, generators)
    assert seen == [[time, time] for time in (160, 120, 80, 40, 0)]


def test_guidance_moves_away_from_the_unconditional() -> None:
    objective = Objective(NoiseSchedule("cosine", 200))
    generators = [torch.Generator().manual_seed(k) for k in range(200)]
    start = torch.stack([torch.randn(1, 1, 1, generator=g) for g in generators])
    here, there = perfect(objective.schedule), perfect(objective.schedule, mean=0.0)
    means = [
        float(
            sample(
                here, there, objective, SamplingConfig("ddim", 50, guidance=g), start, generators
            ).mean()
        )
        for g in (0.0, 1.0, 2.0)
    ]
    assert means == pytest.approx([0.0, MEAN, 2 * MEAN], abs=0.04)


def test_dynamic_thresholding_scales_where_clipping_cuts() -> None:
    """Of a predicted image beyond [-1, 1] the ratios of pixels survive."""
    objective = Objective(NoiseSchedule("cosine", 200))
    goal = torch.tensor([[[[0.5, 1.0], [1.5, 3.0]]]])

    def predict(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        signal, noise = (objective.schedule.at(t, times, noisy) for t in ("signal", "noise"))
        return (noisy - signal * goal) / noise

    generators = [torch.Generator().manual_seed(0)]
    start = torch.randn(1, 1, 2, 2, generator=generators[0])
    clipped, scaled = (
        sample(predict, None, objective, SamplingConfig("ddim", 20, threshold=q), start, generators)
        for q in (0.0, 0.99)
    )
    torch.testing.assert_close(clipped, goal.clamp(-1, 1), rtol=0, atol=0.02)
    quantile = float(goal.flatten().quantile(0.99))
    torch.testing.assert_close(scaled, goal.clamp(max=quantile) / quantile, rtol=0, atol=0.02)


def test_a_predicted_image_is_clipped_before_the_next_step() -> None:
    """Of two steps the first predicts an image of 3, taken as 1; the second takes away 0.5."""
    objective = Objective(NoiseSchedule("cosine", 200))
    signal = (1 - objective.schedule.betas).cumprod(0).sqrt()
    noise = (1 - signal**2).sqrt()
    eps = -3 * signal[100] / noise[100]

    def predict(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        is_last = int(times[0]) == 0
        return torch.full_like(noisy, float(0.5 * signal[0] / noise[0] if is_last else eps))

    start, generators = torch.zeros(1, 1, 1, 1), [torch.Generator()]
    found = sample(predict, None, objective, SamplingConfig("ddim", 2), start, generators)
    assert float(found) == pytest.approx(0.5 + float(noise[0] / signal[0] * eps), abs=1e-4)


def by_hand(
    predict: Any, without: Any, objective: Objective, sampling: SamplingConfig, x: Tensor, seed: int
) -> Tensor:
    """The papers' formulas in float64, for one image."""
    schedule, generator = objective.schedule, torch.Generator().manual_seed(seed)
    kept = torch.cumprod(1 - schedule.betas, 0)
    times = range(0, schedule.num_steps, schedule.num_steps // sampling.num_steps)[::-1]
    x = x.double()
    for time, before in zip(times, [*times[1:], None], strict=True):
        now, then = kept[time], torch.ones(()).double() if before is None else kept[before]
        at = torch.tensor([time])
        eps, v = objective.split(predict(x.float(), at).double(), 1)
        other, _ = objective.split(without(x.float(), at).double(), 1)
        v = torch.tensor(-1.0) if v is None else v  # the posterior's
        eps = other + sampling.guidance * (eps - other)
        clean = (x - (1 - now).sqrt() * eps) / now.sqrt()
        most = clean.abs().flatten().quantile(sampling.threshold).clamp(min=1)
        clean = clean.clamp(-most, most) / most
        if sampling.sampler == "ddim":
            x = then.sqrt() * clean + (1 - then).sqrt() * eps
            continue
        beta = 1 - now / then
        x = then.sqrt() * beta * clean + (now / then).sqrt() * (1 - then) * x
        x = x / (1 - now)
        if before is not None:
            log_variance = (1 + v) / 2 * beta.log()
            log_variance += (1 - v) / 2 * (beta * (1 - then) / (1 - now)).log()
            noise = torch.randn(x.shape[1:], generator=generator)[None].double()
            x = x + (log_variance / 2).exp() * noise
    return x.clamp(-1, 1)


@pytest.mark.parametrize("steps", [10, 200])
@pytest.mark.parametrize(
    ("sampler", "is_learned"), [("ddim", True), ("ddpm", True), ("ddpm", False)]
)
def test_steps_are_the_papers_formulas(sampler: str, steps: int, is_learned: bool) -> None:
    """With guidance, thresholds and either variance, at every step or at every so-manieth."""
    objective = Objective(NoiseSchedule("cosine", 200), learned_variance=is_learned)
    torch.manual_seed(0)
    nets = [torch.nn.Conv2d(1, 1 + is_learned, 3, padding=1) for _ in range(2)]

    def told(net: torch.nn.Module) -> Any:
        return lambda x, t: torch.tanh(3 * net(x)) * (1 + t.view(-1, 1, 1, 1) / 200)

    sampling = SamplingConfig(sampler, steps, guidance=2.0, threshold=0.9)
    start, seeds = torch.randn(3, 1, 5, 5), range(3)
    generators = [torch.Generator().manual_seed(k) for k in seeds]
    with torch.no_grad():
        found = sample(*map(told, nets), objective, sampling, start, generators)
        for row, x, seed in zip(found, start, seeds, strict=True):
            wanted = by_hand(*map(told, nets), objective, sampling, x[None], seed)
            torch.testing.assert_close(row[None], wanted.float(), rtol=0, atol=3e-4)


def test_names_say_number_and_sampler() -> None:
    assert name_of(SamplingConfig()) == "5k_ddim50"
    assert name_of(SamplingConfig("ddpm", 1000, 50_000)) == "50k_ddpm1000"
    assert name_of(SamplingConfig("ddim", 20, 500, guidance=1.5)) == "500_ddim20_g1.5"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"num_steps": 600}, "num_steps=600: must divide the 1000 time steps.*num_steps=500"),
        ({"num_steps": 2000}, "num_steps=2000: must divide.*num_steps=1000"),
        ({"num_steps": 0}, "num_steps=0: must divide"),
        ({"sampler": "heun"}, "sampler=heun: choose ddim, ddpm"),
        ({"when": "often"}, "when=often: choose every, last, asked"),
        ({"num_samples": 3}, "num_samples=3: must be 4 or more"),
        ({"steps": 3}, "steps: no such key; there are: sampler, num_steps"),
        ({"threshold": 1.0}, "threshold=1.0 must lie in"),
    ],
)
def test_what_a_sampler_cannot_do_is_refused(section: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"task\.judge\.sampling\.quick.*{said}"):
        read("quick", section, 1000)
