"""Cells of a table in RESULTS.md for a comparison of two tuned optimizers; see `confirmed`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.analysis.drawing.names import name_of
from experiments.analysis.markdown import SAID, interval
from experiments.analysis.statistics.difference import Difference
from experiments.rounded import ends, rounded

HEADS = ("[95 %, at the settings found]", "with the luck of tuning", "p (Holm)", "verdict")
"""Of `cells`; the first goes on after what was subtracted."""


def cells(item: Any, digits: int = 2, said: Mapping[str, str] = SAID) -> tuple[str, str, str, str]:
    """The difference, its interval with the luck of tuning, p, and the verdict in words.

    Args:
        item: A row with `confirmed.COLUMNS`.
        digits: Of the differences.
        said: Words of the verdicts; by default those on Lion.
    """
    return gain(item, digits), wide(item, digits), p(item), verdict(item, said)


def gain(item: Any, digits: int = 2, prefix: str = "") -> str:
    """The difference and its interval, which one seed does not have; `loss_` asks for another."""
    mean, low, high = (getattr(item, f"{prefix}{key}") for key in ("difference", "low", "high"))
    if mean != mean:
        return "–"
    if low != low:
        return rounded(mean, digits, signed=True).replace("-", "−")
    return interval(Difference(mean, low, high, item.n), digits)


def wide(item: Any, digits: int = 2) -> str:
    """The interval of the optimizers."""
    if item.wide_low != item.wide_low:
        return "–"
    return ends(item.wide_low, item.wide_high, digits).replace("-", "−")


def p(item: Any) -> str:
    """Of Student's test, corrected; a dash where nothing was judged."""
    is_told = item.verdict != "not tuned" and item.p_holm == item.p_holm
    return f"{item.p_holm:.2g}" if is_told else "–"


def verdict(item: Any, words: Mapping[str, str] = SAID) -> str:
    """In words: who is on an edge, and whether more than the two settings is told apart."""
    said = str(words.get(item.verdict, item.verdict))
    edges = [name_of(name) for name in str(item.edges).split(", ") if name]
    if item.verdict == "not tuned" and edges:
        return f"{said} ({', '.join(edges)} on an edge)"
    if item.verdict in ("better", "worse") and not item.holds:
        return f"{said}, at these settings"
    return said
