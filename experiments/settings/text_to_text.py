"""Settings of text to text; see `experiments.tasks.text_to_text`."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.ranges import TEXT, count, optional


@dataclass
class TextToTextConfig:
    """Answers written by an encoder and a decoder."""

    _target_: str = "experiments.tasks.text_to_text.TextToText"
    judge_by: str = "loss"  # the metric that decides, e.g. loss, accuracy, average
    loss_chunk: int | None = None  # tokens whose logits are held at a time; null: all


RANGES = {"judge_by": TEXT, "loss_chunk": optional(count(1))}
"""The values that each setting may have."""
