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


def test_mean(chosen: Any) -> str:
    return f"{chosen.test_mean:.2f} ± {chosen.test_error:.2f}"
