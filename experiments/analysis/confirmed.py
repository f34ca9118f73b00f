"""Two tuned optimizers on seeds that did not pick their settings: the rule of every such table.

Where the picks were trained again with fresh seeds, these are compared. Without them, and where the
settings of each share `MIN_TUNING_SEEDS` or more, the tuning runs are: one seed is left out of each
pick, and reports it.
"""

# pyright: reportArgumentType=false, reportReturnType=false, reportAttributeAccessIssue=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis.statistics.comparison import (
    SETTING,
    Chosen,
    choose,
    held_out_pairs,
    resolution_of,
)
from experiments.analysis.statistics.difference import (
    ALPHA,
    INCONCLUSIVE,
    NOT_TUNED,
    Difference,
    of_pairs,
)
from experiments.analysis.statistics.tuning_luck import of_optimizers, p_of_optimizers
from experiments.analysis.statistics.uncertainty import holm
from experiments.headline import of_table
from experiments.pages import script
from experiments.store import UserError

DIVERGED, UNTESTED = "diverged", "not run"
MIN_TUNING_SEEDS = 3
FRESH, LEFT_OUT = "fresh", "left out"
COLUMNS = (
    *("ours", "theirs", "ours_mean", "ours_error", "theirs_mean", "theirs_error", "difference"),
    *("low", "high", "wide_low", "wide_high", "n", "p_holm", "verdict", "holds", "edges", "seeds"),
)


def judged(
    tuning: pd.DataFrame,
    fresh: pd.DataFrame | None,
    ours: str,
    theirs: str,
    column: str = "test",
    *,
    has_own_n: bool = False,
    more_edges: tuple[str, ...] = (),
    picked: Sequence[Chosen] | None = None,
) -> dict[str, Any]:
    """One comparison, before any correction for others (`corrected`).

    Args:
        tuning: The runs of which validation picks a setting for each optimizer.
        fresh: The picks' runs with other seeds; None: there are none, the tuning runs tell.
        ours: Optimizer.
        theirs: Optimizer.
        column: Value that is compared; its direction and unit are those of the headline.
        has_own_n: Whether it was measured on other examples than the column `n` counts.
        more_edges: Optimizers that are not tuned for another reason, such as in a stage before.
        picked: What `choose` says of theirs and of ours, where that is known already.

    Returns:
        `COLUMNS`: means and standard errors over n seeds; low and high bound the difference at the
        settings found (95 %), wide_low and wide_high that of the optimizers (with the luck of
        tuning), NaN where nothing bounds them. p_holm is still one test's p. The verdict on ours:
        better, worse, inconclusive, not tuned (`edges` says who), diverged (of the fresh runs, or
        every setting), not run. `holds`: the wide interval does not hold 0 either. `seeds`: fresh
        or left out.

    Raises:
        UserError: as `check_fresh`.
    """
    row = dict.fromkeys(COLUMNS, math.nan)
    row |= {"ours": ours, "theirs": theirs, "n": 0, "holds": False, "edges": "", "seeds": ""}
    try:
        picked = picked or [choose(tuning, name) for name in (theirs, ours)]
    except ValueError:  # no setting has finished with every seed
        return row | {"verdict": DIVERGED}
    edges = list(dict.fromkeys([*more_edges, *(p.optimizer for p in picked if p.on_edge)]))
    row |= {"edges": ", ".join(edges), "verdict": NOT_TUNED if edges else UNTESTED}
    runs = _to_compare(tuning, fresh, picked)
    if runs is None:
        return row
    row["seeds"] = LEFT_OUT if fresh is None else FRESH
    if fresh is not None:
        check_fresh(tuning, runs, picked)
    if fresh is not None and (runs.state == "diverged").any():
        return row | {"verdict": DIVERGED}
    return row | _values(runs, ours, theirs, column, has_own_n, tuple(edges))


def check_fresh(tuning: pd.DataFrame, fresh: pd.DataFrame, picked: Sequence[Chosen]) -> None:
    """That fresh runs are of what the tuning picks, and of seeds that had no part in picking.

    Args:
        tuning: The runs that picked.
        fresh: Runs of the picks; other optimizers' do not count.
        picked: What `choose` says of the tuning runs.

    Raises:
        UserError: names the optimizer, or the seed.
    """
    names = [one.optimizer for one in picked]
    page = str(fresh.experiment.iloc[0]) if "experiment" in fresh and len(fresh) else "the page"
    for one in picked:
        keys = [key for key in SETTING if key in tuning and key in fresh]
        ran = fresh.loc[fresh.optimizer == one.optimizer, keys].astype(float).drop_duplicates()
        wanted = np.nan_to_num([[float(getattr(one, key)) for key in keys]])
        if len(ran) and not (
            len(ran) == 1 and np.allclose(np.nan_to_num(ran), wanted, rtol=1e-6, atol=0)
        ):
            raise UserError(
                f"{page}, {one.optimizer}: the fresh runs have another setting than the tuning "
                f"picks; train the picks again ({script('sweep')} confirm)"
            )
    own = [set(runs.seed[runs.optimizer.isin(names)]) for runs in (tuning, fresh)]
    if shared := sorted(own[0] & own[1]):
        raise UserError(
            f"{page}: seed {shared[0]} of the fresh runs had a part in picking; train the picks "
            f"with others ({script('sweep')} confirm)"
        )


