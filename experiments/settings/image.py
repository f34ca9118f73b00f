"""Settings of image classification; see `experiments.tasks.image`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from experiments.ranges import check_all, choice, count, listed, number


@dataclass
class ImageTaskConfig:
    """Image classification."""

    _target_: str = "experiments.tasks.image.ImageClassification"
    loss: str = "softmax"  # softmax (one class an image) | sigmoid (any number of classes)
    label_smoothing: float = 0.0  # 0..1; softmax, or with Mixup
    mixup_alpha: float = 0.0  # Beta(alpha, alpha) mixing of images; 0: off
    cutmix_alpha: float = 0.0  # 0: off
    randaug_layers: int = 0  # RandAugment operations per image; 0: off
    randaug_magnitude: float = 0.0  # 0..30 in the papers' scale; timm takes 0..10 and beyond
    train_crop: str = "random"  # random (random-resized) | inception (TensorFlow's draw) | centre
    crop_scale_min: float = 0.08  # smallest area fraction of a random crop
    horizontal_flip: float = 0.5  # probability
    max_shift: float = 0.0  # pixels of random translation; this and the next two: data in memory
    max_rotation: float = 0.0  # radians, either way
    max_zoom: float = 0.0  # relative change of size, either way
    eval_crop_fraction: float = 0.875  # centre crop side / resized side (224 / 256)
    interpolation: str = "bicubic"
    mean: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])  # of pixels in 0..1
    std: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])

    def __post_init__(self) -> None:
        """Checks what a task from outside, with pages of its own, is given."""
        check_all(asdict(self), RANGES, "task")


RANGES = {
    "loss": choice("softmax", "sigmoid"),
    "label_smoothing": number(0, 1),
    "mixup_alpha": number(0, 1000),
    "cutmix_alpha": number(0, 1000),
    "randaug_layers": count(0, 100),
    "randaug_magnitude": number(0, 100),
    "train_crop": choice("random", "inception", "centre"),
    "crop_scale_min": number(above=0, most=1),
    "horizontal_flip": number(0, 1),
    "max_shift": number(0, 10_000),
    "max_rotation": number(0, 6.3),
    "max_zoom": number(0, below=1),
    "eval_crop_fraction": number(above=0, most=1),
    "interpolation": choice("bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"),
    "mean": listed(number(), 1, 16),
    "std": listed(number(above=0), 1, 16),
}
"""The values that each setting may have."""
