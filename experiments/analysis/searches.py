"""A study of program searches as its tables, `results/studies/program_search/*.csv`.

`scripts/search.py collect NAME ... --study program_search` writes them, and `ablate FILE --study`
the table `ablation`; `experiments/search/collect.py` explains each. Gains are nats of held-out loss
below that of the reference, so they compare only within one proxy: one family of models and one
number of steps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pandas as pd

from experiments.analysis.sources import RESULTS, paper
from experiments.analysis.statistics.difference import MIN_SEEDS
from experiments.pages import script
from experiments.store import UserError

STUDY = "program_search"
COMMAND = f"{script('search')} collect NAME ... --study {STUDY}"
START = f"{script('run')} -m job=search search=laptop seed=0,1,2,3,4"
HEAD = ("search", "arm", "seed")
NEEDED: dict[str, tuple[str, ...]] = {
    "searches": (
        *HEAD,
        "strategy",
        "family",
        "num_steps",
        "programs",
        "children",
        "trained",
        "rechecks",
        "state",
    ),
    "curves": (*HEAD, "told", "evaluated", "best"),
    "finals": (*HEAD, "number", "kind", "on_search_data", "mean", "standard_error", "text"),
    "lineage": (*HEAD, "step", "number", "change", "fitness"),
    "sightings": (*HEAD, "number", "is_exact", "beta1_value", "beta2_value", "fitness"),
    "funnel": (*HEAD, "number", "gate", "promoted", "family", "mean", "standard_error", "n"),
    "meta": (*HEAD, "told", "best", "family", "mean", "standard_error"),
    "ablation": (
        *("program", "family", "num_steps", "place", "statement", "instead"),
        *("mean", "standard_error", "n"),
    ),  # fmt: skip
    "picks": (*HEAD, "number", "round", "fitness"),
    "rediscovery": (*HEAD, "sign_momentum_trained", "two_averages_trained", "as_good_trained"),
}
"""The tables, and columns that each must have; those after `curves` need not be there."""
FAMILIES = {"lm": "language", "mlp": "perceptron", "conv": "convolutions"}
PAPERS_PROGRAMS = 200_000
"""Of a search of the paper, at least: it says 200,000 to 300,000."""
STRATEGIES = {
    "evolution": "evolution",
    "constants": "constants tuned",
    "random": "random programs",
}
"""What a search does, for people; in the order of figures."""

Tables = Mapping[str, pd.DataFrame]


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of a study that are there, by name.

    Raises:
        UserError: if there are none, or one is damaged.
    """
    paths = {name: folder / f"{name}.csv" for name in NEEDED}
    found = {name: _table(path, NEEDED[name]) for name, path in paths.items() if path.exists()}
    if missing := {"searches", "curves"} - set(found):
        raise UserError(
            f"{folder}: no searches there ({min(missing)}.csv); {script('search')} collect "
            "writes it"
        )
    return found


def of_results(results: Path = RESULTS) -> dict[str, pd.DataFrame] | None:
    """The tables of the committed study; None where it has not been collected yet."""
    folder = results / "studies" / STUDY
    return read(folder) if folder.exists() else None


def _table(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no table ({error}): collect it anew") from None
    if missing := [column for column in needed if column not in table]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}: collect it anew")
    return table


def proxy_of(row: Any) -> str:
    """A search's proxy, for people: family and steps."""
    return f"{FAMILIES.get(row.family, row.family)}, {row.num_steps:g} steps"


def comparable(searches: pd.DataFrame) -> pd.DataFrame:
    """The searches on one proxy: on that where most strategies were run, then most searches.

    Returns:
        Their rows with a column `label`, evolution first: the strategy, and the arm's name where
        several arms have one strategy.
    """
    by_proxy = searches.groupby(["family", "num_steps"], sort=False)
    _, rows = max(by_proxy, key=lambda item: (item[1].strategy.nunique(), len(item[1])))
    num_arms = rows.groupby("strategy").arm.nunique()
    labels = [
        str(STRATEGIES.get(row.strategy, row.strategy))
        + (f" ({plain(row.arm)})" if num_arms[row.strategy] > 1 else "")
        for row in rows.itertuples()
    ]
    order = {name: place for place, name in enumerate(STRATEGIES)}
    place = rows.strategy.map(lambda name: order.get(name, len(order)))
    rows = rows.assign(label=labels, place=place)
    return rows.sort_values(["place", "arm", "seed"]).drop(columns="place").reset_index(drop=True)


def evolved(searches: pd.DataFrame) -> pd.DataFrame:
    """The searches by evolution among the comparable ones: the arm with the most seeds.

    Of arms with equally many that of the fewest programs, which baselines are sized by.
    """
    rows = comparable(searches)
    return _largest_arm(rows[rows.strategy == "evolution"])


def like_the_papers(searches: pd.DataFrame) -> pd.DataFrame:
    """The searches by evolution that shares of the paper are held against.

    Those with its mutations and at least its smallest number of programs, where there are enough
    seeds to judge by; else `evolved`.
    """
    rows = comparable(searches)
    is_evolved = rows.strategy == "evolution"
    if "guided" not in rows:
        return evolved(searches)
    alike = is_evolved & ~rows.guided.astype(bool) & (rows.programs >= PAPERS_PROGRAMS)
    arm = _largest_arm(rows[alike])
    return arm if len(arm) >= MIN_SEEDS else evolved(searches)