def _to_compare(
    tuning: pd.DataFrame, fresh: pd.DataFrame | None, picked: Sequence[Chosen]
) -> pd.DataFrame | None:
    """The runs of both optimizers that tell; None where an optimizer has none.

    Those of the tuning only where the settings of each share seeds enough: of fewer none is left
    out (`comparison.leave_one_out`), and a run would report the setting that it has picked.
    """
    if fresh is None and min(one.n for one in picked) < MIN_TUNING_SEEDS:
        return None
    runs = tuning if fresh is None else fresh
    runs = runs[runs.optimizer.isin([one.optimizer for one in picked])]
    return runs if runs.optimizer.nunique() == 2 else None


def _values(
    runs: pd.DataFrame,
    ours: str,
    theirs: str,
    column: str,
    has_own_n: bool,
    edges: tuple[str, ...],
) -> dict[str, Any]:
    pairs = held_out_pairs(runs, ours, theirs, column)
    step = resolution(runs, column, has_own_n)
    found = of_pairs(pairs, resolution=step, better=of_table(runs).better, untuned=edges)
    if not found.n:  # nobody has measured it
        return {"verdict": UNTESTED}
    return {
        **{f"{arm}_mean": pairs[arm].mean() for arm in pairs},
        **{f"{arm}_error": pairs[arm].sem() for arm in pairs},
        **both_intervals(found, pairs),
    }


def both_intervals(found: Difference, pairs: pd.DataFrame) -> dict[str, Any]:
    """Of a difference what `corrected` takes: both intervals, p before a correction, the verdict.

    Args:
        found: Over fresh seeds.
        pairs: The values behind it, with the columns ours and theirs.
    """
    low, high = of_optimizers(found, pairs.ours.to_numpy(), pairs.theirs.to_numpy())
    return {
        **numbers(found),
        "wide_low": _finite(low),
        "wide_high": _finite(high),
        "holds": low > 0 or high < 0,
        "n": found.n,
        "p_holm": found.p_t,
        "verdict": found.verdict,
    }


def mean_of(fresh: pd.DataFrame, name: str) -> tuple[float, float]:
    """Test mean of an optimizer's fresh runs and its standard error; NaN where one diverged."""
    mine = fresh[fresh.optimizer == name]
    if (mine.state == "diverged").any():
        return math.nan, math.nan
    return float(mine.test.mean()), float(mine.test.sem())


def resolution(runs: pd.DataFrame, column: str, has_own_n: bool) -> float:
    """One step of a column: from the examples that `n` counts, else from the values themselves."""
    of_values = runs.assign(test=runs[column])
    return resolution_of(of_values.drop(columns="n") if has_own_n else of_values)


def numbers(found: Difference, prefix: str = "") -> dict[str, float]:
    """A difference and its interval; NaN where nothing bounds it."""
    named = {"difference": found.mean, "low": _finite(found.low), "high": _finite(found.high)}
    return {f"{prefix}{key}": value for key, value in named.items()}


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def corrected(found: pd.DataFrame) -> pd.DataFrame:
    """The table with Holm's p over all of its tests, and the verdicts by it."""
    found = found.copy()
    judged_rows = found.verdict.isin(["better", "worse", INCONCLUSIVE]) & found.p_holm.notna()
    found.loc[judged_rows, "p_holm"] = holm(found.p_holm[judged_rows])
    lost = judged_rows & (found.p_holm.astype(float) >= ALPHA)
    found.loc[lost, "verdict"] = INCONCLUSIVE
    found["holds"] = found.verdict.isin(["better", "worse"]) & found.holds.astype(bool)
    return found


def wide_p(found: pd.DataFrame) -> pd.Series:
    """Holm's p of the intervals of the optimizers, over all rows that were judged; NaN of others.

    Args:
        found: `corrected`, so that what is not tuned is no test.
    """
    judged_rows = found.verdict.isin(["better", "worse", INCONCLUSIVE]) & found.wide_low.notna()
    own = [
        p_of_optimizers(row.difference, row.wide_low, row.wide_high, row.n)
        for row in found[judged_rows].itertuples()
    ]
    told = pd.Series(math.nan, index=found.index)
    told[judged_rows] = holm(own)
    return told
