"""How a search goes, while it goes: pace, cache hits, the best program, the time left."""

from __future__ import annotations

import math
import time
from typing import Any

from experiments.search.state import Rules, State

REFRESH_SECONDS = 1.0
PLAIN_SECONDS = 60.0


class Live:
    """A table on a terminal, a line per minute elsewhere. Use as a context; call with the state."""

    def __init__(self, name: str, rules: Rules) -> None:
        from rich.console import Console
        from rich.live import Live as View

        console = Console(stderr=True)
        self._name, self._rules = name, rules
        self._is_terminal = console.is_terminal
        self._view = View(console=console, auto_refresh=False)
        self._shown_at = 0.0
        self._start: tuple[float, int, int] | None = None

    def __enter__(self) -> Live:
        if self._is_terminal:
            self._view.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            self._view.stop()

    def __call__(self, state: State) -> None:
        """Refreshes what is shown; cheap to call often."""
        now = time.monotonic()
        if self._start is None:
            self._start = now, state.strategy.num_told, state.counts.evaluated
            self._shown_at = now if not self._is_terminal else 0.0
        pause = REFRESH_SECONDS if self._is_terminal else PLAIN_SECONDS
        if now - self._shown_at < pause:
            return
        self._shown_at = now
        start, told, evaluated = self._start
        seconds = max(now - start, 1e-9)
        rates = (
            (state.strategy.num_told - told) / seconds,
            (state.counts.evaluated - evaluated) / seconds,
        )
        facts = summary(state, self._rules, *rates)
        if self._is_terminal:
            self._view.update(as_table(self._name, facts, state), refresh=True)
        else:
            print(", ".join(f"{value} {key}" for key, value in facts.items()), flush=True)


def summary(
    state: State, rules: Rules, told_per_s: float, evaluated_per_s: float
) -> dict[str, str]:
    """What to show, by name.

    Args:
        state: Of the search.
        rules: Of the search.
        told_per_s: Programs a second, in this session.
        evaluated_per_s: Trained programs a second.
    """
    told, counts = state.strategy.num_told, state.counts
    best = state.strategy.best(1)
    facts = {
        f"of {rules.budget.num_candidates} programs": f"{told}",
        "programs/s": f"{told_per_s:.1f}",
        "trainings": f"{counts.evaluated} ({evaluated_per_s:.1f}/s)",
        "cached": _share(counts.cached, told),
        "dead": _share(counts.dead, told),
        "drawn again": _share(counts.tries - told, counts.tries),
        "best gain": f"{best[0].fitness:+.4f} nats" if best else "none",
    }
    if left := _time_left(state, rules, told_per_s, evaluated_per_s):
        facts["left"] = left
    return facts


def _share(part: int, whole: int) -> str:
    return f"{100 * max(0, part) / whole:.0f} %" if whole else "-"


def _time_left(state: State, rules: Rules, told_per_s: float, evaluated_per_s: float) -> str:
    """By whichever budget will be spent first."""
    from experiments.sweep.live import duration

    budget = rules.budget
    waits = []
    if told_per_s > 0:
        waits.append((budget.num_candidates - state.strategy.num_told) / told_per_s)
    if budget.max_evaluations is not None and evaluated_per_s > 0:
        waits.append(max(0, budget.max_evaluations - state.counts.evaluated) / evaluated_per_s)
    least = min(waits, default=math.inf)
    return duration(least) if math.isfinite(least) else ""


def as_table(name: str, facts: dict[str, str], state: State) -> Any:
    """Facts on the left, the best program on the right."""
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 1))
    for key, value in facts.items():
        table.add_row(key, value)
    best = state.strategy.best(1)
    text = best[0].program.text() if best else ""
    return Columns([Panel(table, title=name), Panel(text, title="best so far")])
