"""Searches as the tables of a study, `results/studies/NAME/`: small enough to be committed.

    searches.csv   a row per search: arm, seed, settings, shares, hash of the population, commit
    curves.csv     a hundred points of each search: best fitness, shares since the point before
    finals.csv     the best programs on fresh data and seeds, with their texts
    lineage.csv    the way to the best of them, a row per change
    sightings.csv  programs that are sign momentum, with their betas, in the order they were met
    funnel.csv     a row per program, gate and family
    meta.csv       a row per point and family: the best so far on other data (meta-overfitting)
    rediscovery.csv  a row per search: after how many programs sign momentum was met, and one as
                   good as Lion
    picks.csv      a row per search and round of search data: what it has picked, the same rounds
                   for all
    ablation.csv   a row per statement of a program, and family: what it is worth

Those after `sightings` are there if `funnel`, `meta`, `rediscovery`, `picks` and `ablate` were run;
the last two are written by these themselves, and the last is not of searches. An arm is the name of
a search's page, e.g. from `search.name=constants`.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import UserError
from experiments.search import rediscovery
from experiments.search.events import read
from experiments.search.folder import SearchFolder
from experiments.search.history import History, totals
from experiments.store import read_json, write_text

if TYPE_CHECKING:
    import pandas as pd

NUM_POINTS = 100
SETTINGS = ("strategy", "family", "num_steps", "population", "guided", "mode", "window")
SURROUNDINGS = ("executor", "num_workers", "commit", "cpu", "versions", "command")


def write(folders: Sequence[SearchFolder], out: Path, add: bool = False) -> list[Path]:
    """Writes the tables of some searches, in place of those that are there of others.

    Args:
        folders: The searches.
        out: Folder of the tables.
        add: Whether rows of other searches stay; those of the searches named are made anew.

    Returns:
        The files.

    Raises:
        UserError: a seed of an arm is named twice: it would count as two.
    """
    import pandas as pd

    own = [folder.path.name for folder in folders] if add else None
    names = [f"{folder.settings.name}, seed {folder.read()['seed']}" for folder in folders]
    others = _others(out / "searches.csv", own)
    names += [f"{row['arm']}, seed {row['seed']}" for _, row in others.iterrows()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        said = "is named twice; name each search once, and other settings by another search.name"
        raise UserError(f"{twice[0]} {said}")
    parts: dict[str, list[dict[str, Any]]] = {}
    for folder in folders:
        history = History.of(folder)
        table = history.table()
        head = {
            "search": folder.path.name,
            "arm": folder.settings.name,
            "seed": folder.read()["seed"],
        }
        for name, rows in {
            "searches": [_search(folder, table)],
            "curves": curve(table),
            "finals": _finals(folder),
            "lineage": _lineage(folder, history),
            "sightings": sightings_of(history),
            "funnel": _by_family(folder.path / "funnel.jsonl"),
            "meta": _by_family(folder.path / "meta.jsonl"),
            "rediscovery": _rediscovery(folder),
        }.items():
            parts.setdefault(name, []).extend({**head, **row} for row in rows)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, rows in parts.items():
        table = pd.concat([_others(out / f"{name}.csv", own), _as_text(rows)], ignore_index=True)
        if len(table):
            write_text(out / f"{name}.csv", table.to_csv(index=False))
            written.append(out / f"{name}.csv")
        else:
            (out / f"{name}.csv").unlink(missing_ok=True)
    return written


def _others(path: Path, own: Sequence[str] | None) -> pd.DataFrame:
    """A table's rows of other searches than these, as they stand there; None: no rows."""
    import pandas as pd

    if own is None or not path.exists():
        return pd.DataFrame()
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table.loc[~table.search.isin(own)]


