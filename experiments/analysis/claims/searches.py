"""Claims on the program search, from the study of our searches on a small proxy.

Unit of every interval: the search (its seed). All searches report on the same rounds of fresh data,
so the intervals hold the luck of searching, not that of the data. Search data pick each search's
program and fresh data report it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import pandas as pd
from scipy import stats

from experiments.analysis import searches
from experiments.analysis.claims.evidence import (
    CONTRADICTED,
    INCONCLUSIVE,
    SUPPORTED,
    Evidence,
    Finding,
    is_within,
)
from experiments.analysis.claims.two_arms import exact, welch
from experiments.analysis.statistics.difference import ALPHA, MIN_SEEDS
from experiments.analysis.statistics.uncertainty import mean_interval
from experiments.pages import script
from experiments.rounded import with_signs
from experiments.store import UserError

TIMES = 4.0
"""Compute of the baselines in the paper, in that of evolution."""
ENOUGH = 0.95 * TIMES
"""A search ends at a whole batch: not to the last program."""
STANDARD_ERRORS = 2.0
LAST_SHARE = 0.1
"""Of a search: its end, where redundant statements are counted."""
DATA = "same rounds of fresh data for all searches: the interval is over searches"


def random_behind(evidence: Evidence) -> Finding:
    """The best random program against AdamW, whose gain is 0 by definition.

    Supported: the interval of the mean lies below 0, and every search's program is behind by more
    than 2 standard errors of its own rounds. Contradicted: both on the other side.
    """
    tables = evidence.searches("finals")
    rows = _of(tables, "random")
    best = searches.picked(searches.within(tables["finals"], rows))
    known = best.dropna(subset=["mean", "standard_error"])
    found = mean_interval(known["mean"].tolist())
    score = known["mean"] / known.standard_error
    verdict = INCONCLUSIVE
    if found.n >= MIN_SEEDS and found.high < 0 and (score < -STANDARD_ERRORS).all():
        verdict = SUPPORTED
    elif found.n >= MIN_SEEDS and found.low > 0 and (score > STANDARD_ERRORS).all():
        verdict = CONTRADICTED
    note = (
        f"{rows.children.sum():,.0f} programs drawn in {len(rows)} searches, "
        f"{(_new(rows) - 1).sum():,.0f} of them trained (the paper: over 2,000,000); "
        "gains of the searches, in their standard errors: "
        f"{', '.join(f'{value:+.1f}' for value in score)}{_lost(rows, known)}; {DATA}"
    )
    measure = "gain of the best of random programs over AdamW (without bias correction), fresh data"
    return Finding(measure, found.estimate, found.low, found.high, found.n, "nats", verdict,
                   note=note)  # fmt: skip


def beats_baselines(evidence: Evidence) -> Finding:
    """Evolution minus each baseline (Welch over searches); the closest is shown.

    Supported: against both baselines the interval lies above 0, an exact test agrees, and the
    baseline had 4 times the trained programs. Contradicted: against one it lies below 0, with the
    exact test. A baseline with less compute can contradict, but not support. The paper compares
    what searches themselves count; here each counts other rounds (see `searches.on_same_rounds`).
    """
    tables = evidence.searches("finals")
    ours = _of(tables, "evolution")
    found = [_against(tables, ours, name) for name in ("constants", "random")]
    closest = min(found, key=lambda one: one.estimate)
    verdicts = {one.verdict for one in found}
    verdict = SUPPORTED if verdicts == {SUPPORTED} else INCONCLUSIVE
    verdict = CONTRADICTED if CONTRADICTED in verdicts else verdict
    others = [
        f"{one.measure}: {with_signs(one.estimate, one.low, one.high, 3)} nats, {one.note}"
        for one in found
        if one is not closest
    ]
    note = "; ".join([closest.note, *others, f"Welch; {DATA}"])
    return Finding(closest.measure, closest.estimate, closest.low, closest.high, closest.n, "nats",
                   verdict, note=note)  # fmt: skip


def _against(tables: searches.Tables, ours: pd.DataFrame, strategy: str) -> Finding:
    theirs = _of(tables, strategy)
    pair = [searches.picked(searches.within(tables["finals"], rows)) for rows in (ours, theirs)]
    arms = [best["mean"].dropna().to_numpy(float) for best in pair]
    n = min(map(len, arms))
    times = _new(theirs).mean() / _new(ours).mean()
    measure = f"fresh gain, evolution - {searches.STRATEGIES[strategy]}"
    note = f"{searches.STRATEGIES[strategy]}: {times:.2g} x the trained programs of evolution"
    note += _lost(ours, pair[0], "evolution: ") + _lost(theirs, pair[1], f"{strategy}: ")
    mean, low, high = welch(*arms)
    verdict = INCONCLUSIVE
    if n < MIN_SEEDS:
        note += f"; {n} searches each show nothing: it takes {MIN_SEEDS}"
    elif exact(*arms) <= ALPHA:
        verdict = CONTRADICTED if high < 0 else SUPPORTED if low > 0 else INCONCLUSIVE
    if verdict == SUPPORTED and times < ENOUGH:
        verdict = INCONCLUSIVE
        note += f", where the claim is of {TIMES:g} x, so being ahead of it supports nothing"
    note += _on_search_data(tables, pair)
    return Finding(measure, mean, low, high, n, "nats", verdict, note=note)


def _on_search_data(tables: searches.Tables, pair: Sequence[pd.DataFrame]) -> str:
    """The same difference on the data that searches see, as the paper's figure has it."""
    gains = searches.on_same_rounds(tables)
    arms = [best.search.map(gains).dropna().to_numpy(float) for best in pair]
    if min(map(len, arms)) < MIN_SEEDS:
        return ""
    rounds, gap = tables["picks"]["round"].nunique(), with_signs(*welch(*arms), 3)
    return f"; on search data, the same {rounds} rounds for all: {gap} nats"


