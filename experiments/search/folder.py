"""The folder of a search, `results/searches/NAME/`.

search.json       what the search is: settings, seed, the programs' texts; its sessions
events.jsonl      one line for every candidate; see `events`
imported.jsonl    what other searches knew (`cache_from`), so that a resumed search knows the same
finals.jsonl      the best programs on fresh data and seeds
status.json       how it goes
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.config import ConfigError, UserError
from experiments.files import make_folder
from experiments.pages import script
from experiments.search import importing, library, probes
from experiments.search.evaluation import Tier
from experiments.search.evolution import Evolution, EvolutionSettings
from experiments.search.language import Program, parse
from experiments.search.mutation import CONSTANTS_ONLY, Mutator
from experiments.search.operations import fingerprint
from experiments.search.proxies import families
from experiments.search.random_search import RandomSearch
from experiments.search.screening import Screen
from experiments.search.settings import SHORTEST, SearchSettings, from_page
from experiments.search.state import Budget, Rules, State
from experiments.search.strategy import Searcher
from experiments.store import Folder as RunFolder
from experiments.store import read_json, write_text

SCHEMA_VERSION = 1
SEARCHES = Path("results/searches")


class SearchFolder:
    """A search on disk, with all that follows from its header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = path / "search.json"
        self.events = path / "events.jsonl"
        self.imported = path / "imported.jsonl"
        self.finals = path / "finals.jsonl"
        self.status = path / "status.json"
        self.lock = RunFolder(path, "search {} is under way")

    @classmethod
    def create(cls, settings: SearchSettings, seed: int, root: Path = SEARCHES) -> SearchFolder:
        """The folder of a search, made where it is missing.

        Raises:
            UserError: for a family that there is not, or a program that cannot be read; where
                another process begins it at this very moment.
        """
        families.check(settings.family)
        programs = {
            "initial_text": library.read_file(settings.initial).text(),
            "reference_text": library.read_file(settings.reference).text(),
        }
        folder = cls(root / settings.id(seed, programs))
        make_folder(folder.path)
        if not folder.header.exists():
            with folder.lock.locked():
                if not folder.header.exists():  # nor made by another call, with its first session
                    header = {"schema_version": SCHEMA_VERSION, "probes": probes.VERSION}
                    header |= {"language": fingerprint()}
                    header |= {"family_code": families.code(settings.family)}
                    header |= {"seed": seed, **programs, "settings": asdict(settings)}
                    folder.write({**header, "sessions": []})
        return folder

    @classmethod
    def find(cls, name: str, root: Path = SEARCHES) -> SearchFolder:
        """A search by its name, by the beginning of it if that is enough, or by its folder.

        Raises:
            UserError: if there is none, or more than one.
        """
        if (Path(name) / "search.json").exists():
            return cls(Path(name))
        known = sorted(path.parent.name for path in root.glob("*/search.json"))
        found = [one for one in known if one == name] or [
            one for one in known if one.startswith(name)
        ]
        if len(found) == 1:
            return cls(root / found[0])
        if found:
            raise UserError(f"{name}: several searches; which of them? {', '.join(found)}")
        there = (
            f"there are: {', '.join(known)}" if known else f"start one: {script('run')} job=search"
        )
        raise UserError(f"{name}: no such search; {there}")

    def read(self) -> dict[str, Any]:
        """The header.

        Raises:
            UserError: if there is none, or one of another version.
        """
        header = read_json(self.header)
        if header.get("schema_version") != SCHEMA_VERSION:
            raise UserError(
                f"{self.header}: missing, damaged or of another version: restore it, or take "
                "another search.name"
            )
        return header

    def write(self, header: dict[str, Any]) -> None:
        """Replaces the header."""
        write_text(self.header, json.dumps(header, indent=2) + "\n", durable=True)

    @property
    def settings(self) -> SearchSettings:
        """As it was started.

        Raises:
            UserError: another version started it.
        """
        try:
            return from_page(self.read()["settings"])
        except ConfigError as error:
            said = "is of another version; look at it with the code that began it"
            raise UserError(f"{self.header} {said} ({error})") from error

    @property
    def initial(self) -> Program:
        """The program that it starts from."""
        return parse(self.read()["initial_text"])

    def final_rows(self) -> Iterator[dict[str, Any]]:
        """Lines of `finals.jsonl`."""
        from experiments.search.events import read

        return read(self.finals)

    def rules(self) -> Rules:
        """How it is run."""
        return rules_of(self.settings, self.read()["reference_text"])

    def empty_state(self) -> State:
        """What the search knows before its first candidate, from other searches too."""
        header = self.read()
        settings = from_page(header["settings"])
        strategy = strategy_of(settings, header["seed"], parse(header["initial_text"]))
        state = State(strategy, Screen(frozenset(settings.forbid)))
        importing.recall(self, state)
        return state


def rules_of(settings: SearchSettings, reference_text: str) -> Rules:
    """Tier, budget, mode and window of some settings."""
    tier = Tier(
        family=settings.family,
        num_steps=settings.num_steps,
        lrs=tuple(settings.lrs),
        num_seeds=settings.num_seeds,
        kill_margin=settings.kill_margin,
        reference=reference_text,
    )
    budget = Budget(settings.num_candidates, settings.max_evaluations)
    sizes = (settings.window, settings.batch_size, settings.rotate_every)
    return Rules(tier, budget, settings.mode, *sizes)


def strategy_of(settings: SearchSettings, seed: int, initial: Program) -> Searcher:
    """Evolution, random search or tuning of constants."""
    rechecks = {"recheck_every": settings.rotate_every, "num_incumbents": settings.num_incumbents}
    if settings.strategy == "random":
        lengths = (SHORTEST, min(12, settings.max_statements))
        return RandomSearch(seed, initial, lengths, **rechecks)
    evolution = EvolutionSettings(
        seed=seed,
        population=settings.population,
        tournament=settings.tournament,
        patience=settings.patience,
        restart_from=settings.restart_from,
        **rechecks,
    )
    only_constants = settings.strategy == "constants"
    weights = CONSTANTS_ONLY if only_constants else settings.mutations
    mutator = Mutator(tuple(weights.items()), settings.guided, settings.max_statements)
    return Evolution(evolution, initial, mutator)