def _as_text(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A table as a file would give it back to `_others`."""
    import pandas as pd

    if not rows:
        return pd.DataFrame()
    text = pd.DataFrame(rows).to_csv(index=False, float_format="%.7g")
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def curve(table: pd.DataFrame, num_points: int = NUM_POINTS) -> Iterator[dict[str, Any]]:
    """Points of a search, evenly spaced in programs told.

    Args:
        table: As `History.table` gives it.
        num_points: How many, at most.
    """
    count = len(table)
    ends = sorted({round(count * (i + 1) / num_points) for i in range(num_points)} - {0})
    begin = 0
    for end in ends:
        last, part = table.iloc[end - 1], table.iloc[begin:end]
        shares = totals(part)
        yield {
            "told": end,
            "evaluated": int(last.num_evaluated),
            "best": last.best,
            **{key: round(value, 3) for key, value in shares.items() if key.endswith("%")},
        }
        begin = end


def best_final(folder: SearchFolder) -> dict[str, Any] | None:
    """The finalist with the highest mean on fresh data; None without one."""
    rows = [row for row in folder.final_rows() if row["kind"] == "finalist"]
    return max((row for row in rows if row["mean"] is not None), key=_mean, default=None)


def _mean(row: dict[str, Any]) -> float:
    return row["mean"]


def _search(folder: SearchFolder, table: pd.DataFrame) -> dict[str, Any]:
    settings = vars(folder.settings)
    kept = {key: settings[key] for key in SETTINGS}
    sums = {key: round(value, 3) for key, value in totals(table).items()}
    status = read_json(folder.status)
    state = {"state": status.get("state"), "population_hash": status.get("population")}
    sessions = folder.read()["sessions"]
    last = {key: sessions[-1].get(key) if sessions else None for key in SURROUNDINGS}
    return {**kept, **sums, **state, "num_sessions": len(sessions), **last}


def _finals(folder: SearchFolder) -> Iterator[dict[str, Any]]:
    for row in folder.final_rows():
        gains = row.pop("gains")
        row.pop("best_rates")
        yield {**row, "n": len(gains)}


def _lineage(folder: SearchFolder, history: History) -> Iterator[dict[str, Any]]:
    best = best_final(folder)
    for place, step in enumerate(history.lineage(best["number"]) if best else ()):
        yield {"step": place, "number": step.number, "change": step.change, "fitness": step.fitness}


def sightings_of(history: History) -> Iterator[dict[str, Any]]:
    """Each program of the sign-momentum family that a search met, the first of its structure."""
    from experiments.search import sightings

    candidates = ((event["number"], history.programs[event["number"]]) for event in history.events)
    for one in sightings.find(candidates):
        event = history.by_number[one.number]
        lion = one.lion
        yield {
            "number": one.number,
            "is_exact": one.verdict.family is not None,  # else: without clip, arcsin and the like
            "beta1": str(lion.beta1),
            "beta2": str(lion.beta2),
            "beta1_value": float(lion.beta1) if lion.beta1 is not None else None,
            "beta2_value": float(lion.beta2) if lion.beta2 is not None else None,
            "fitness": history.fitness(event),
        }


def _rediscovery(folder: SearchFolder) -> list[dict[str, Any]]:
    row = read_json(folder.path / rediscovery.FILE)
    return [row] if row else []


def _by_family(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a file whose entries hold final numbers by family."""
    for row in read(path):
        families = row.pop("families")
        for family, final in families.items():
            kept = {key: final[key] for key in ("mean", "standard_error")}
            yield {**row, "family": family, **kept, "n": len(final["gains"])}


def meta(
    folder: SearchFolder, num_points: int, num_rounds: int, families: Sequence[str]
) -> list[dict[str, Any]]:
    """The best program so far, at some points of a search, on fresh data of several families.

    Where the search's own numbers still rise and these no longer do, it over-fits its proxy
    (Figure 3 of the paper has a task 500 times larger in their place).
    """
    from dataclasses import replace

    from experiments.search import finals

    history = History.of(folder)
    table = history.table()
    ends = [round(len(table) * (i + 1) / num_points) for i in range(num_points)]
    points = [table.iloc[end - 1] for end in ends if end]
    points = [point for point in points if point.best is not None and point.best > -math.inf]
    if not points:
        raise UserError(f"{folder.path.name}: no program of it could be trained yet")
    numbers = sorted({int(point.best_number) for point in points})
    programs = [history.programs[number] for number in numbers]
    tier = folder.rules().tier
    judged = {
        family: finals.evaluate(programs, replace(tier, family=family), num_rounds, 500)
        for family in families
    }
    rows = []
    for point in points:
        place = numbers.index(int(point.best_number))
        of = {family: judged[family][place].to_json() for family in families}
        head = {"told": int(point.told) + 1, "number": int(point.best_number), "best": point.best}
        rows.append({**head, "families": of})
    write_text(folder.path / "meta.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return rows
