"""The answers of GLUE in words, and back.

An answer that is none of a task's labels is invalid.
Source: arXiv:1910.10683 and its code, google-research/text-to-text-transfer-transformer
(glue_utils.py, preprocessors.py, postprocessors.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LABELS: dict[str, tuple[str, ...]] = {
    "cola": ("unacceptable", "acceptable"),
    "sst2": ("negative", "positive"),
    "mrpc": ("not_equivalent", "equivalent"),
    "qqp": ("not_duplicate", "duplicate"),
    "stsb": (),  # a number from 0 to 5
    "mnli": ("entailment", "neutral", "contradiction"),
    "qnli": ("entailment", "not_entailment"),
    "rte": ("entailment", "not_entailment"),
}
"""Words of the labels 0, 1, ... of each task. The paper leaves WNLI out."""
INVALID = -1


def class_of(answer: str, labels: Sequence[str]) -> int:
    """The number of a label; `INVALID` for anything else."""
    return labels.index(answer) if answer in labels else INVALID


def number(answer: str) -> float:
    """The number that an answer is; -1 where it is none."""
    try:
        value = float(answer)
    except ValueError:
        return float(INVALID)
    return value if math.isfinite(value) else float(INVALID)


def similarity(score: float) -> str:
    """A score from 0 to 5 as the answer that T5 is taught: the nearest multiple of 0.2."""
    return f"{float(np.round(np.float32(score) * np.float32(5)) / np.float32(5)):.1f}"
