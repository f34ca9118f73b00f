"""Features of a frozen image tower, computed once for all epochs and runs.

They depend on the tower (its section and its weights), the images, how these are prepared, and the
precision; a folder of the user's cache is named by the hash of all of that.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.config import ConfigError
from experiments.data.captioned_sets import PairSource
from experiments.data.feature_store import FeatureStore
from experiments.data.order import BatchPlan

AT_A_TIME = 256
"""Images of a forward pass."""


class FrozenFeatures:
    """Features by example number, made at the first use.

    Args:
        source: Of the pairs.
        settings: Of the task.
        prepare: Images as they are loaded to what the tower takes.
        section: Of the model. Another pooling or activation may have the same weights.

    Raises:
        ConfigError: where images are augmented, so that features would change.
    """

    def __init__(
        self,
        source: PairSource,
        settings: Any,
        prepare: Callable[[Tensor], Tensor],
        section: dict[str, Any],
    ) -> None:
        if settings.horizontal_flip:
            raise ConfigError(
                f"task.cache_features=true with task.horizontal_flip={settings.horizontal_flip}: "
                "features of flipped images are others; set one of them to its default"
            )
        self._source, self._settings, self._prepare = source, settings, prepare
        self._tower = json.dumps(_of_image(section), sort_keys=True, default=str)
        self._store: FeatureStore | None = None
        self._first = 0.0

    def begin_at(self, plan: BatchPlan) -> None:
        """Lets each process make other features first."""
        self._first = plan.rank / plan.world_size

    def take(self, model: nn.Module, numbers: Tensor) -> Tensor:
        """Features (N, F) of some examples, on their device.

        Args:
            model: The towers, or what wraps them for several processes.
            numbers: (N,) int64.
        """
        if self._store is None:
            self._store = self._filled(_plain(model))
        return self._store.take(numbers).to(numbers.device)

    @torch.no_grad()
    def _filled(self, towers: Any) -> FeatureStore:
        if any(p.requires_grad for p in towers.image.parameters()):
            raise ConfigError(
                "task.cache_features=true needs a frozen image tower: set "
                "param_groups.frozen=[image.*], or task.cache_features=false"
            )
        device = next(towers.image.parameters()).device
        store = FeatureStore(_folder(self._key(towers.image, device)), self._source.num_train)
        for piece in store.missing(int(self._first * store.num_pieces)):
            numbers = store.numbers_of(piece)
            batches = [numbers[k : k + AT_A_TIME] for k in range(0, len(numbers), AT_A_TIME)]
            images = self._source.train_images(batches, self._settings)
            store.put(
                piece, [towers.image_features(self._prepare(shown.to(device))) for shown in images]
            )
        return store

    def _key(self, tower: nn.Module, device: torch.device) -> str:
        own = getattr(self._source, "train_fingerprint", None)  # features of no others are kept
        fingerprint = own or getattr(self._source, "fingerprint", None)
        if not fingerprint:  # features of other images would be taken for those of these
            raise ConfigError(
                f"task.cache_features=true: {type(self._source).__name__} has no fingerprint that "
                "tells its images from others: give it one, or set task.cache_features=false"
            )
        digest = hashlib.sha256(f"{self._tower}\n".encode())
        for name, tensor in sorted(tower.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        settings = self._settings
        prepared = (settings.crop, settings.interpolation, settings.mean, settings.std)
        shape = tuple(self._source.example_batch(1)[0].shape[1:])
        is_fast = torch.is_autocast_enabled(device.type)
        fast = torch.get_autocast_dtype(device.type) if is_fast else "exact"
        digest.update(repr((fingerprint, prepared, shape, str(fast))).encode())
        return digest.hexdigest()[:20]


def _of_image(section: dict[str, Any]) -> Any:
    """What a model's section says of its image tower, but for what saves memory alone."""
    image = section.get("image", section)
    if not isinstance(image, dict):
        return image
    return {key: value for key, value in image.items() if key != "activation_checkpointing"}


def _plain(model: nn.Module) -> Any:
    """The towers within DistributedDataParallel and torch.compile."""
    found: Any = model
    while not hasattr(found, "image_features"):
        found = getattr(found, "_orig_mod", None) or found.module
    return found


def _folder(key: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lion-experiments" / "features" / key
