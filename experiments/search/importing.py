"""What other searches know (`cache_from`): the programs that they trained, with their fitnesses.

Keys of a search are its own: of programs that the small probe takes for one, the first has the
plain hash. So an import is by program. It is screened here, hits confirmed, before it counts; what
another version of the probes has merged is not believed. The result lies in the folder of the
search, `imported.jsonl`, and stays what it was when the search is gone on with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from experiments.config import UserError
from experiments.search import events
from experiments.search.cache import Cache
from experiments.search.language import Program, parse
from experiments.search.screening import Screen
from experiments.store import write_text

if TYPE_CHECKING:
    from experiments.search.folder import SearchFolder
    from experiments.search.state import State

Row = dict[str, Any]


def gather(folder: SearchFolder, names: Iterable[str]) -> None:
    """Writes what other searches know into the folder of this one, unless it is there.

    Args:
        folder: Of the search that is to know it.
        names: Of searches beside it that judge alike.

    Raises:
        UserError: for a search that there is not, or that judged otherwise.
    """
    if folder.imported.exists():
        return
    others = [folder.find(name, folder.path.parent) for name in names]
    for other in others:
        if other.path.resolve() == folder.path.resolve():
            raise UserError(f"search.cache_from: {other.path.name} is this search itself")
        is_other = other.rules().tier.id != folder.rules().tier.id
        codes = [one.read().get("family_code") for one in (other, folder)]
        if is_other or (codes[0] != codes[1] and None not in codes):
            name = other.path.name
            raise UserError(f"search.cache_from: {name} judged otherwise; take it off the list")
    if others:
        screen = Screen(frozenset(folder.settings.forbid))
        rows = [row for other in others for row in screened(trained(other), screen)]
        write_text(folder.imported, "".join(json.dumps(row) + "\n" for row in rows), durable=True)


def trained(folder: SearchFolder) -> Iterator[tuple[Program, int, float | None]]:
    """Every evaluation of a search: program, round, fitness; None: it failed."""
    from experiments.search.history import History

    history = History(events.read_log(folder.events), folder.initial)
    for event in history.events:
        if event["how"] == "evaluated":
            yield history.programs[event["number"]], event["round"], event["fitness"]


def screened(
    evaluations: Iterable[tuple[Program, int, float | None]], screen: Screen
) -> Iterator[Row]:
    """Lines of `imported.jsonl`: what is dead by the rules of this search is left out."""
    for program, round_number, fitness in evaluations:
        found = screen(program)
        if found.key is not None:
            row = {"structure": found.structure, "key": found.key, "text": program.text()}
            yield {**row, "round": round_number, "fitness": fitness}


def fitnesses(folder: SearchFolder) -> dict[str, list[float | None]]:
    """By functional hash, what other searches have found in each round; None: it failed.

    Raises:
        UserError: if a line is damaged.
    """
    found: dict[str, dict[str, float | None]] = {}
    for row in events.read(folder.imported):
        found.setdefault(row["key"], {}).setdefault(str(row["round"]), row["fitness"])
    return {key: list(rounds.values()) for key, rounds in found.items()}


def recall(folder: SearchFolder, state: State) -> None:
    """Lets a search know what its folder says of others.

    Raises:
        UserError: if a line is damaged.
    """
    cache = Cache()
    for row in events.read(folder.imported):
        key, round_name, fitness = row["key"], str(row["round"]), row["fitness"]
        if "text" in row:  # files of older versions have keys only
            state.screen.restore(row["structure"], key, None, parse(row["text"]))
        if cache.get(key) is None:
            cache.reserve(key, -1)
        if (entry := cache.get(key)) and round_name not in entry.fitness:
            entry.fitness[round_name] = float("-inf") if fitness is None else fitness
    state.cache.merge([cache])
