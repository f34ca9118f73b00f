"""Runs of the two tasks written from outside (see tests/support/outside)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import checkpoint, compose
from experiments.config import RunConfig
from experiments.identity import run_id
from experiments.store import read_rows

PAGES = Path(__file__).resolve().parent / "outside/pages"
TASKS = ("fill_in", "match_halves")
QUIET = ("launch.progress=false", "launch.log_every_steps=1", "checkpoint.every_steps=3")


def config(root: Path, task: str, *changes: str) -> RunConfig:
    words = [f"experiment={task}", f"results_dir={root}", *QUIET, "train.steps=6"]
    return compose.compose([*words, *changes], str(PAGES))


def rows_of(made: RunConfig, metric: str) -> list[dict[str, Any]]:
    path = Path(made.results_dir) / run_id(made) / "metrics.jsonl"
    return [row for row in read_rows(path) if row["metric"] == metric]


def losses(made: RunConfig) -> list[float]:
    return [row["value"] for row in rows_of(made, "loss") if row["split"] == "train"]


def weights(made: RunConfig) -> dict[str, torch.Tensor]:
    found = checkpoint.find_good(Path(made.results_dir) / run_id(made) / "checkpoints")
    assert found is not None
    return checkpoint.load(found)["model"]


def assert_close(one: RunConfig, other: RunConfig) -> None:
    """Losses and weights agree but for rounding. (With SGD: `sign` would blow rounding up.)"""
    assert losses(one) == pytest.approx(losses(other), rel=2e-5)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(other)[name], rtol=1e-3, atol=1e-6)


SGD = ("optimizer=sgd", "optimizer.lr=0.1", "optimizer.momentum=0.9")
STILL = {"fill_in": (), "match_halves": ("+model.dropout=0.0",)}
