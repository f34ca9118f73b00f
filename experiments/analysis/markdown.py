"""Tables and numbers as they stand in README.md and RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from experiments.analysis.statistics.difference import Difference
from experiments.rounded import ends, rounded

SAID = {"better": "Lion is ahead", "worse": "Lion is behind", "inconclusive": "not shown",
        "not tuned": "not tuned"}  # fmt: skip
NO_STUDY = "*(not run yet)*"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def interval(found: Difference, digits: int = 2) -> str:
    """`+0.56 [-1.47, 2.59]`, with a proper minus."""
    text = f"{rounded(found.mean, digits, signed=True)} {ends(found.low, found.high, digits)}"
    return text.replace("-", "−")


def number(value: float, form: str = ".2f") -> str:
    """A value in a cell; a dash where there is none."""
    return "–" if value != value else f"{value:{form}}"


def mean(value: float, error: float, digits: int = 2) -> str:
    """`80.12 ± 0.34`; without an error where one value tells none, a dash without a value."""
    text = number(value, f".{digits}f")
    return text if value != value or error != error else f"{text} ± {error:.{digits}f}"


def test_mean(chosen: Any) -> str:
    return mean(chosen.test_mean, chosen.test_error)
