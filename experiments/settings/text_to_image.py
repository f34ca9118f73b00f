"""Settings of text-to-image diffusion; see `experiments.tasks.text_to_image`."""

from __future__ import annotations

from dataclasses import dataclass, field

from experiments.ranges import PATH, TEXT, check_all, count, number, optional
from experiments.settings import diffusion
from experiments.settings.diffusion import JudgeConfig


@dataclass
class ClipConfig:
    """The model behind the CLIP score; see `experiments.evaluations.clip_score`."""

    path: str | None = None  # folder, as transformers saves it; never downloaded
    sha256: str | None = None  # that it must have; the first call tells it

    def __post_init__(self) -> None:
        ranges = {"path": optional(PATH), "sha256": optional(TEXT)}
        check_all(vars(self), ranges, "task.judge.clip")


@dataclass
class TextJudgeConfig(JudgeConfig):
    """How models are measured, their samples against the captions, too."""

    clip: ClipConfig | None = None  # null: no CLIP score


@dataclass
class TextToImageTaskConfig:
    """A diffusion model of images, conditional on their captions and, maybe, on a small copy."""

    _target_: str = "experiments.tasks.text_to_image.TextToImage"
    noise_schedule: str = "cosine"  # cosine | linear
    num_time_steps: int = 1000  # T
    learned_variance: bool = False
    bound_weight: float = 0.001
    num_levels: int = 256  # values that a pixel can have
    condition_dropout: float = 0.1  # probability of training without the caption
    horizontal_flip: float = 0.0  # probability; a caption may say left or right
    interpolation: str = "bicubic"
    low_resolution: int | None = None  # side of the small copy, for super-resolution; null: none
    max_augmentation: float = 1.0  # share of the time steps from which noise on the copy is drawn
    sampling_augmentation: float = 0.1  # the same while sampling
    judge: TextJudgeConfig = field(default_factory=TextJudgeConfig)


RANGES = {
    **diffusion.RANGES,
    "low_resolution": optional(count(1, 100_000)),
    "max_augmentation": number(0, 1),
    "sampling_augmentation": number(0, 1),
}
"""The values that each setting may have."""
