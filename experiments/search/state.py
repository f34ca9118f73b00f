"""What a search knows at any moment, and the two things that happen to a candidate in it.

A candidate takes off (it was asked for; it is dead, known, or to be judged) and lands (the strategy
is told what it is worth, and its line is written). Replaying a log calls the same two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from experiments.search import events
from experiments.search.cache import Cache
from experiments.search.evaluation import Outcome, Tier
from experiments.search.screening import Screen, Screening
from experiments.search.strategy import RECHECK, Candidate, Strategy, Verdict

ORDERED, FREE = "ordered", "free"


@dataclass(frozen=True)
class Budget:
    """When to stop asking. What is in flight is still told."""

    num_candidates: int
    max_evaluations: int | None = None


@dataclass
class Flight:
    """A candidate between asking and telling."""

    candidate: Candidate
    screening: Screening
    after: int
    round_number: int
    needs_evaluation: bool = False
    outcome: Outcome | None = None


@dataclass
class Counts:
    """How a search goes."""

    evaluated: int = 0
    cached: int = 0
    dead: int = 0
    tries: int = 0
    steps: int = 0  # training steps of all lanes


@dataclass
class State:
    """All that a search knows; a log brings it back."""

    strategy: Strategy
    screen: Screen = field(default_factory=Screen)
    cache: Cache = field(default_factory=Cache)
    counts: Counts = field(default_factory=Counts)
    num_submitted: int = 0  # evaluations asked for
    in_flight: dict[int, Flight] = field(default_factory=dict)
    pending_rounds: set[tuple[str, int]] = field(default_factory=set)


@dataclass(frozen=True)
class Rules:
    """How a search is run."""

    tier: Tier
    budget: Budget
    mode: str = ORDERED
    window: int = 256  # candidates in flight
    batch_size: int = 16  # programs that train side by side
    rotate_every: int = 0  # candidates until the next round of data; 0: one round only

    def round_of(self, number: int) -> int:
        """The round of data that a candidate is judged on."""
        return number // self.rotate_every if self.rotate_every else 0


def may_ask(rules: Rules, state: State) -> bool:
    """Whether the budget allows another candidate."""
    most = rules.budget.max_evaluations
    has_evaluations = most is None or state.num_submitted < most
    return state.strategy.num_asked < rules.budget.num_candidates and has_evaluations


def take_off(
    rules: Rules, state: State, candidate: Candidate, screening: Screening | None = None
) -> Flight:
    """Decides how a candidate that has just been asked for will be judged.

    Args:
        rules: Of the search.
        state: Of the search.
        candidate: Newly asked for.
        screening: What a log says of it; None: to be screened.
    """
    screening = screening or state.screen(candidate.program)
    flight = Flight(candidate, screening, state.strategy.num_told, rules.round_of(candidate.number))
    state.in_flight[candidate.number] = flight
    key, round_number = screening.key, flight.round_number
    if key is None:
        return flight
    entry = state.cache.get(key)
    if entry is None:
        state.cache.reserve(key, candidate.number)
        flight.needs_evaluation = True
    elif candidate.kind == RECHECK and entry.is_known:
        is_judged = str(round_number) in entry.fitness
        flight.needs_evaluation = not is_judged and (key, round_number) not in state.pending_rounds
    if flight.needs_evaluation:
        state.pending_rounds.add((key, round_number))
        state.num_submitted += 1
    return flight


def is_ready(state: State, flight: Flight) -> bool:
    """Whether it is known what a candidate is worth."""
    if flight.needs_evaluation:
        return flight.outcome is not None
    if flight.screening.key is None:
        return True
    entry = state.cache.get(flight.screening.key)
    return entry is not None and entry.is_known


def land(state: State, flight: Flight) -> events.Event:
    """Tells the strategy what a candidate is worth.

    Returns:
        The event to log. It is logged after telling: a crash in between repeats the telling.
    """
    candidate, screening, counts = flight.candidate, flight.screening, state.counts
    event = events.describe(candidate, flight.after)
    event["structure"] = screening.structure
    if screening.key is None:
        event.update(how="dead", cause=screening.cause)
        fitness = -math.inf
        counts.dead += 1
    else:
        event["key"] = screening.key
        entry = state.cache.get(screening.key)
        assert entry is not None
        if flight.needs_evaluation:
            assert flight.outcome is not None
            fitness = _note(state, flight, flight.outcome)
            event.update(how="evaluated", round=flight.round_number, **flight.outcome.to_json())
            counts.evaluated += 1
            counts.steps += flight.outcome.num_steps
        else:
            event.update(how="cached", of=entry.origin)
            fitness = entry.mean
            counts.cached += 1
    if screening.flags:
        event["flags"] = list(screening.flags)
    counts.tries += candidate.num_tries
    del state.in_flight[candidate.number]
    state.strategy.tell(candidate.number, Verdict(fitness, screening.key))
    return event


def _note(state: State, flight: Flight, outcome: Outcome) -> float:
    key, round_number = flight.screening.key, flight.round_number
    assert key is not None
    state.pending_rounds.discard((key, round_number))
    return state.cache.add(key, str(round_number), outcome.fitness)
