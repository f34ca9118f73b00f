"""Features that are kept: each example has its own, whoever makes them and in what order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.config import ConfigError
from experiments.data import feature_store
from experiments.data.order import BatchPlan
from experiments.tasks import frozen_features
from experiments.tasks.frozen_features import FrozenFeatures

SETTINGS = {"crop": "square", "interpolation": "box", "mean": [0.5], "std": [0.5]}


class Source:
    """Eleven images of one pixel that tells the number; it notes which were read."""

    num_train, fingerprint = 11, "eleven"

    def __init__(self) -> None:
        self.read: list[list[int]] = []

    def example_batch(self, size: int) -> tuple[Tensor]:
        return (torch.empty(size, 1, 1, 1),)

    def train_images(self, batches: Sequence[np.ndarray], settings: Any) -> Iterator[Tensor]:
        for numbers in batches:
            self.read.append(numbers.tolist())
            yield torch.from_numpy(numbers)[:, None, None, None]


class Towers(nn.Module):
    """A feature and its square."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(1, 1).requires_grad_(False)

    def image_features(self, images: Tensor) -> Tensor:
        return torch.stack([images.flatten(), images.flatten() ** 2], 1)


def features(source: Source, flip: float = 0.0) -> FrozenFeatures:
    settings = SimpleNamespace(horizontal_flip=flip, **SETTINGS)
    return FrozenFeatures(source, settings, lambda x: x.float() / 2, {})  # type: ignore[arg-type]


@pytest.mark.parametrize(("rank", "first"), [(0, [0, 1]), (1, [4, 5])])
def test_each_example_has_its_own_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, first: list[int]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(feature_store, "PIECE", 4)
    monkeypatch.setattr(frozen_features, "AT_A_TIME", 2)
    source, towers = Source(), Towers()
    wrapped = SimpleNamespace(module=towers)
    made = features(source)
    made.begin_at(BatchPlan(0, 11, 2, 1, rank, 2))
    for _ in range(2):
        found = made.take(wrapped, torch.tensor([10, 0, 3, 4]))  # type: ignore[arg-type]
        assert found.tolist() == [[5.0, 25.0], [0.0, 0.0], [1.5, 2.25], [2.0, 4.0]]
    assert source.read[0] == first  # processes begin at pieces of their own
    assert sorted(n for row in source.read for n in row) == list(range(11))
    assert max(map(len, source.read)) == 2
    later = Source()
    assert features(later).take(towers, torch.tensor([7])).tolist() == [[3.5, 12.25]]
    assert later.read == []


def test_images_that_nothing_tells_from_others_have_no_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another source of as many images would get them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = Source()
    source.fingerprint = ""
    with pytest.raises(ConfigError, match="Source has no fingerprint that .*cache_features=false"):
        features(source).take(Towers(), torch.tensor([0]))
    assert not list(tmp_path.iterdir())


def test_images_that_change_have_no_features() -> None:
    with pytest.raises(ConfigError, match=r"with task.horizontal_flip=0.5: features of flipped"):
        features(Source(), flip=0.5)


def test_a_tower_that_learns_has_no_features(tmp_path: Path) -> None:
    towers = Towers()
    towers.image.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"set param_groups.frozen=\[image\.\*\]"):
        features(Source()).take(towers, torch.tensor([0]))
