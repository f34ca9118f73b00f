"""What the notebooks call beside the statistics: a figure as a picture, and the claims."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from experiments.analysis import sources
from experiments.analysis.drawing import figure_style
from experiments.analysis.figures.catalogue import FIGURES
from experiments.analysis.sources import RESULTS
from experiments.analysis.statistics.difference import Difference
from experiments.analysis.text_tables import interval
from experiments.analysis.text_tables import table as table_of
from experiments.store import UserError

if TYPE_CHECKING:
    from IPython.display import Image, Markdown

CLAIM_COLUMNS = [
    "id", "claim_id", "task", "claim", "paper_consistency", "proxy_verdict", "proxy_n",
    "measured_verdict", "paper_scale_verdict", "cost",
]  # fmt: skip
DPI = 64  # so that a notebook stays small; results/figures/ has them larger


def show(name: str, results: Path = RESULTS) -> Image:
    """One figure, drawn from the tables as they are now.

    Raises:
        UserError: for an unknown name.
    """
    from IPython.display import Image

    if name not in FIGURES:
        raise UserError(f"no figure {name!r}; there are {', '.join(FIGURES)}")
    return Image(data=figure_style.png(FIGURES[name].draw(results), DPI), format="png")


def table(name: str, results: Path = RESULTS) -> pd.DataFrame:
    """The tidy numbers behind a figure."""
    return FIGURES[name].table(results)


def claims(results: Path = RESULTS) -> pd.DataFrame:
    """The paper's claims, with our verdict on each where `scripts/claims.py` has written them."""
    if (results / "claims.csv").exists():
        return sources.claims(results).reset_index().filter(CLAIM_COLUMNS)
    return sources.claims(results, with_verdicts=False).filter(CLAIM_COLUMNS)


def claims_table(results: Path = RESULTS) -> pd.DataFrame:
    """results/claims.csv, by claim.

    Raises:
        UserError: where it has not been written.
    """
    return sources.claims(results)


def shown(rows: pd.DataFrame, digits: int = 2) -> Markdown:
    """A table as a reader wants it: rounded, no row numbers, empty where there is nothing."""
    from IPython.display import Markdown

    named = rows.reset_index() if rows.index.name else rows
    cells = [[_said(value, digits) for value in row] for row in named.itertuples(index=False)]
    return Markdown(table_of([str(name).replace("_", " ") for name in named], cells))


def _said(value: object, digits: int) -> str:
    if value is None or value != value:
        return ""
    if not isinstance(value, float):
        return str(value)
    is_fine = 0 < abs(value) < 0.1 or value.is_integer()
    return f"{value:.3g}" if is_fine else f"{value:.{digits}f}"


def say(found: Difference) -> None:
    """Prints a difference of Lion and AdamW with its verdict."""
    reason = f" ({found.reason})" if found.reason else ""
    print(f"Lion - AdamW: {interval(found, 1)} points of test accuracy, n = {found.n} seeds")
    print(f"verdict on Lion: {found.verdict}{reason}")