def share_of(column: str, quantity: str, at_end: bool) -> Callable[[Evidence], Finding]:
    """A share of our searches by evolution beside the paper's.

    Supported: our interval lies within the paper's. Contradicted: apart from it, in searches of the
    paper's kind (its mutations, no fewer programs), which are taken where there are enough. Of
    other searches a difference is said, and decides nothing.

    Args:
        column: Of the share, in curves.csv.
        quantity: In results/paper/search_method.csv.
        at_end: Of the last tenth of the programs; else of all.
    """

    def check(evidence: Evidence) -> Finding:
        tables = evidence.searches("curves")
        rows = _of(tables, "evolution", searches.like_the_papers)
        curves = searches.within(tables["curves"], rows)
        if column not in curves:
            raise UserError(f"curves.csv lacks the column {column}: collect it anew")
        values = [_share(part, column, at_end) for _, part in curves.groupby("search")]
        found = mean_interval(values)
        value, error = searches.stated(quantity, evidence.root / "results")
        verdict = is_within(found.low, found.high, (value - error, value + error))
        verdict = verdict if found.n >= MIN_SEEDS else INCONCLUSIVE
        notes = []
        if verdict == CONTRADICTED:
            notes.append(f"differs from the paper's {value:g} ± {error:g} %")
            if unlike := _unlike_the_papers(rows):
                verdict = INCONCLUSIVE
                notes.append(f"no search of the paper's kind ({unlike}), so this decides nothing")
        notes.append(f"{rows.programs.mean():,.0f} programs a search")
        if column == "cached %":
            factor = ((rows.programs - rows.rechecks) / _new(rows)).mean()
            notes.append(f"programs / trained ones: {factor:.2g} (the paper: about 10)")
        when = "at the end" if at_end else "of all programs"
        measure = f"{column.removesuffix(' %')} {when}, mean over searches by evolution"
        return Finding(measure, found.estimate, found.low, found.high, found.n, "%", verdict,
                       note="; ".join(notes))  # fmt: skip

    return check


def _share(curve: pd.DataFrame, column: str, at_end: bool) -> float:
    """Mean of a share, each point weighted by the programs since the point before."""
    curve = curve.sort_values("told")
    weights = curve.told.diff().fillna(curve.told)
    if at_end:
        weights = weights.where(curve.told > (1 - LAST_SHARE) * curve.told.max(), 0)
    return float(np.average(curve[column], weights=weights))


