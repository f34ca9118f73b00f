"""Runs a search: asks, screens, sends what is new to the workers, tells, logs.

`ordered`: candidate i is asked for when exactly those before i - window + 1 have been told, and
they are told in the order of their numbers, whoever finishes first; so the search is a function of
its seed and its window, with any number of workers of any kind. `free`: what finishes is told at
once; the log has the order, and `replay` follows it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from experiments.search import events
from experiments.search.evaluation import Job
from experiments.search.executors.executor import Executor
from experiments.search.state import FREE, ORDERED, Rules, State, is_ready, land, may_ask, take_off


class Controller:
    """The loop."""

    def __init__(
        self,
        rules: Rules,
        state: State,
        executor: Executor,
        log: Callable[[events.Event], None],
        on_change: Callable[[State], None] = lambda state: None,
    ) -> None:
        self.rules, self.state, self.executor = rules, state, executor
        self._log, self._on_change = log, on_change
        self._waiting: deque[int] = deque()  # numbers to evaluate, not yet sent
        self._sent: dict[int, list[int]] = {}
        self._next_ticket = 0
        for number, flight in sorted(state.in_flight.items()):
            if flight.needs_evaluation and flight.outcome is None:
                self._waiting.append(number)

    def run(self) -> None:
        """Until the budget is spent and everything is told.

        Raises:
            InterpreterError: for a fault of ours, which is never taken for a bad program.
        """
        self._fill()
        while self.state.in_flight:
            self._dispatch()
            told = self._tell_ready()
            if not told and self.state.in_flight:
                assert self._sent, f"nobody judges what is waited for: {[*self.state.in_flight]}"
                self._receive()
            self._on_change(self.state)

    def _fill(self) -> None:
        """Asks until the window is full or the budget is spent."""
        while len(self.state.in_flight) < self.rules.window and may_ask(self.rules, self.state):
            candidate = self.state.strategy.ask()
            flight = take_off(self.rules, self.state, candidate)
            if flight.needs_evaluation:
                self._waiting.append(candidate.number)
            if self.rules.mode == FREE:
                self._log({"asked": events.describe(candidate, flight.after)})

    def _dispatch(self) -> None:
        """Sends what waits, in batches of one size, or evenly where there is less."""
        while self._waiting and (room := self.executor.room()):
            share = math.ceil(len(self._waiting) / room)
            count = min(self.rules.batch_size, max(1, share))
            numbers = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
            flights = [self.state.in_flight[number] for number in numbers]
            jobs = [Job(f.candidate.program, self.rules.tier, f.round_number) for f in flights]
            self._sent[self._next_ticket] = numbers
            self.executor.submit(self._next_ticket, jobs)
            self._next_ticket += 1

    def _receive(self) -> None:
        """Waits for outcomes."""
        for ticket, outcomes in self.executor.collect():
            for number, outcome in zip(self._sent.pop(ticket), outcomes, strict=True):
                self.state.in_flight[number].outcome = outcome

    def _tell_ready(self) -> bool:
        """Tells what is known, each time filling the window again."""
        told = False
        while (number := self._next_ready()) is not None:
            flight = self.state.in_flight[number]
            self._log(land(self.state, flight))
            told = True
            self._fill()
        return told

    def _next_ready(self) -> int | None:
        flights = self.state.in_flight
        if self.rules.mode == ORDERED:
            first = self.state.strategy.num_told
            return first if first in flights and is_ready(self.state, flights[first]) else None
        return next((n for n, f in flights.items() if is_ready(self.state, f)), None)
