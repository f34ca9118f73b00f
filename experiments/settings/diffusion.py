"""Settings of diffusion models; see `experiments.tasks.diffusion`. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from experiments.ranges import FLAG, PATH, TREE, check_all, choice, count, number, optional


@dataclass
class SamplingConfig:
    """One way of drawing samples; see `experiments.diffusion.sampler`."""

    sampler: str = "ddim"  # ddim (deterministic) | ddpm
    num_steps: int = 50  # of the sampler
    num_samples: int = 5000
    when: str = "last"  # every | last | asked: when it is due; asked: job=evaluate evaluation=NAME
    guidance: float = 1.0  # 1: none; needs conditions dropped while training
    threshold: float = 0.0  # quantile of dynamic thresholding; 0: clip to [-1, 1]


@dataclass
class JudgeConfig:
    """How models are measured. Nothing here changes which run this is."""

    num_draws: int = 4  # time steps, each with its own noise, per image behind eps_loss
    sampling: dict[str, SamplingConfig | None] = field(default_factory=dict)  # by any name; or null
    extractor: dict[str, Any] = field(default_factory=dict)  # see evaluations.extractors
    num_shown: int = 64  # samples in the picture of each sampling
    cache_dir: str | None = None  # of the reference's statistics; null: the user's cache folder

    def __post_init__(self) -> None:
        check_all(vars(self), JUDGE, "task.judge")


@dataclass
class DiffusionTaskConfig:
    """A diffusion model of images, conditional on their classes."""

    _target_: str = "experiments.tasks.diffusion.Diffusion"
    noise_schedule: str = "cosine"  # cosine | linear
    num_time_steps: int = 1000  # T
    learned_variance: bool = False  # the model gives twice the channels; hybrid loss
    bound_weight: float = 0.001  # of the variational bound in the hybrid loss
    num_levels: int = 256  # values that a pixel can have
    condition_dropout: float = 0.0  # probability of training without the condition
    horizontal_flip: float = 0.5  # probability
    interpolation: str = "bicubic"  # of images from files
    judge: JudgeConfig = field(default_factory=JudgeConfig)


RANGES = {
    "noise_schedule": choice("cosine", "linear"),
    "num_time_steps": count(1, 100_000),
    "learned_variance": FLAG,
    "bound_weight": number(0, 1000),
    "num_levels": count(2, 65_536),
    "condition_dropout": number(0, below=1),
    "horizontal_flip": number(0, 1),
    "interpolation": choice("bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"),
    "judge": TREE,  # see JUDGE
}
"""The values that each setting may have."""
JUDGE = {
    "num_draws": count(1, 100_000),
    "sampling": TREE,  # `experiments.diffusion.sampler` reads each
    "extractor": TREE,
    "num_shown": count(0, 10_000),
    "cache_dir": optional(PATH),
}
"""Those of `judge`."""
