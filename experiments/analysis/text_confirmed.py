"""Cells of a table in RESULTS.md for a comparison of two tuned optimizers; see `confirmed`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from experiments.analysis.confirmed import wide_p
from experiments.analysis.drawing.names import name_of
from experiments.analysis.markdown import SAID, interval
from experiments.analysis.statistics.difference import ALPHA, Difference
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


def of_all(found: pd.DataFrame, name: Callable[[Any], str], about: str = "") -> str:
    """What the intervals of the optimizers, which tables give uncorrected, show once corrected.

    Args:
        found: `confirmed.corrected`: what is corrected together.
        name: Of a row, for the sentence.
        about: What the sentence begins with, before a colon.

    Returns:
        Nothing for one question, or where no interval of the optimizers tells two apart.
    """
    is_shown = found.holds.astype(bool)
    if len(found) < 2 or not is_shown.any():
        return ""
    lost = [name(row) for row in found[is_shown & ~(wide_p(found) < ALPHA)].itertuples()]
    total = int(is_shown.sum())
    left = f"{total - len(lost)} of {total}, without {', '.join(lost)}" if lost else "the same"
    begin = f"{about}: the" if about else "The"
    return (
        f"{begin} intervals with the luck of tuning are not corrected for their number; corrected "
        f"(Holm) they would show {left}."
    )
