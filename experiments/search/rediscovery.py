"""After how many trainings a search met sign momentum, and one as good as Lion.

Three milestones, each with the first program that reaches it:

    sign momentum    beta2 > 0: it signs something that remembers
    two averages     0 < beta1 != beta2 > 0: what is signed and what is kept differ, as in Lion
    as good as Lion  two averages, and on fresh data not more than a standard error behind Lion

Both are trained at the search's learning rates, and the best of them counts in each round: same
initial weights, same batches. The standard error is that of the paired differences over rounds.
Rounds that no search's final numbers used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from experiments.search import finals, sightings
from experiments.search.evaluation import Tier
from experiments.search.folder import SearchFolder
from experiments.search.history import History
from experiments.search.language import Program
from experiments.search.sightings import Sighting
from experiments.store import write_text

FILE = "rediscovery.json"
FIRST_ROUND = 1000
TOGETHER = 8
"""Programs trained side by side while looking for the first that is as good."""


class Behind(NamedTuple):
    """A program against Lion on fresh data: nats, negative where it is worse."""

    mean: float
    standard_error: float

    @property
    def is_as_good(self) -> bool:
        """Not more than one standard error behind."""
        return self.mean >= -self.standard_error


def measure(folder: SearchFolder, lion: Program, num_rounds: int = 16) -> dict[str, Any]:
    """The milestones of a search, written to its folder.

    Args:
        folder: Of a search that told something.
        lion: Lion, as a program.
        num_rounds: Of fresh data, at least 2.

    Returns:
        For each milestone `NAME_number`, `NAME_trained` (None: never reached), and what the program
        that is as good is worth.
    """
    history = History.of(folder)
    trained = _num_trained(history)
    numbers = ((event["number"], history.programs[event["number"]]) for event in history.events)
    found = list(sightings.find(numbers))
    with_memory = [one for one in found if one.lion.beta2]
    with_two = [one for one in with_memory if is_of_two_averages(one)]
    row: dict[str, Any] = {"num_rounds": num_rounds, "num_met": len(found)}
    for name, first in (
        ("sign_momentum", next(iter(with_memory), None)),
        ("two_averages", next(iter(with_two), None)),
    ):
        row |= _milestone(name, first, trained)
    good, behind = first_as_good(with_two, lion, folder.rules().tier, num_rounds)
    row |= _milestone("as_good", good, trained)
    row |= {"minus_lion": behind and behind.mean, "error": behind and behind.standard_error}
    row["text"] = good and good.program.text()
    write_text(folder.path / FILE, json.dumps(row, indent=2) + "\n", durable=True)
    return row


def is_of_two_averages(one: Sighting) -> bool:
    """Whether what is signed and what is kept are different averages, as in Lion."""
    beta1, beta2 = one.lion.beta1, one.lion.beta2
    return bool(beta1 and beta2 and beta1 != beta2)


def first_as_good(
    found: Sequence[Sighting], lion: Program, tier: Tier, num_rounds: int
) -> tuple[Sighting | None, Behind | None]:
    """The first of some programs that is as good as Lion on fresh data; None if none is.

    Args:
        found: In the order in which a search met them.
        lion: Lion, as a program.
        tier: Of the search.
        num_rounds: Of fresh data, at least 2.
    """
    if not found:
        return None, None
    against = finals.evaluate([lion], tier, num_rounds, FIRST_ROUND)[0]
    for begin in range(0, len(found), TOGETHER):
        part = found[begin : begin + TOGETHER]
        programs = [one.program for one in part]
        for one, behind in zip(part, _behind(programs, against, tier, num_rounds), strict=True):
            if behind.is_as_good:
                return one, behind
    return None, None


def _behind(
    programs: Sequence[Program], against: finals.Final, tier: Tier, num_rounds: int
) -> Iterator[Behind]:
    for final in finals.evaluate(programs, tier, num_rounds, FIRST_ROUND):
        pairs = [one - other for one, other in zip(final.gains, against.gains, strict=True)]
        if all(map(math.isfinite, pairs)):
            yield Behind(fmean(pairs), stdev(pairs) / math.sqrt(len(pairs)))
        else:
            yield Behind(-math.inf, 0.0)


def _num_trained(history: History) -> dict[int, int]:
    """By number of the candidate: programs trained, incumbents judged again included, by then."""
    count, trained = 0, {}
    for event in history.events:
        count += event["how"] == "evaluated"
        trained[event["number"]] = count
    return trained


def _milestone(name: str, one: Sighting | None, trained: dict[int, int]) -> dict[str, Any]:
    said = {
        "number": one and one.number,
        "trained": one and trained[one.number],
        "beta1": one and str(one.lion.beta1),
        "beta2": one and str(one.lion.beta2),
    }
    return {f"{name}_{key}": value for key, value in said.items()}
