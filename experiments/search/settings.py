"""The settings of a search, from a page of `conf/search`, which explains the keys."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from experiments.config import ConfigError
from experiments.search.executors import slurm_options

OPERATIONAL = ("executor", "num_workers", "address", "batch_size", "slurm")
"""Where and with how many workers it runs: none of them changes what an ordered search finds."""
NAMES = ("name", "initial", "reference")
"""What they stand for decides, not how it is called."""
CHOICES = {
    "strategy": ("evolution", "random", "constants"),
    "restart_from": ("initial", "best"),
    "mode": ("ordered", "free"),
    "executor": ("inline", "pool", "queue", "slurm", "ray"),
}
WARNINGS = ("overwrites lr", "own step size")
"""Of programs; see `experiments.search.screening.warnings_of`."""
SHORTEST = 3
"""Statements of the shortest programs that random search draws."""
AT_LEAST_ONE = (
    *("num_candidates", "population", "tournament", "max_statements", "window", "batch_size"),
    *("num_steps", "num_seeds", "num_finalists", "num_incumbents", "final_rounds"),
    *("max_evaluations", "num_workers"),
)
AT_LEAST_ZERO = ("patience", "rotate_every", "kill_margin")
MOST_ROUNDS = 500
"""Of fresh data for final numbers; those of meta, funnel and rediscovery come behind."""
AT_MOST = {
    **dict.fromkeys(("population", "window", "batch_size", "num_steps"), 1_000_000),  # in memory
    **dict.fromkeys(("num_seeds", "num_workers"), 10_000),
    "final_rounds": MOST_ROUNDS,
    **dict.fromkeys(("num_finalists", "num_incumbents"), 64),  # so many are kept, see `Archive`
}


@dataclass(frozen=True)
class SearchSettings:
    """What is searched, how, on what, and where."""

    name: str = "search"  # of the page; the folder's name begins with it
    strategy: str = "evolution"  # evolution | random | constants (of the initial program)
    initial: str = "adamw_early"  # a program of the library, or a file
    num_candidates: int = 1000  # children, rechecks and the initial program
    max_evaluations: int | None = None  # trained programs; whichever budget is spent first
    population: int = 100
    tournament: int = 2
    patience: int = 0  # candidates without a better one until a restart; 0: none
    restart_from: str = "initial"  # initial | best
    mutations: dict[str, float] = field(
        default_factory=lambda: {"insert": 1, "delete": 1, "modify": 1, "wrap": 0, "tune": 0}
    )  # weights
    guided: bool = False  # draw only arguments that fit
    max_statements: int = 60
    forbid: list[str] = field(default_factory=list)  # warnings that are a cause of death
    family: str = "lm"  # lm | mlp | conv | dotted path of a function that returns a Family
    num_steps: int = 100
    lrs: list[float] = field(default_factory=list)  # peak learning rates; none: the family's
    num_seeds: int = 1
    kill_margin: float = 0.5  # nats behind the reference
    reference: str = "adamw_early"  # fitness 0 is its held-out loss at its best learning rate
    rotate_every: int = 500  # candidates per round of data; then incumbents are judged anew
    num_incumbents: int = 8
    mode: str = "ordered"  # ordered | free
    window: int = 128  # candidates in flight
    cache_from: list[str] = field(default_factory=list)  # names of searches that judged alike
    num_finalists: int = 5
    final_rounds: int = 8  # of fresh data and seeds
    executor: str = "pool"  # inline | pool | queue | slurm | ray
    num_workers: int | None = None  # null: one per core
    batch_size: int = 16  # programs trained side by side
    address: str | None = None  # ray: of the cluster
    slurm: dict[str, Any] = field(default_factory=dict)  # see conf/search/defaults.yaml

    def __post_init__(self) -> None:
        for key, known in CHOICES.items():
            if (value := getattr(self, key)) not in known:
                raise ConfigError(
                    f"search.{key}={value}: choose {', '.join(known[:-1])} or {known[-1]}"
                )
        for key in (*AT_LEAST_ONE, *AT_LEAST_ZERO):
            least, value = int(key in AT_LEAST_ONE), getattr(self, key)
            if value is None:
                continue
            if not least <= value:
                raise ConfigError(f"search.{key}={value}: must be at least {least}")
            if value > AT_MOST.get(key, math.inf):
                raise ConfigError(f"search.{key}={value}: must be at most {AT_MOST[key]:,}")
        if self.num_steps % 10:
            raise ConfigError(f"search.num_steps={self.num_steps}: must be a multiple of 10")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            said = "a folder is called by it; write letters, digits, _, - and ."
            raise ConfigError(f"search.name={self.name}: {said}")
        if not all(_is_number(lr) and lr > 0 for lr in self.lrs):
            raise ConfigError(f"search.lrs: must be positive numbers, not {self.lrs}")
        for name in self.cache_from:
            if not isinstance(name, str):
                raise ConfigError(f"search.cache_from: must be names of searches, not {name}")
        slurm_options.check(self.slurm)
        self._check_strategy()
        self._check_mutations()

    def _check_strategy(self) -> None:
        if self.strategy != "random" and self.tournament > self.population:
            most = f"must be at most search.population={self.population}"
            raise ConfigError(f"search.tournament={self.tournament}: {most}")
        if self.strategy == "random" and self.max_statements < SHORTEST:
            least = f"must be at least {SHORTEST} with search.strategy=random"
            raise ConfigError(f"search.max_statements={self.max_statements}: {least}")
        if 0 < self.rotate_every <= self.num_incumbents:
            raise ConfigError(
                f"search.rotate_every={self.rotate_every}: must be more than "
                f"search.num_incumbents={self.num_incumbents}, or 0: in every round so many of the "
                "programs are incumbents that are judged again"
            )
        for warning in self.forbid:
            if warning not in WARNINGS:
                raise ConfigError(f"search.forbid={warning}: choose of: {', '.join(WARNINGS)}")

    def _check_mutations(self) -> None:
        known = ("insert", "delete", "modify", "wrap", "tune")
        for kind, weight in self.mutations.items():
            if kind not in known:
                raise ConfigError(f"search.mutations.{kind}: there are: {', '.join(known)}")
            if not (_is_number(weight) and weight >= 0):
                raise ConfigError(f"search.mutations.{kind}={weight}: must be a number, at least 0")
        if not sum(self.mutations.values()) > 0:
            raise ConfigError("search.mutations: at least one weight must be positive")

    def identity(self) -> dict[str, Any]:
        """What decides what is found, apart from the seed."""
        left_out = (*OPERATIONAL, *NAMES)
        kept = {key: value for key, value in asdict(self).items() if key not in left_out}
        kept["mutations"] = {kind: float(w) for kind, w in self.mutations.items() if w}
        if self.strategy == "random":  # before, programs that ignore the gradient were candidates
            kept["drawn"] = "reads the gradient"
        if self.mode == "free":  # then the batches decide who comes first
            kept["batch_size"] = self.batch_size
        return kept

    def id(self, seed: int, programs: Mapping[str, str]) -> str:
        """Name of the search's folder.

        Args:
            seed: Of the search.
            programs: Texts of what `initial` and `reference` name.
        """
        kept = {**self.identity(), **programs}
        text = json.dumps(kept, sort_keys=True)
        return f"{self.name}-s{seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def from_page(page: Mapping[str, Any]) -> SearchSettings:
    """Settings of a page with the changes of the command line.

    Raises:
        ConfigError: for a key that there is not, or a value that cannot be.
    """
    types = {one.name: str(one.type) for one in fields(SearchSettings)}
    for key, value in page.items():
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(types)}"
            raise ConfigError(f"search.{key}: no such key; {hint}")
        if not _fits(value, types[key]):
            raise ConfigError(f"search.{key}={value}: must be {types[key].replace(' | ', ' or ')}")
    return SearchSettings(**page)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _fits(value: Any, wanted: str) -> bool:
    """Whether a value has the type that an annotation names."""
    if value is None:
        return "None" in wanted
    kind = wanted.partition(" |")[0].partition("[")[0]
    if isinstance(value, bool) != (kind == "bool"):
        return False
    if kind == "float":
        return isinstance(value, int | float)
    return type(value).__name__ == kind
