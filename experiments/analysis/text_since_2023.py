"""Blocks of RESULTS.md on the optimizers since 2023; see `text_tables`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis import since_2023
from experiments.analysis.drawing.names import name_of
from experiments.analysis.markdown import NO_STUDY, mean, number, table
from experiments.analysis.since_2023 import PAGES, THEIRS
from experiments.analysis.text_confirmed import HEADS, cells, of_all

SAID = {"better": "ahead", "worse": "behind", "inconclusive": "not shown",
        "not tuned": "not tuned"}  # fmt: skip
"""The verdict on an optimizer of the rows."""


def compared(results: Path) -> str:
    """A table for each page: picks, and each optimizer minus AdamW and minus Lion."""
    picks, found = since_2023.picks(results), since_2023.comparisons(results)
    if picks.empty:
        return NO_STUDY
    parts = []
    for page, mine in picks.groupby("experiment", sort=False):
        parts.append(_page(str(page), mine, found[found.experiment == page]))
    if missing := [f"`{page}`" for page in PAGES if page not in set(picks.experiment)]:
        parts.append(f"Not run yet: {', '.join(missing)}.")
    for name in THEIRS:
        mine = found[found.theirs == name]
        about = f"Against {name_of(name)}"
        parts.append(of_all(mine, lambda r: f"{name_of(r.ours)} on `{r.experiment}`", about))
    return "\n\n".join(filter(None, [*parts, _how(picks, found)]))


def _page(page: str, picks: pd.DataFrame, found: pd.DataFrame) -> str:
    unit = picks.unit.iloc[0]
    what = f"{picks.report.iloc[0]} {picks.metric.iloc[0]}"
    against = [f"minus {name_of(name)}, {unit} {HEADS[0]}" for name in THEIRS]
    heads = (f"`{page}`", "lr; weight decay", "validation", f"{what}, mean ± s.e.",
             *(head for first in against for head in (first, *HEADS[1:])), "n")  # fmt: skip
    return table(heads, [_row(pick, found) for pick in picks.itertuples()])


def _row(pick: Any, found: pd.DataFrame) -> tuple[str, ...]:
    digits = int(pick.digits)
    row = [name_of(pick.optimizer), setting(pick), number(pick.val, f".{digits}f")]
    row.append(mean(pick.test, pick.test_error, digits))
    for theirs in THEIRS:
        mine = found[(found.ours == pick.optimizer) & (found.theirs == theirs)]
        gains = [cells(item, digits, SAID) for item in mine.itertuples()]
        row += gains[0] if gains else [""] * len(HEADS)
    return (*row, str(pick.n) if pick.n else "–")


def setting(pick: Any) -> str:
    """Learning rate and weight decay, and whether one of them is on an edge."""
    if pick.lr != pick.lr:
        return "none finished"
    return f"{pick.lr:g}; {pick.weight_decay:g}" + (" (edge)" if pick.on_edge else "")


def _how(picks: pd.DataFrame, found: pd.DataFrame) -> str:
    judged = found[found.verdict.isin(["better", "worse", "inconclusive"])]
    numbers = [f"{(judged.theirs == name).sum()} with {name_of(name)}" for name in THEIRS]
    said = f"Holm's correction is over the comparisons that were judged: {' and '.join(numbers)}."
    lost = picks[picks.num_diverged > 0]
    if len(lost):
        each = (f"{name_of(r.optimizer)} {r.num_diverged:g} (`{r.experiment}`)"
                for r in lost.itertuples())  # fmt: skip
        what = "Settings" if (lost.num_tuning_seeds == 1).all() else "Runs"
        said += f" {what} that diverged while tuning: {', '.join(each)}."
    return said


def cost(results: Path) -> str:
    """Time of a step as a multiple of AdamW's, and bytes of state, for each optimizer."""
    found = since_2023.costs(results)
    if found.empty:
        return NO_STUDY
    models = list(dict.fromkeys(found.model))
    heads = ("", *(f"`{name}`: time of a step / AdamW's [quartiles]" for name in models),
             f"state, bytes a parameter (`{models[-1]}`)")  # fmt: skip
    rows = []
    for name in dict.fromkeys(found.optimizer):
        mine = found[found.optimizer == name].set_index("model")
        times = [_time(mine.loc[model]) if model in mine.index else "–" for model in models]
        last = mine.loc[models[-1]] if models[-1] in mine.index else None
        state = "–" if last is None else f"{last.state_bytes_per_param:.2f}"
        rows.append((name_of(str(name)), *times, state))
    return f"{table(heads, rows)}\n\nOn {since_2023.places(found)}."


def _time(row: Any) -> str:
    if row.ratio == row.ratio_low == row.ratio_high:
        return f"{row.ratio:.3g}"
    return f"{row.ratio:.3g} [{row.ratio_low:.3g}, {row.ratio_high:.3g}]"


BLOCKS: dict[str, Callable[[Path], str]] = {"since_2023": compared, "since_2023_cost": cost}
"""Name of a block -> what makes it."""
