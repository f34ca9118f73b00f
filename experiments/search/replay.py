"""A log brings a search back: to resume it, or to show that it was what it says.

Nothing is screened or trained again. Each logged line is made anew from the state, and must come
out the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from experiments.config import UserError
from experiments.search import events
from experiments.search.evaluation import Outcome
from experiments.search.events import Event
from experiments.search.language import Program
from experiments.search.screening import Screening
from experiments.search.state import ORDERED, Rules, State, is_ready, land, may_ask, take_off


def restore(
    rules: Rules, state: State, log: Iterable[Event], initial: Program, again: bool = False
) -> int:
    """Takes a search to where its log ends; what is in flight then is to be judged.

    Args:
        rules: Of the search.
        state: Empty.
        log: Its events, in their order; none: a new search.
        initial: Where it starts.
        again: Also make every mutation again, and compare.

    Returns:
        How many candidates were told.

    Raises:
        UserError: if the log is not of this search.
    """
    return _Replay(rules, state, list(log), initial, again).run()


class _Replay:
    def __init__(
        self, rules: Rules, state: State, log: list[Event], initial: Program, again: bool
    ) -> None:
        self.rules, self.state, self.initial, self.again = rules, state, initial, again
        self.log = log
        self.told = {event["number"]: event for event in log if "asked" not in event}
        self.programs: dict[int, Program] = {}
        self.line = 0

    def run(self) -> int:
        is_ordered = self.rules.mode == ORDERED
        if is_ordered:
            self._fill()
        for line, event in enumerate(self.log, 1):
            self.line = line
            if "asked" in event:
                self._take_off(event["asked"])
                continue
            self._land(event)
            if is_ordered:
                self._fill()
        return len(self.told)

    def _fill(self) -> None:
        """As the controller does in ordered mode: by the window alone."""
        while len(self.state.in_flight) < self.rules.window and may_ask(self.rules, self.state):
            number = self.state.strategy.num_asked
            if number in self.told:
                self._take_off(self.told[number])
            else:  # in flight when the log ended
                candidate = self.state.strategy.ask()
                self.programs[number] = candidate.program
                take_off(self.rules, self.state, candidate)

    def _take_off(self, event: Event) -> None:
        """A candidate as the log has it; screened by the log if it was told."""
        candidate = events.candidate_of(event, self.programs, self.initial)
        if self.again and self.state.strategy.ask() != candidate:
            raise self._other(event, "the mutation comes out otherwise")
        if not self.again:
            self.state.strategy.adopt(candidate)
        told = self.told.get(candidate.number)
        screening = None if told is None else _screening(told)
        if screening is not None:
            arguments = screening.structure, screening.key, screening.cause
            self.state.screen.restore(*arguments, candidate.program)
        take_off(self.rules, self.state, candidate, screening)

    def _land(self, event: Event) -> None:
        flight = self.state.in_flight.get(event["number"])
        if flight is None:
            raise self._other(event, "it was never asked for, or told twice")
        expected = self.state.strategy.num_told
        if self.rules.mode == ORDERED and event["number"] != expected:
            raise self._other(event, f"candidate {expected} should come before it")
        if event["how"] == "evaluated":
            flight.outcome = Outcome.from_json(event)
        if flight.needs_evaluation != (event["how"] == "evaluated"):
            raise self._other(event, f"it would not be {event['how']}")
        if not is_ready(self.state, flight):
            raise self._other(event, "what it repeats is not known")
        if (made := land(self.state, flight)) != event:
            differing = [key for key in made if made[key] != event.get(key)]
            raise self._other(event, f"{', '.join(differing) or 'a field'} would differ")

    def _other(self, event: Event, what: str) -> UserError:
        who = f"line {self.line} of the log, candidate {event.get('number')},"
        if self.line == 0:
            who = f"candidate {event.get('number')} of the log"
        return UserError(
            f"{who} is not of this search ({what}): use the version and the settings that made it; "
            f"if the file was damaged, keep a copy and cut it off before that line: what is "
            "missing is made again"
        )


def _screening(event: Event) -> Screening:
    flags = tuple(event.get("flags", ()))
    return Screening(event["structure"], event.get("key"), event.get("cause"), False, flags)
