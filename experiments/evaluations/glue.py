"""The metrics of GLUE on answers in words, as T5 computes them.

An answer that is none of a task's labels counts as wrong.
Source: arXiv:1910.10683; its code (google-research/text-to-text-transfer-transformer:
glue_utils.py, postprocessors.py, metrics.py) for the rules on invalid answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from experiments.data.glue_answers import LABELS as LABELS
from experiments.data.glue_answers import class_of, number


def scores(task: str, truth: Sequence[str], given: Sequence[str]) -> dict[str, float]:
    """What GLUE measures of a task.

    Args:
        task: Of `LABELS`.
        truth: True answers.
        given: Answers of a model, as many.

    Returns:
        Name of each metric, as in the paper's table, to a value in %: `default` is accuracy, for
        cola Matthews' correlation; mrpc and qqp have `f1` and `acc`, stsb `pearson` and `spearman`.
    """
    if task == "stsb":
        return _correlations([number(t) for t in truth], [number(g) for g in given])
    labels = LABELS[task]
    true, found = [class_of(t, labels) for t in truth], [class_of(g, labels) for g in given]
    if task == "cola":
        return {"default": matthews(true, found)}
    accuracy = 100.0 * sum(t == g for t, g in zip(true, found, strict=True)) / len(true)
    if task in ("mrpc", "qqp"):
        return {"f1": f1(true, found), "acc": accuracy}
    return {"default": accuracy}


def f1(truth: Sequence[int], given: Sequence[int]) -> float:
    """F1 of class 1, in %; an invalid answer is taken for the opposite of the truth."""
    found = [(t + 1) % 2 if g not in (0, 1) else g for t, g in zip(truth, given, strict=True)]
    hits = sum(t == g == 1 for t, g in zip(truth, found, strict=True))
    both = sum(truth) + sum(found)
    return 200.0 * hits / both if both else 0.0


def matthews(truth: Sequence[int], given: Sequence[int]) -> float:
    """Matthews' correlation, in %; invalid answers are a class of their own. 0 if undefined.

    Source: Gorodkin, Comparing two K-category assignments by a K-category correlation, 2004.
    """
    classes = sorted({*truth, *given})
    place = {label: number for number, label in enumerate(classes)}
    table = np.zeros((len(classes), len(classes)))
    for t, g in zip(truth, given, strict=True):
        table[place[t], place[g]] += 1
    n, true, found = table.sum(), table.sum(1), table.sum(0)
    over = np.trace(table) * n - true @ found
    under = math.sqrt((n**2 - true @ true) * (n**2 - found @ found))
    return 100.0 * float(over / under) if under else 0.0


def accuracy(truth: Sequence[str], given: Sequence[str]) -> dict[str, float]:
    """Share of right answers, and of answers that are right for some example at all, in %."""
    right = sum(t == g for t, g in zip(truth, given, strict=True))
    labels = set(truth)
    valid = sum(g in labels for g in given)
    return {"accuracy": 100.0 * right / len(truth), "valid": 100.0 * valid / len(truth)}


def _correlations(truth: Sequence[float], given: Sequence[float]) -> dict[str, float]:
    from scipy.stats import rankdata

    ranks = rankdata(truth), rankdata(given)
    return {"pearson": _pearson(truth, given), "spearman": _pearson(*ranks)}


def _pearson(one: Sequence[float], other: Sequence[float]) -> float:
    """Pearson's correlation, in %; 0 where either is constant, as no answer could be worse."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return 100.0 * float(np.corrcoef(one, other)[0, 1])
