"""What a search has done, read from its log: a table, its programs, the way to one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.config import UserError
from experiments.search import events, liveness
from experiments.search.events import Event
from experiments.search.folder import SearchFolder
from experiments.search.language import Program

if TYPE_CHECKING:
    import pandas as pd

IMPORTED = -1
"""In place of the number of the candidate that was trained."""
COLUMNS = {
    "number": "of the candidate, in the order of asking",
    "told": "position in the order of telling",
    "kind": "initial, child or recheck",
    "parent": "number of the candidate it was made from",
    "change": "the edit, as one line",
    "tries": "mutants drawn until one was valid; random search: and read the gradient",
    "how": "evaluated, cached or dead",
    "of": "cached: number of the candidate that was trained; -1: by another search (`cache_from`)",
    "cause": "of death",
    "round": "of the data",
    "fitness": "nats below the reference on that data; of a cached one, of its first evaluation",
    "num_evaluated": "trained programs up to here",
    "best_number": "candidate that the best program was first met as",
    "best": "highest mean fitness up to here of any program told; rechecks lower it",
    "num_statements": "of the program",
    "num_live": "statements that matter",
    "warnings": "e.g. own step size",
    "key": "functional hash",
}
"""Columns of `table`."""


@dataclass(frozen=True)
class Step:
    """One step of a lineage."""

    number: int
    change: str
    fitness: float | None
    program: Program


class History:
    """The told candidates of a search, and their programs."""

    def __init__(
        self,
        told: Iterable[Event],
        initial: Program,
        imported: Mapping[str, Sequence[float | None]] | None = None,
    ) -> None:
        """Reads events.

        Args:
            told: Of the search.
            initial: Where it starts.
            imported: What other searches knew, see `importing.fitnesses`.
        """
        self.initial, self.imported = initial, imported or {}
        self.events: list[Event] = []
        self.by_number: dict[int, Event] = {}
        self.programs: dict[int, Program] = {}
        for event in told:
            if "asked" in event:
                asked = event["asked"]
                events.candidate_of(asked, self.programs, initial)
            else:
                if event["number"] not in self.programs:
                    events.candidate_of(event, self.programs, initial)
                self._note(event)

    def _note(self, event: Event) -> None:
        """Keeps a told candidate.

        Raises:
            UserError: it was told before, or what it repeats was not.
        """
        number, origin = event["number"], event.get("of", IMPORTED)
        if number in self.by_number:
            raise UserError(f"candidate {number} stands twice in the log: {events.REMEDY}")
        if origin != IMPORTED and origin not in self.by_number:
            said = f"repeats {origin}, which is missing"
            raise UserError(f"candidate {number} of the log {said}: {events.REMEDY}")
        self.events.append(event)
        self.by_number[number] = event

    @classmethod
    def of(cls, folder: SearchFolder) -> History:
        """Reads a search's log.

        Raises:
            UserError: if it has none.
        """
        from experiments.search.importing import fitnesses

        history = cls(events.read_log(folder.events), folder.initial, fitnesses(folder))
        if not history.events:
            raise UserError(f"{folder.path.name}: nothing was told yet; go on with job=search")
        return history

    def table(self) -> pd.DataFrame:
        """One row per told candidate, with the columns of `COLUMNS`."""
        import pandas as pd

        means = Means()
        rows = []
        count = 0
        first_fitness: dict[str, float | None] = {}
        for told, event in enumerate(self.events):
            program = self.programs[event["number"]]
            key = event.get("key") or ""
            if event.get("of") == IMPORTED and key not in first_fitness:
                first_fitness[key] = self.imported[key][0]
                for fitness in self.imported[key]:
                    means.add(key, fitness, event["number"])
            if event["how"] == "evaluated":
                count += 1
                means.add(key, event["fitness"], event["number"])
                first_fitness.setdefault(key, event["fitness"])
            rows.append(
                {
                    **{name: event.get(name) for name in COLUMNS},
                    "told": told,
                    "change": self.change(event),
                    "fitness": event.get("fitness", first_fitness.get(key)),
                    "num_evaluated": count,
                    "best": means.best,
                    "best_number": means.best_number,
                    "num_statements": len(program),
                    "num_live": len(liveness.analyse(program).kept),
                    "warnings": ", ".join(event.get("flags", ())),
                }
            )
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def change(self, event: Event) -> str:
        """A candidate's edit as one line."""
        if "edit" not in event:
            return "judged again" if event["kind"] == "recheck" else "initial program"
        parent = self.programs.get(event.get("parent", -1))
        return events.Edit.from_json(event["edit"]).text(parent)

    def lineage(self, number: int) -> list[Step]:
        """From the initial program (or where a random one was drawn) to a candidate.

        Raises:
            UserError: if there is no such candidate.
        """
        if number not in self.by_number:
            raise UserError(f"candidate {number}: there are 0 to {len(self.by_number) - 1}")
        steps = []
        at: int | None = number
        while at is not None:
            event = self.by_number[at]
            if event["kind"] != "recheck":
                steps.append(Step(at, self.change(event), self.fitness(event), self.programs[at]))
            at = event.get("parent")
        return steps[::-1]

    def fitness(self, event: Event) -> float | None:
        """On the data that its program was first judged on; None if dead or failed."""
        if event.get("of") == IMPORTED:
            return self.imported[event["key"]][0]
        origin = self.by_number[event["of"]] if event["how"] == "cached" else event
        return origin.get("fitness")


class Means:
    """Mean fitness by program, and the highest of them."""

    def __init__(self) -> None:
        self._all: dict[str, tuple[float, int, int]] = {}  # sum, count, number when first met
        self._best_key: str | None = None

    @property
    def best(self) -> float | None:
        """The highest mean."""
        return None if self._best_key is None else self._mean(self._best_key)

    @property
    def best_number(self) -> int | None:
        """Number of the candidate that it was first met as."""
        return None if self._best_key is None else self._all[self._best_key][2]

    def add(self, key: str, fitness: float | None, number: int) -> None:
        """One more evaluation; None: failed, and the program is out."""
        total, count, first = self._all.get(key, (0.0, 0, number))
        self._all[key] = total + (float("-inf") if fitness is None else fitness), count + 1, first
        if self._best_key is None or self._mean(key) > self._mean(self._best_key):
            self._best_key = key
        elif key == self._best_key:  # it fell back: another may be ahead now
            self._best_key = max(self._all, key=self._mean)

    def _mean(self, key: str) -> float:
        total, count, _ = self._all[key]
        return total / count


def totals(table: Any) -> dict[str, float]:
    """Shares and sums over a whole search; `children`: programs without the initial one and
    rechecks; `rechecks`: trainings that judge incumbents again.

    Args:
        table: As `History.table` gives it.
    """
    told, tries = len(table), table.tries.fillna(1).sum()
    evaluated = int((table.how == "evaluated").sum())
    return {
        "programs": told,
        "children": int((table.kind == "child").sum()),
        "trained": evaluated,
        "rechecks": int(((table.how == "evaluated") & (table.kind == "recheck")).sum()),
        "cache factor": told / max(1, evaluated),
        "cached %": 100 * float((table.how == "cached").mean()),
        "dead %": 100 * float((table.how == "dead").mean()),
        "invalid mutants %": 100 * float(1 - told / tries),
        "redundant statements %": 100
        * float(1 - table.num_live.sum() / table.num_statements.sum()),
        "own step size %": 100 * float(table.warnings.str.contains("own step size").mean()),
    }
