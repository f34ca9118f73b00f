"""Signals for the proxies of pre-training and fine-tuning: what they are, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.config import ConfigError
from experiments.data.bundled_signals import long_signals, many_signals, random_classes
from experiments.data.locate import check_section

FEW: dict[str, Any] = {"num_train": 40, "num_val": 20, "num_test": 60}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("make", "num_classes", "length", "splits"),
    [
        (lambda: random_classes("x", num_classes=20, **FEW), 20, 40, ["train", "val", "test"]),
        (lambda: long_signals("x", 72, **FEW), 10, 72, ["train", "val", "test", "shifted"]),
        (lambda: many_signals("x", **FEW), 10, 40, ["train", "val", "test"]),
    ],
)
def test_splits_are_balanced_standardised_and_made_anew_alike(
    make: Any, num_classes: int, length: int, splits: list[str], tmp_path: Path
) -> None:
    np.random.seed(5)
    data = make()
    assert np.random.rand() == np.random.RandomState(5).rand()  # the global generator is left
    assert list(data.splits) == splits and data.num_classes == num_classes
    sizes = {"train": 40, "val": 20, "test": 60, "shifted": 60}
    for split, (signals, labels) in data.splits.items():
        assert signals.shape == (sizes[split], 1, 1, length)
        assert labels.bincount().tolist() == [sizes[split] // num_classes] * num_classes
        assert abs(float(signals.mean())) < 1e-5 and float(signals.std()) == pytest.approx(1, 1e-2)
    first = data.fingerprint
    assert make().fingerprint == first  # from the cache
    for file in (tmp_path / "lion-experiments").glob("*"):
        file.unlink()
    assert make().fingerprint == first


def test_no_signal_is_in_two_splits_and_the_shifted_ones_are_rougher() -> None:
    data = long_signals("x", 72, **{**FEW, "num_val": 400, "num_test": 400})
    rows = torch.cat([signals.flatten(1) for signals, _ in data.splits.values()])
    assert len(rows.unique(dim=0)) == len(rows)

    def slope(split: str) -> float:
        signals = data.splits[split][0].flatten(1)
        line = torch.linspace(-1, 1, signals.shape[1])
        return float((signals @ line / signals.shape[1]).abs().mean())

    usual = [slope("val"), slope("test")]
    assert max(usual) < 1.05 * min(usual) and slope("shifted") > 1.08 * max(usual)


def test_of_many_signals_only_training_labels_are_redrawn() -> None:
    true, noisy = (many_signals("x", **FEW, label_noise=noise) for noise in (0.0, 0.5))
    assert true.name == "x, 40 signals" and noisy.name == "x, 40 signals, 50 % of labels redrawn"
    for split in FEW:
        (signals, labels), (others, redrawn) = (d.splits[split[4:]] for d in (true, noisy))
        assert torch.equal(signals, others)
        assert (int((labels != redrawn).sum()) > 10) == (split == "num_train")


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (
            "random_classes",
            {"num_train": 10_050},
            "data.num_train=10050: must be a multiple of 100",
        ),
        ("random_classes", {"num_classes": 7, "num_val": 8}, "data.num_val=8: .* multiple of 7"),
        ("random_classes", {"num_classes": 1}, "data.num_classes=1: must be a whole number"),
        ("long_signals", {"num_test": 15}, "data.num_test=15: must be a multiple of 10"),
        ("long_signals", {"length": 2}, "data.length=2: must be"),
    ],
)
def test_sizes_that_cannot_be_are_refused(kind: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_section({"_target_": f"experiments.data.bundled_signals.{kind}", **settings})
