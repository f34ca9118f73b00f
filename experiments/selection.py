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
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from experiments.headline import Headline

if TYPE_CHECKING:
    import pandas as pd

Setting = tuple[Any, ...]
"""Values of the keys; None where an optimizer has no such setting."""
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
    keys = list(keys)
    of_run = _settings(cells, keys)
    tried = _seeds_of(of_run, cells)
    if sum(map(len, tried.values())) < len(cells):
        raise ValueError(f"several runs of one setting ({', '.join(keys)}) and seed")
    seeds = _largest_block(list(tried.values()))
    if len(cells) and not seeds:
        raise ValueError("too few settings share a seed to compare them")
    complete = [setting for setting, own in tried.items() if own.issuperset(seeds)]
    is_shared = cells.seed.isin(seeds).tolist()
    scores = _scores(cells, of_run, is_shared, complete, headline)
    if not scores:
        raise ValueError("no setting has finished with every seed")
    best = max(scores.values())
    close = _tolerance(headline, best)
    winner, *ties = [setting for setting, score in scores.items() if best - score <= close]
    whole = set(complete)
    runs = cells[[own == winner and ok for own, ok in zip(of_run, is_shared, strict=True)]]
    error = float(runs.val.sem()) if len(runs) > 1 else 0.0
    return Pick(
        setting=_named(keys, winner),
        runs=runs,
        seeds=tuple(seeds),
        mean=float(runs.val.mean()),
        edges=tuple(_edges(keys, complete, winner, keys if axes is None else axes)),
        ties=tuple(_named(keys, tie) for tie in ties),
        num_close=sum(best - score <= error for score in scores.values()) - 1,
        incomplete=tuple(_named(keys, setting) for setting in tried if setting not in whole),
        num_settings=len(tried),
        num_diverged=int((cells.state == "diverged").sum()),
    )


def _settings(cells: pd.DataFrame, keys: Sequence[str]) -> list[Setting]:
    """Of each run. In plain Python: a table has some hundred rows, and pandas is slow on few."""
    columns = [[None if v != v else v for v in cells[key].tolist()] for key in keys]
    return list(zip(*columns, strict=True)) if keys else [()] * len(cells)


def _seeds_of(of_run: Sequence[Setting], cells: pd.DataFrame) -> dict[Setting, set[int]]:
    """Each setting's seeds; the settings from the smallest to the largest, without one at last."""
    ordered = sorted(
        set(of_run), key=lambda setting: [(v is None, isinstance(v, str), v) for v in setting]
    )
    tried: dict[Setting, set[int]] = {setting: set() for setting in ordered}
    for setting, seed in zip(of_run, cells.seed.tolist(), strict=True):
        tried[setting].add(seed)
    return tried


def _scores(
    cells: pd.DataFrame,
    of_run: Sequence[Setting],
    is_shared: Sequence[bool],
    complete: Sequence[Setting],
    headline: Headline,
) -> dict[Setting, float]:
    """Means over the shared seeds, larger is better, of the settings that finished with all."""
    values: dict[Setting, list[float]] = {setting: [] for setting in complete}
    finished = cells.val.where(cells.state != "diverged").tolist()
    for setting, ok, value in zip(of_run, is_shared, finished, strict=True):
        if ok and setting in values:
            values[setting].append(value)
    means = {setting: math.fsum(own) / len(own) for setting, own in values.items() if own}
    return {setting: headline.sign * mean for setting, mean in means.items() if mean == mean}


def shared_seeds(cells: pd.DataFrame, keys: Sequence[str]) -> list[int]:
    """The seeds of the largest complete block of seeds x cells; of equal blocks, more seeds.

    Empty where no block has two cells and a third of all: then there is nothing to compare.

    Args:
        cells: A row per run that is over, diverged ones included.
        keys: Columns that make a setting.
    """
    return _largest_block(list(_seeds_of(_settings(cells, keys), cells).values()))


def _largest_block(by_cell: Sequence[set[int]]) -> list[int]:
    having = Counter(seed for own in by_cell for seed in own)
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
    own = [table[k].isna() if value != value else table[k] == value for k, value in setting.items()]
    return table.loc[reduce(and_, own), :] if own else table


def text_of(setting: Mapping[str, Any]) -> str:
    """A setting for people: `lr 0.002, weight_decay 0.3`."""
    said = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in setting.items() if value == value]  # fmt: skip
    return ", ".join(said) or "the only setting"


def _tolerance(headline: Headline, best: float) -> float:
    return TIE_PERCENT if headline.unit == "%" else TIE * abs(best)


def _named(keys: Sequence[str], setting: Setting) -> dict[str, Any]:
    return {k: math.nan if v is None else v for k, v in zip(keys, setting, strict=True)}


def _edges(
    keys: Sequence[str], complete: Sequence[Setting], winner: Setting, axes: Sequence[str]
) -> Iterator[str]:
    """Axes in which the winner lies at an end of the complete cells.

    0 as the smallest is no such end (no weight decay, say): there is nothing beyond it to try.
    """
    for key in axes:
        if key not in keys:
            continue
        place = keys.index(key)
        values = sorted({setting[place] for setting in complete if _is_number(setting[place])})
        own = winner[place]
        if len(values) > 1 and (own == values[-1] or 0 != values[0] == own):
            yield key


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and value == value