def _unlike_the_papers(rows: pd.DataFrame) -> str:
    """How searches differ from the paper's, in words; empty where they do not."""
    said = []
    if "guided" in rows and rows.guided.astype(bool).any():
        said.append("other mutations: arguments are drawn to fit")
    if rows.programs.min() < searches.PAPERS_PROGRAMS:
        said.append("fewer programs than its 200,000 to 300,000")
    return "; ".join(said)


def later_is_better(evidence: Evidence) -> Finding:
    """Rank correlation over searches: when the best stops gaining elsewhere, and how good it gets.

    Elsewhere: the worse of the families that the search does not train on. When: the first point of
    the search at which it is at its best there. Supported: positive, exact p <= 5 %.
    """
    tables = evidence.searches("meta")
    rows = _of(tables, "evolution")
    points = [onset(part, rows.family.iloc[0]) for _, part in
              searches.within(tables["meta"], rows).groupby("search")]  # fmt: skip
    when, gains = np.array(points, float).reshape(-1, 2).T
    n = len(when)
    rho, p = _rank_correlation(when, gains)
    verdict = INCONCLUSIVE
    if n >= MIN_SEEDS and p <= ALPHA:
        verdict = SUPPORTED if rho > 0 else CONTRADICTED
    said = ", ".join(f"{100 * a:.0f} % ({b:+.3f} nats)" for a, b in zip(when, gains, strict=True))
    note = (
        f"exact p {p:.2g} over {n} searches (the paper: 50 runs); no interval; best elsewhere "
        f"after, and gain there: {said}"
    )
    measure = "rank correlation of the onset of meta-overfitting and the gain elsewhere"
    return Finding(measure, rho, math.nan, math.nan, n, "rho", verdict, note=note)


def onset(meta: pd.DataFrame, family: str) -> tuple[float, float]:
    """Share of a search after which its best program is best on other families, and its gain there.

    Args:
        meta: Rows of one search.
        family: That the search trains on.

    Raises:
        UserError: where no other family was measured, or the program failed at every point.
    """
    others = meta[meta.family != family]
    means = others["mean"].astype(float).fillna(-math.inf)  # failed in a round
    worst = means.groupby(others.told).min()
    if worst.empty or not math.isfinite(worst.max()):
        raise UserError(f"meta.csv has no gain on another family: {script('search')} meta again")
    return float(worst.idxmax()) / float(meta.told.max()), float(worst.max())


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Spearman's, and its two-sided exact p over all orders (up to 8 values; then asymptotic)."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, 1.0
    a, b = stats.rankdata(x), stats.rankdata(y)
    rho = float(np.corrcoef(a, b)[0, 1])
    if len(x) > 8:
        return rho, float(stats.spearmanr(x, y).pvalue)
    orders = np.array(list(permutations(b)))
    centred = a - a.mean()
    seen = np.abs(orders @ centred)
    return rho, float(np.mean(seen >= abs(b @ centred) - 1e-9))


def _of(
    tables: searches.Tables,
    strategy: str,
    evolved: Callable[[pd.DataFrame], pd.DataFrame] = searches.evolved,
) -> pd.DataFrame:
    """The finished searches of a strategy on the proxy where most strategies were run.

    Raises:
        UserError: if there is none.
    """
    rows = tables["searches"]
    rows = rows[rows.state == "finished"]
    found = searches.comparable(rows) if len(rows) else rows
    found = found[found.strategy == strategy]
    if strategy == "evolution" and len(found):
        found = evolved(rows)
    if found.empty:
        raise UserError(f"the study has no finished search with search.strategy={strategy}")
    return found


def _new(rows: pd.DataFrame) -> pd.Series:
    """Trained programs of each search, the initial one too, without incumbents judged again."""
    return rows.trained - rows.rechecks


def _lost(rows: pd.DataFrame, best: pd.DataFrame, of: str = "") -> str:
    lost = len(rows) - int(best["mean"].notna().sum())
    return (
        f"; {of}without a number on fresh data (failed, or nothing to pick): {lost}" if lost else ""
    )


CHECKS: dict[str, Callable[[Evidence], Finding]] = {
    "C075": random_behind,
    "C076": beats_baselines,
    "C077": share_of("cached %", "cache hit rate", at_end=False),
    "C078": share_of("redundant statements %", "redundant statements at the end", at_end=True),
    "C080": later_is_better,
}
"""Claim id -> what our searches say of it."""
