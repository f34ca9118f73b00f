"""What turns images into features, always from a local file whose hash is checked.

Nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.build import build
from experiments.config import ConfigError
from experiments.packages import get
from experiments.pages import script, shipped

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = (
    f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
)
INCEPTION_SHA256_BEGINS = "6726825d"  # the file's name tells it


@dataclass
class Extractor:
    """Features of images, and how to name them.

    `extract` takes uint8 images (N, C, H, W) on the model's device, and gives features (N, D)
    float32 and, where it can classify, logits (N, num_classes).
    """

    prefix: str  # of the metric: fid for the Inception of the literature, else fd
    name: str
    sha256: str  # of the weights
    resize: str
    num_channels: int
    model: nn.Module

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """In float32 whatever the trained model computes in, as the literature's distances."""
        with torch.autocast(images.device.type, enabled=False):
            return self._extract(images)

    def _extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    @property
    def num_classes(self) -> int | None:
        """Of its logits; None: it gives none."""
        return None

    def check_fits(self, shape: tuple[int, ...]) -> None:
        """Refuses images (C, H, W) of another kind or size.

        Raises:
            ConfigError: names both.
        """
        if shape[0] != self.num_channels:
            raise ConfigError(
                f"task.judge.extractor: {self.name} needs images of {self.num_channels} "
                f"channel(s), these have {shape[0]}: choose another extractor or other data"
            )


class _Inception(Extractor):
    def _extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        # torchmetrics resizes with antialiasing unless told otherwise; the literature's does not.
        return self.model(images), None


class _Classifier(Extractor):
    """Of images with pixels in [-1, 1], as task.mean and task.std are unless said otherwise."""

    def _extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        pixels = images.float().div_(127.5).sub_(1.0)
        model: Any = self.model
        features = model.features(pixels)
        return features, model.head(features)

    @property
    def num_classes(self) -> int | None:
        return getattr(self.model.head, "out_features", None)

    @torch.no_grad()
    def check_fits(self, shape: tuple[int, ...]) -> None:
        super().check_fits(shape)
        try:
            self.extract(torch.zeros(1, *shape, dtype=torch.uint8))
        except RuntimeError as error:
            raise ConfigError(
                f"task.judge.extractor: {self.name} does not take images of {shape[1]} x "
                f"{shape[2]}: export a classifier that was trained on such, or choose another size"
            ) from error


def inception(path: str | None = None, sha256: str | None = None) -> Extractor:
    """The Inception network of the FID, 2048 features, as torch-fidelity converted it.

    Args:
        path: Of the weights on this machine.
        sha256: That they must have; None: that of the known file.

    Raises:
        ConfigError: without a path, or for other weights.
    """
    if path is None:
        raise ConfigError(
            f"task.judge.extractor.path is not set: get {INCEPTION_URL} and set "
            "task.judge.extractor.path=/path/to/it, or draw no samples while training: "
            "task.judge.sampling.quick=null"
        )
    found = _checked(path, sha256 or INCEPTION_SHA256_BEGINS)
    found_at = str(Path(path).expanduser())
    try:
        torch.load(found_at, weights_only=True)  # the library would unpickle whatever it is
    except Exception as error:
        reason = " ".join(str(error).split())[:80]
        raise ConfigError(f"task.judge.extractor.path={path}: no weights ({reason})") from error
    try:
        from torchmetrics.image.fid import NoTrainInceptionV3

        model = NoTrainInceptionV3("inception-v3-compat", ["2048"], found_at, antialias=False)
    except ImportError as error:
        raise ConfigError(f"FID: {error}: {get('torchmetrics', 'torch_fidelity')}") from error
    resize = "299x299, bilinear as TensorFlow 1"
    return _Inception("fid", "inception-v3-compat", found, resize, 3, model)


def classifier(path: str | None, model: Mapping[str, Any], sha256: str | None = None) -> Extractor:
    """A classifier of this suite with `features` and `head`; see scripts/extractor.py.

    Args:
        path: Of its weights (safetensors), from here or from the repository's folder.
        model: Section that builds it.
        sha256: That the weights must have.

    Raises:
        ConfigError: without a path, or for other weights.
    """
    from safetensors.torch import load_file

    if path is None:
        raise ConfigError(
            "task.judge.extractor.path is not set: export a trained classifier with "
            f"{script('extractor')}, or draw no samples while training: "
            "task.judge.sampling.quick=null"
        )
    where = Path(shipped(path))
    found = _checked(str(where), sha256 or "")
    built: Any = build(dict(model), "task.judge.extractor.model")
    try:
        built.load_state_dict(load_file(where))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{where} does not fit task.judge.extractor.model: {reason}") from error
    name = type(built).__name__
    return _Classifier("fd", name, found, "none", built.in_chans, built.eval())


def _checked(path: str, wanted: str) -> str:
    """SHA-256 of a file, if it begins as it must."""
    try:
        found = hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"task.judge.extractor.path={path}: {error.strerror}") from error
    if not found.startswith(wanted):
        raise ConfigError(
            f"task.judge.extractor.path={path}: its sha256 is {found[:12]}..., not "
            f"{wanted[:12]}...: distances by other weights cannot be compared; get the right file"
        )
    return found


@torch.no_grad()
def eight_bit(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, as they would be saved."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round_().to(torch.uint8)
