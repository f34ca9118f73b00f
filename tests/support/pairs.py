"""A contrastive task so small that a whole run takes a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.checks import check
from experiments.config import RunConfig, from_dict
from experiments.data.captioned_sets import InMemoryPairs
from experiments.data.in_memory import InMemoryImages
from experiments.data.tokenizer import WordTokenizer

COLOURS = ("red", "green", "blue", "grey")
PLACES = ("left", "right", "top", "bottom", "middle")


def _drawn(number: int, generator: torch.Generator) -> tuple[torch.Tensor, list[str], torch.Tensor]:
    """Noise with a coloured bar somewhere, what it says in words, and the colour's number."""
    kinds = torch.randint(0, 20, (number,), generator=generator)
    images = 0.3 * torch.randn(number, 3, 5, 5, generator=generator)
    captions = []
    for image, kind in zip(images, kinds.tolist(), strict=True):
        colour, place = divmod(kind, 5)
        channels = [colour] if colour < 3 else [0, 1, 2]
        spot = [(slice(None), 0), (slice(None), 4), (0,), (4,), (2, 2)][place]
        for channel in channels:
            image[(channel, *spot)] += 2.0
        captions.append(f"{COLOURS[colour]} {PLACES[place]}")
    return images, captions, kinds // 5


def bars(name: str = "bars", num_train: int = 96) -> InMemoryPairs:
    """Pairs: 96 to train, 21 and 22 to validate and test."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"train": num_train, "val": 21, "test": 22}
    splits = {split: _drawn(size, generator)[:2] for split, size in sizes.items()}
    return InMemoryPairs(name, splits, WordTokenizer([*COLOURS, *PLACES]), num_tokens=4)


def coloured(name: str = "coloured") -> InMemoryImages:
    """The same kind of images with their colours as classes."""
    generator = torch.Generator().manual_seed(1)
    drawn = {split: _drawn(size, generator) for split, size in (("train", 8), ("test", 23))}
    return InMemoryImages(name, {s: (d[0], d[2]) for s, d in drawn.items()}, num_classes=4)


class Tower(nn.Module):
    """Images to 6 features, with noise or without."""

    def __init__(self, num_features: int = 6, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_features = num_features
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(75, 12), nn.GELU(), nn.Dropout(dropout), nn.Linear(12, 6)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)


class Remembering(Tower):
    """Reads its running statistics while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.norm(super().forward(images))
        return features + self.norm.running_mean


MODEL: dict[str, Any] = {
    "_target_": "experiments.models.two_towers.TwoTowers",
    "image": {"_target_": "pairs.Tower"},
    "text": {
        "_target_": "experiments.models.text_towers.RotaryTextTower",
        "vocab_size": 12,
        "width": 8,
        "depth": 1,
        "num_heads": 2,
    },
    "embed_dim": 6,
    "image_head": False,
}


def config(results_dir: Path, prompts: Path | None = None, **changes: Any) -> RunConfig:
    """A checked configuration; `changes` have dotted keys with __ for the dots."""
    plain: dict[str, Any] = {
        "experiment": "bars",
        "optimizer_name": "sgd",
        "scale": "proxy",
        "task": {"_target_": "experiments.tasks.contrastive.Contrastive"},
        "data": {"_target_": "pairs.bars"},
        "model": {**MODEL, "image": dict(MODEL["image"]), "text": dict(MODEL["text"])},
        "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "momentum": 0.9},
        "train": {"steps": 6, "batch_size": 32},
        "eval": {"batch_size": 8},
        "checkpoint": {"every_steps": 3, "every_seconds": None},
        "launch": {"device": "cpu", "num_threads": 1, "log_every_steps": 1, "progress": False},
        "results_dir": str(results_dir),
    }
    if prompts is not None:
        (prompts / "colours.txt").write_text("\n".join(COLOURS))
        (prompts / "templates.txt").write_text("# two sentences\n{} left\n{} top\n")
        plain["task"]["judge"] = {
            "zero_shot": {
                "colours": {
                    "data": {"_target_": "pairs.coloured"},
                    "classes": str(prompts / "colours.txt"),
                    "templates": str(prompts / "templates.txt"),
                }
            }
        }
    for key, value in changes.items():
        *path, last = key.split("__")
        section = plain
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    result = from_dict(plain)
    check(result)
    return result
