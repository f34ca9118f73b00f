"""Only runs that `vmap` can follow, and that differ in no more than a member may, are grouped."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from experiments.config import RunConfig, to_dict
from experiments.sweep import grouping
from experiments.sweep.grouping import likeness, why_alone
from experiments.sweep.vectorised import groups
from run import compose

PLAIN: dict[str, Any] = {
    "model": {"_target_": "tiny.Net", "batch_norm": False, "dropout": 0.0},
    "train__ema_decay": None,
}


def make(**changes: Any) -> RunConfig:
    return tiny.config(Path("nowhere"), **{**PLAIN, **changes})


def test_members_differ_in_lr_decay_betas_and_seed() -> None:
    lion = {"_target_": "lion.Lion", "_partial_": True, "weight_decay": 0.1, "betas": [0.9, 0.99]}
    configs = [
        make(optimizer={**lion, "lr": 1e-3}),
        make(optimizer={**lion, "lr": 1e-2}, seed=1),
        make(optimizer={**lion, "lr": 1e-3}, train__batch_size=32),
        make(optimizer={**lion, "lr": 1e-3, "weight_decay": 1.0, "betas": [0.9, 0.9]}),
        make(optimizer={**lion, "lr": 1e-3}, optimizer_name="lion_single_beta"),
        make(optimizer={"_target_": "torch.optim.AdamW", "lr": 1e-3}),
        make(optimizer={**lion, "lr": 1e-3}, schedule={}),
        make(optimizer={**lion, "lr": 1e-3}, launch__log_every_steps=5),
    ]
    assert groups(configs) == [[0, 3, 4, 1], [2], [5], [6], [7]]
    assert groups([]) == []


def keys_of(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from keys_of(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_runs_that_differ_in_any_other_key_are_not_trained_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One schedule, one norm to clip at, one kind of groups rule all members of a stack."""
    config = make(optimizer={"_target_": "lion.Lion", "lr": 1e-3, "weight_decay": 0.1})
    plain, alone = to_dict(config), likeness(config)
    alike = set()
    for key in keys_of(plain):
        other = copy.deepcopy(plain)
        *path, last = key.split(".")
        section = other
        for part in path:
            section = section[part]
        section[last] = "another"
        monkeypatch.setattr(grouping, "to_dict", lambda _, other=other: other)
        if likeness(config) == alone:
            alike.add(key if path != ["provenance"] else "provenance")
    of_a_member = {"seed", "optimizer.lr", "optimizer.weight_decay"}
    said_alone = {"optimizer_name", "provenance", "results_dir", "launch.progress"}
    assert alike == of_a_member | said_alone


ALONE = {
    "weights are averaged": {"train__ema_decay": 0.9},
    "gradients are accumulated": {"train__micro_batch_size": 4},
    "body.1 keeps running statistics": {"model": {"_target_": "tiny.Net", "dropout": 0.0}},
    "head.1 draws random numbers": {"model": {"_target_": "tiny.Net", "batch_norm": False}},
    "blocks.1.drop_path1 draws random numbers": {
        "model": {
            "_target_": "timm.models.VisionTransformer",
            **{"img_size": [6, 8], "patch_size": 2, "in_chans": 1, "num_classes": 4},
            **{"embed_dim": 8, "depth": 2, "num_heads": 2, "drop_path_rate": 0.1},
        }
    },
    "the loss draws random numbers": {"task__mixup_alpha": 0.2},
    "mixed precision": {"train__precision": "bf16"},
    "train.compile": {"train__compile": True},
    "it is no training run": {"job": "evaluate"},
    "tracking.wandb follows": {"tracking__wandb": "offline"},
    "has no rule": {"optimizer": {"_target_": "lion.HeroLion", "lr": 1e-3}},
    "clip(g, lr)` is not elementwise": {
        "optimizer": {
            "_target_": "experiments.search.export.ProgramOptimizer",
            "lr": 1e-3,
            "path": "raw",
        }
    },
    "model.widht: no such argument": {"model": {"_target_": "tiny.Net", "widht": 3}},
}


@pytest.mark.parametrize("reason", ALONE)
def test_what_cannot_be_stacked_trains_alone(reason: str) -> None:
    configs = [make(seed=seed, **ALONE[reason]) for seed in (0, 1)]
    assert reason in why_alone(configs[0])
    assert groups(configs) == [[0], [1]]


@pytest.mark.parametrize(
    "experiment, is_grouped",
    [
        ("vit_proxy", True),
        ("vit_mnist1d_proxy", True),
        ("mixer_proxy", True),
        ("verses_proxy", True),
        ("resnet_proxy", False),
    ],
)
def test_the_proxies(experiment: str, is_grouped: bool) -> None:
    config = compose([f"experiment={experiment}", "optimizer=lion"])
    assert (why_alone(config) == "") == is_grouped
