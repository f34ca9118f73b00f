"""Settings of image-text contrastive training; see `experiments.tasks.contrastive`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from experiments.config import ConfigError
from experiments.ranges import FLAG, TEXT, TREE, Range, check_all, choice, listed, number

_WHEN = ("every", "last", "asked")


@dataclass
class ZeroShotConfig:
    """One labelled set of images, classified by the texts of its classes."""

    data: dict[str, Any]  # source of images with labels; left out where its root is null
    templates: str  # file with a template per line, e.g. `a photo of a {}`: a path, or a name of
    # evaluations/prompt_files
    classes: str = ""  # file with a class name per line, likewise; empty: as the data call them
    when: str = "every"  # every | last | asked

    def __post_init__(self) -> None:
        ranges = {"data": TREE, "classes": TEXT, "templates": TEXT, "when": choice(*_WHEN)}
        check_all(vars(self), ranges, "task.judge.zero_shot")


@dataclass
class RetrievalConfig:
    """One set of captioned images beside the splits of the training data."""

    data: dict[str, Any]  # source of captioned images; left out where its root is null
    when: str = "every"  # every | last | asked

    def __post_init__(self) -> None:
        ranges = {"data": TREE, "when": choice(*_WHEN)}
        check_all(vars(self), ranges, "task.judge.retrieval")


@dataclass
class JudgeConfig:
    """How models are measured. Nothing here changes which run this is."""

    metric: str = "i2t_recall1"  # that decides
    tune: str = "val"  # split of it by which settings are picked
    report: str = "test"  # split of it that is reported
    zero_shot: dict[str, Any] = field(default_factory=dict)  # by any name: see ZeroShotConfig
    retrieval: dict[str, Any] = field(default_factory=dict)  # by any name: see RetrievalConfig

    def __post_init__(self) -> None:
        check_all(vars(self), JUDGE, "task.judge")


@dataclass
class ContrastiveTaskConfig:
    """Images and texts that belong together, in one space."""

    _target_: str = "experiments.tasks.contrastive.Contrastive"
    crop: str = "square"  # square (both sides to the size) | centre (of the shorter side)
    horizontal_flip: float = 0.0  # probability; a caption may say left or right
    interpolation: str = "bicubic"
    mean: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])  # of pixels in 0..1
    std: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])
    cache_features: bool = False  # keep a frozen image tower's features on the disk
    judge: JudgeConfig = field(default_factory=JudgeConfig)

    @property
    def eval_crop_fraction(self) -> float:
        """Of the resized image that is seen: all, in training and evaluation alike."""
        return 1.0

    def __post_init__(self) -> None:
        """Checks what a task from outside, with pages of its own, is given."""
        check_all({k: v for k, v in asdict(self).items() if k != "judge"}, RANGES, "task")


RANGES: dict[str, Range] = {
    "crop": choice("square", "centre"),
    "horizontal_flip": number(0, 1),
    "interpolation": choice("bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"),
    "mean": listed(number(), 1, 16),
    "std": listed(number(above=0), 1, 16),
    "cache_features": FLAG,
    "judge": TREE,  # see JUDGE
}
"""The values that each setting may have."""
JUDGE: dict[str, Range] = {
    "metric": TEXT,
    "tune": TEXT,
    "report": TEXT,
    "zero_shot": TREE,
    "retrieval": TREE,
}
"""Those of `judge`."""


def judge_of(section: dict[str, Any]) -> JudgeConfig:
    """The section `judge`, with what it holds by name read and checked.

    Raises:
        ConfigError: for a key that there is not, or a value that cannot be.
    """
    judge = _read(JudgeConfig, section, "task.judge")
    for kind, schema in (("zero_shot", ZeroShotConfig), ("retrieval", RetrievalConfig)):
        found = getattr(judge, kind)
        key = f"task.judge.{kind}"
        read = {n: _read(schema, s, f"{key}.{n}") for n, s in found.items() if s is not None}
        setattr(judge, kind, read)
    return judge


def _read(schema: Any, section: Any, key: str) -> Any:
    if not isinstance(section, dict):
        raise ConfigError(f"{key}={section}: must be a mapping")
    try:
        return schema(**section)
    except TypeError as error:
        fields = ", ".join(schema.__dataclass_fields__)
        raise ConfigError(f"{key}: {error}; there are: {fields}") from error
