"""Which setting wins: the one rule by which every tool here picks, and what it must say with it.

Settings (cells) are compared on the seeds that they share. Those are the seeds of the largest
complete block of runs, seeds x cells, that has two cells and a third of all. So late extra seeds of
a few cells, however many, a seed that was lost, or a grid that was extended with fewer seeds change
neither the pick nor the edge of the grid. A cell that lacks
a shared seed is incomplete: it is named, and cannot win. A cell of which a shared seed diverged
was tried: it cannot win either, but it does belong to the grid, whose edge it may be.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# pyright: reportCallIssue=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.headline import Headline

if TYPE_CHECKING:
    import pandas as pd

TIE_PERCENT = 5e-4
"""Validation means (in %) closer than this are a tie: below lies the rounding of a table."""
TIE = 1e-6
"""The same for other units, as a share of the value."""


@dataclass(frozen=True)
class Pick:
    """The setting that validation picked, and all that a reader must know with it."""

    setting: dict[str, Any]  # key: value; NaN where an optimizer has no such setting
    runs: pd.DataFrame  # its runs on the shared seeds
    seeds: tuple[int, ...]  # that the cells share, and on which they were compared
    mean: float  # of the tuned split over the shared seeds
    edges: tuple[str, ...]  # keys in which it is the smallest or largest of the complete cells
    ties: tuple[dict[str, Any], ...]  # other cells that are as good; the first of all wins
    num_close: int  # other cells whose mean lies within the winner's standard error
    incomplete: tuple[dict[str, Any], ...]  # cells that lack a shared seed
    num_settings: int  # that were tried, incomplete ones included
    num_diverged: int  # runs

    @property
    def remarks(self) -> tuple[str, ...]:
        """What must be said beside the winner; empty where there is nothing."""
        said = []
        if self.ties:
            others = "; ".join(text_of(tie) for tie in self.ties)
            said.append(f"tied with {others}: of equals the first in order is taken")
        if self.incomplete:
            first = text_of(self.incomplete[0])
            seeds = ", ".join(map(str, self.seeds))
            said.append(
                f"{len(self.incomplete)} of {self.num_settings} settings lack a run of the seeds "
                f"{seeds} and could not win, e.g. {first}"
            )
        return tuple(said)


def pick(
    cells: pd.DataFrame,
    keys: Sequence[str],
    headline: Headline,
    axes: Sequence[str] | None = None,
) -> Pick:
    """The best setting by the mean of the tuned split over the shared seeds.

    Args:
        cells: A row per run that is over, of one optimizer under one condition: the columns `keys`,
            seed, state and val (NaN: diverged, or never measured).
        keys: Columns that make a setting. Of equals the smallest value in the first key wins, then
            in the second.
        headline: Says which way is better.
        axes: Keys that have an edge; by default all that are numbers.

    Raises:
        ValueError: where no setting has finished with every shared seed, too few settings share
            a seed, or a seed of a setting is there twice.
    """
    import pandas as pd

    keys = list(keys)
    if cells.duplicated([*keys, "seed"]).any():
        raise ValueError(f"several runs of one setting ({', '.join(keys)}) and seed")
    seeds = shared_seeds(cells, keys)
    if len(cells) and not seeds:
        raise ValueError("too few settings share a seed to compare them")
    on_shared = cells[cells.seed.isin(seeds)]
    value = on_shared.val.where(on_shared.state != "diverged")
    grouped = on_shared.assign(value=value).groupby(keys, dropna=False, sort=True)
    complete = grouped.seed.nunique() == len(seeds)
    means = grouped.value.mean()[complete & (grouped.value.count() == len(seeds))]
    if means.empty:
        raise ValueError("no setting has finished with every seed")
    scores = headline.sign * means
    equal = scores[scores.max() - scores <= _tolerance(headline, scores.max())]
    winner, *ties = [_named(keys, name) for name in equal.index]
    runs = with_setting(on_shared, winner)
    grid = pd.DataFrame([_named(keys, name) for name in complete[complete].index])
    tried = cells.groupby(keys, dropna=False)
    all_cells = [_named(keys, name) for name, _ in tried]
    whole = {_frozen(_named(keys, name)) for name in complete[complete].index}
    incomplete = tuple(cell for cell in all_cells if _frozen(cell) not in whole)
    error = runs.val.sem() if len(runs) > 1 else 0.0
    return Pick(
        setting=winner,
        runs=runs,
        seeds=tuple(seeds),
        mean=float(runs.val.mean()),
        edges=tuple(_edges(grid, winner, keys if axes is None else axes)),
        ties=tuple(ties),
        num_close=int((scores.max() - scores <= error).sum()) - 1,
        incomplete=incomplete,
        num_settings=len(all_cells),
        num_diverged=int((cells.state == "diverged").sum()),
    )


def shared_seeds(cells: pd.DataFrame, keys: Sequence[str]) -> list[int]:
    """The seeds of the largest complete block of seeds x cells; of equal blocks, more seeds.

    Empty where no block has two cells and a third of all: then there is nothing to compare.

    Args:
        cells: A row per run that is over, diverged ones included.
        keys: Columns that make a setting.
    """
    by_cell = [set(own.seed) for _, own in cells.groupby(list(keys), dropna=False)]
    having = {seed: sum(seed in own for own in by_cell) for seed in set(cells.seed)}
    ordered = sorted(having, key=lambda seed: (-having[seed], seed))
    best, most = ordered[:0], 0
    least = min(len(by_cell), max(2, math.ceil(len(by_cell) / 3)))
    for count in range(1, len(ordered) + 1):
        block = set(ordered[:count])
        num_cells = sum(block <= own for own in by_cell)
        if num_cells >= least and num_cells * count >= most:
            best, most = ordered[:count], num_cells * count
    return sorted(best)


def with_setting(table: pd.DataFrame, setting: Mapping[str, Any]) -> pd.DataFrame:
    """Rows of a setting; where it has NaN, rows that have none."""
    for key, value in setting.items():
        table = table.loc[table[key].isna() if value != value else table[key] == value, :]
    return table


def text_of(setting: Mapping[str, Any]) -> str:
    """A setting for people: `lr 0.002, weight_decay 0.3`."""
    said = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in setting.items() if value == value]  # fmt: skip
    return ", ".join(said) or "the only setting"


def _tolerance(headline: Headline, best: float) -> float:
    return TIE_PERCENT if headline.unit == "%" else TIE * abs(best)


def _named(keys: Sequence[str], values: Any) -> dict[str, Any]:
    values = values if isinstance(values, tuple) else (values,)
    return dict(zip(keys, values, strict=True))


def _frozen(setting: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(None if value != value else value for value in setting.values())


def _edges(grid: pd.DataFrame, winner: Mapping[str, Any], axes: Sequence[str]) -> Iterator[str]:
    """Axes in which the winner lies at an end of the complete cells.

    0 as the smallest is no such end (no weight decay, say): there is nothing beyond it to try.
    """
    for key in axes:
        if key not in grid:
            continue
        values = sorted({v for v in grid[key] if _is_number(v)})
        if len(values) > 1 and (winner[key] == values[-1] or 0 != values[0] == winner[key]):
            yield key


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and value == value
