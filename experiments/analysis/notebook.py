"""What the notebooks call beside the statistics: a figure as a picture, and the claims."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from experiments.analysis.drawing import figure_style
from experiments.analysis.figures.catalogue import FIGURES
from experiments.analysis.sources import RESULTS
from experiments.store import UserError

if TYPE_CHECKING:
    from IPython.display import Image

CLAIM_COLUMNS = [
    "id", "claim_id", "task", "claim", "paper_consistency", "proxy_verdict", "proxy_n",
    "measured_verdict", "paper_scale_verdict", "cost",
]  # fmt: skip
DPI = 80  # so that a notebook stays small; results/figures/ has them larger


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
    with_verdicts = results / "claims.csv"
    path = with_verdicts if with_verdicts.exists() else results / "paper" / "claims.csv"
    rows = pd.read_csv(path)
    return rows.filter(CLAIM_COLUMNS)