def _largest_arm(rows: pd.DataFrame) -> pd.DataFrame:
    if rows.empty:
        return rows
    rows_of = rows.sort_values("programs", kind="stable").groupby("arm", sort=False)
    return rows[rows.arm == rows_of.size().idxmax()]


def within(table: pd.DataFrame, searches: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table that belong to some searches, with their column `label` if it is there."""
    rows = table[table.search.isin(searches.search)]
    if "label" in searches:
        rows = rows.assign(label=rows.search.map(searches.set_index("search").label))
    return rows


def picked(finals: pd.DataFrame) -> pd.DataFrame:
    """A row per search: the finalist that search data put first, with its fresh numbers.

    Search data pick and fresh data report, so the mean is not biased by picking. One that failed on
    fresh data has no mean.
    """
    rows = finals[(finals.kind == "finalist") & finals.on_search_data.notna()]
    return rows.loc[rows.groupby("search", sort=False).on_search_data.idxmax()]


def on_same_rounds(tables: Tables) -> pd.Series:
    """What `picked` gains in the same rounds of search data for all: a mean per search.

    What a search itself has counted (`on_search_data`) is of rounds of its own, which differ in how
    much there is to gain, so it compares with no other search. NaN where a round failed.
    """
    if "picks" not in tables:
        return pd.Series(dtype=float)
    return tables["picks"].groupby("search").fitness.agg(lambda gains: gains.mean(skipna=False))


def best_of_finalists(finals: pd.DataFrame) -> pd.DataFrame:
    """A row per search: the finalist that is best on fresh data, as lineages lead to it.

    Its mean is biased upwards a little: the same data have picked it.
    """
    rows = finals[(finals.kind == "finalist") & finals["mean"].notna()]
    return rows.loc[rows.groupby("search", sort=False)["mean"].idxmax()]


def best_search(tables: Tables) -> str | None:
    """The search by evolution whose best finalist is ahead of those of the others."""
    rows = best_of_finalists(within(tables.get("finals", no_rows("finals")),
                                    evolved(tables["searches"])))  # fmt: skip
    return None if rows.empty else str(rows.loc[rows["mean"].idxmax(), "search"])


def summary(tables: Tables | None) -> pd.DataFrame:
    """What the strategies on one proxy give on fresh data, by the picks of search data.

    Returns:
        strategy, searches, trained (programs, mean), fresh gain and standard error (over searches,
        nats), failed (searches without a number); empty without a study.
    """
    columns = ["strategy", "searches", "trained", "fresh gain", "standard error", "failed"]
    if tables is None or "finals" not in tables:
        return pd.DataFrame(columns=columns)
    rows = comparable(tables["searches"])
    picks = picked(tables["finals"]).set_index("search")["mean"]
    rows = rows.assign(gain=rows.search.map(picks), trained=rows.trained - rows.rechecks)
    grouped = rows.groupby("label", sort=False)
    found = grouped.agg(searches=("search", "size"), trained=("trained", "mean"))
    found = found.assign(gain=grouped.gain.mean(), error=grouped.gain.sem())
    found["failed"] = found.searches - grouped.gain.count()
    return found.reset_index().set_axis(columns, axis=1)


def no_rows(name: str) -> pd.DataFrame:
    """A table as `read` gives it, without rows."""
    return pd.DataFrame(columns=[*NEEDED[name]])


def plain(name: object) -> str:
    """An arm's name for people."""
    return str(name).replace("_", " ")


def papers(quantities: tuple[str, ...], results: Path = RESULTS) -> pd.DataFrame:
    """What the paper says of its search: origin, quantity, said, value, uncertainty, unit."""
    rows = paper("search_method", results)
    rows = rows[rows.quantity.isin(quantities)].drop_duplicates("quantity")
    split = [_number(said) for said in rows.value]
    return pd.DataFrame(
        {
            "origin": "paper",
            "quantity": rows.quantity.to_numpy(),
            "said": rows.value.to_numpy(),
            "value": [value for value, _ in split],
            "uncertainty": [error for _, error in split],
            "unit": rows.unit.to_numpy(),
        }
    )


def beside_paper(quantities: tuple[str, ...], name: str, results: Path = RESULTS) -> pd.DataFrame:
    """What the paper says of its search, and below it our table `name` where there is one."""
    rows = papers(quantities, results)
    ours = (of_results(results) or {}).get(name, no_rows(name))
    return rows if ours.empty else pd.concat([rows, ours.assign(origin="proxy")])


def stated(quantity: str, results: Path = RESULTS) -> tuple[float, float]:
    """A number of the paper's search and its uncertainty.

    Raises:
        UserError: where the table has no such number.
    """
    rows = papers((quantity,), results)
    if rows.empty or rows.value.isna().any():
        raise UserError(f"search_method.csv has no number for {quantity!r}: restore it with git")
    return float(cast(Any, rows.value.iloc[0])), float(cast(Any, rows.uncertainty.iloc[0]))


def _number(said: object) -> tuple[float, float]:
    """Value and uncertainty of a text such as "89.1 +- 0.6"; NaN where there is none."""
    found = re.match(r"[~>]?([\d.]+(?:e\d+)?)(?: \+- ([\d.]+))?", str(said))
    if found is None:
        return float("nan"), float("nan")
    return float(found[1]), float(found[2] or "nan")
