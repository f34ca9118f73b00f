"""What hangs on a tie: verdicts that another of equally good settings would have turned.

Validation picks, and of equals the first in order is taken. Where another of them gives another
verdict, the text says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from experiments.analysis.markdown import SAID, interval
from experiments.analysis.statistics.comparison import compare_equals
from experiments.analysis.statistics.difference import ALPHA, INCONCLUSIVE, NOT_TUNED, Difference
from experiments.analysis.statistics.uncertainty import holm


def turned(choices: Mapping[str, Sequence[Difference]]) -> dict[str, tuple[Difference, str]]:
    """Comparisons whose verdict another choice among equals turns.

    Args:
        choices: By name the differences of `compare_equals`, the one that is taken first. Holm's
            correction is over the names, the others as they are taken.

    Returns:
        Of each that turns, the choice that is furthest on the other side, by its p, and its verdict
        on Lion.
    """
    names = list(choices)
    taken = [choices[name][0] for name in names]
    now = _verdicts(taken)
    found: dict[str, tuple[Difference, str]] = {}
    for place, name in enumerate(names):
        others = []
        for other in choices[name][1:]:
            verdict = _verdicts([*taken[:place], other, *taken[place + 1 :]])[place]
            others += [(other, verdict)] if verdict != now[place] else []
        if others:
            found[name] = max(others, key=lambda item: _away(now[place], item[0]))
    return found


def _away(verdict: str, other: Difference) -> float:
    """How far from a verdict on Lion another difference is; of what showed nothing, how clear."""
    is_ahead = (other.mean > 0) == (other.better == "higher")
    ahead = (1 - other.p_t) * (1 if is_ahead else -1)
    return {"better": -ahead, "worse": ahead}.get(verdict, abs(ahead))


def _verdicts(found: Sequence[Difference]) -> list[str]:
    asked = [one for one in found if one.verdict != NOT_TUNED]
    p = iter(holm([one.p_t for one in asked]))
    said = []
    for one in found:
        is_lost = one.verdict != NOT_TUNED and next(p) >= ALPHA
        said.append(INCONCLUSIVE if is_lost else one.verdict)
    return said


def of_parts(
    parts: Mapping[str, pd.DataFrame], column: str = "test"
) -> dict[str, list[Difference]]:
    """Lion minus AdamW of several tables, each with all choices among equals."""
    return {name: compare_equals(part, "lion", "adamw", column) for name, part in parts.items()}


def sentence(choices: Mapping[str, Sequence[Difference]], digits: int = 2, unit: str = "") -> str:
    """Which verdicts hang on a tie; empty where none does."""
    lines = [
        f"{name} {interval(found, digits)}{unit}, {SAID[verdict]}{_why(found)}".lstrip()
        for name, (found, verdict) in turned(choices).items()
    ]
    if not lines:
        return ""
    return (
        "Of settings that are equally good on validation the first in order is taken; with another "
        f"of them: {'; '.join(lines)}."
    )


def _why(found: Difference) -> str:
    return f" ({found.reason})" if found.reason else ""
