"""A task as a page describes it, without the data: shapes are enough to count."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from experiments.build import build
from experiments.config import ConfigError, RunConfig
from experiments.data.caption_tokens import CaptionTokens
from experiments.data.image_text_pairs import ImageTextPairs
from experiments.data.in_memory import InMemoryImages
from experiments.data.order import BatchPlan
from experiments.data.text_pairs import ArrayPairs, TextPairs
from experiments.data.token_windows import TokenWindows
from experiments.tasks.task import Task, check_task

LONGEST_ANSWER = 16
"""Tokens of an answer, as `experiments.data.glue_files` cuts them."""
_HERE = "experiments.planner.stand_ins"
_OF_TEXT = {
    "experiments.data.text_files.TextFiles": f"{_HERE}.BlankWindows",
    "experiments.data.glue_files.GlueFiles": f"{_HERE}.BlankPairs",
}
_OF_PAIRS = {"experiments.data.image_text_pairs.ImageTextPairs": f"{_HERE}.BlankCaptions"}
_MADE = {"experiments.data.bundled_signals.many_signals": f"{_HERE}.BlankSignals"}
STAND_INS = {**_OF_TEXT, **_OF_PAIRS, **_MADE}
"""Sources that read files, if only a tokenizer, when they are built, or take a minute to be made:
what takes their place."""


class _AnyTokenizer:
    """Fits every model."""

    sha256 = ""
    vocab_size = 3
    start_id, eos_id, mask_id = 0, 1, 2

    def __init__(self, pad_id: int = 0) -> None:
        self.pad_id = pad_id


class _BlankStream:
    """Tokens that nobody reads."""

    num_words = None

    def __len__(self) -> int:
        return 2**62

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.zeros(stop - start, np.int64)


class BlankWindows(TokenWindows):
    """Windows of the right length."""

    def __init__(self, name: str, length: int = 512, **_: Any) -> None:
        streams = {"train": _BlankStream(), "val": _BlankStream()}
        super().__init__(name, streams, length, _AnyTokenizer())  # type: ignore[arg-type]


class BlankPairs(TextPairs):
    """Pairs that are as long as they may be."""

    def __init__(self, name: str, max_input: int = 512, **_: Any) -> None:
        pairs = ArrayPairs([], [])
        size = {"max_input": max_input, "max_answer": LONGEST_ANSWER}
        super().__init__(name, pairs, [], _AnyTokenizer(), **size)  # type: ignore[arg-type]


class BlankCaptions(ImageTextPairs):
    """Images and captions of the right sizes.

    Args:
        pad_id: The padding that the model expects.
        section: As of `ImageTextPairs`.
    """

    def __init__(self, pad_id: int = 0, **section: Any) -> None:
        super().__init__(**section)
        tokenizer: Any = _AnyTokenizer(pad_id)
        self.tokens = CaptionTokens(tokenizer, self._num_tokens)


class BlankSignals(InMemoryImages):
    """As many signals of length 40."""

    def __init__(self, name: str, num_train: int = 20_000, **_: Any) -> None:
        signals = torch.zeros(1, 1, 1, 40).expand(num_train, -1, -1, -1)
        super().__init__(name, {"train": (signals, torch.zeros(num_train, dtype=torch.int64))}, 10)


def task_without_data(config: RunConfig) -> Task:
    """The task of a page; files of text need not be there, nor what judges samples.

    Raises:
        ConfigError: for settings that cannot be built.
    """
    data, section = dict(config.data), copy.deepcopy(config.task)
    data["_target_"] = STAND_INS.get(data["_target_"], data["_target_"])
    if config.data["_target_"] in _OF_PAIRS:
        data["pad_id"] = (config.model.get("text") or {}).get("pad_id") or 0
    if section.get("cache_features"):
        raise ConfigError(
            "task.cache_features=true: a step that reads features cannot be counted without them: "
            "plan with task.cache_features=false, whose steps run the frozen tower, too"
        )
    judge = section.get("judge") or {}
    for measured in ("sampling", "zero_shot", "retrieval"):  # evaluations cost no training step
        if measured in judge:
            judge[measured] = {}
    return check_task(build(section, "task", data=data, model=config.model))


def num_steps(config: RunConfig, task: Task) -> int:
    """Optimizer steps of the run.

    Raises:
        ConfigError: where only the data could tell.
    """
    if config.train.steps is not None:
        return config.train.steps
    assert config.train.epochs is not None, "checks refuses it"
    if config.data["_target_"] in _OF_TEXT:
        raise ConfigError(
            f"train.epochs={config.train.epochs}: how long an epoch is, only the text tells: set "
            "train.steps=NUMBER train.epochs=null"
        )
    batch = config.train.batch_size
    plan = BatchPlan(config.seed, task.num_train, batch, batch, 0, 1)
    return max(1, round(config.train.epochs * plan.steps_per_epoch))
