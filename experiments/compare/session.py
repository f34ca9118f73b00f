"""Leads one comparison from its first run to its verdict: prints, asks, writes."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.compare import as_json, cost, protocol, verdict
from experiments.compare.asking import Answer, Ask, Notice, Unheeding, converse, digits
from experiments.compare.ledger import Ledger, writing_to
from experiments.compare.plan import Contestant, Pilot, Plan, Remark, Result, leave_out_decay
from experiments.compare.search import Search
from experiments.compare.spoken import decimals_of
from experiments.compare.verdict import Words
from experiments.config import UserError
from experiments.rounded import rounded
from experiments.store import write_text


@dataclass(frozen=True)
class Options:
    """How a comparison is led."""

    num_workers: int = 1
    yes: bool = False  # go on after the pilot without being asked
    json: bool = False  # end with one line for programs
    heard: Callable[[Notice], None] = lambda notice: None  # who else is told of every notice


class Declined(UserError):
    """The user does not want to go on."""


def welcome(path: Path, plan: Plan, tuned: str, reported: str) -> None:
    """What is going to happen, and by which numbers."""
    also = f"{reported} gives the verdict" if reported != tuned else "and gives the verdict, too"
    names = " and ".join(one.label for one in plan.others)
    print(
        f"Comparing {names} with {plan.baseline.label} in {path}; {tuned} decides the tuning, "
        f"{also} ({plan.better} is better). Ctrl-C at any time, the same command goes on.",
        flush=True,
    )


def lead(
    plan: Plan,
    words: Words,
    ledger: Ledger,
    run: Callable[[Sequence[Ask]], list[Answer]],
    options: Options,
    check: Callable[[Pilot], Iterable[Remark]] = lambda pilot: (),
    remarks: Sequence[str] = (),
) -> Result:
    """Runs the protocol; prints as it goes, and the verdict in the end.

    `check`: is told of the pilot before anything is asked; says what to beware of, or refuses.
    Both, and `remarks`, stand below the verdict.

    Raises:
        Declined: where the user does not want to go on.
        UserError: where the comparison would mean nothing.
    """
    started, warnings = time.monotonic(), list[Remark]()

    def hear(notice: Notice) -> None:
        options.heard(notice)
        for line in said_of(notice, words, options):
            print(line, flush=True)
        if notice.kind == "pilot":
            for remark in check(notice.facts["pilot"]):
                warnings.append(remark)
                print(remark.said, flush=True)
            _ask(options, plan, notice.facts["pilot"], ledger)

    try:
        result: Result = converse(protocol.compare(plan), run, hear)
    except Unheeding:
        ledger.forget_pilot()
        raise
    seconds = sum(e.get("seconds") or 0.0 for e in ledger.known.values())
    seconds = seconds or time.monotonic() - started
    leave_out_decay(result, {one.without_decay for one in warnings if one.without_decay})
    remarks = [*(one.said for one in warnings), *remarks]
    lines = [*verdict.sentences(result, words), *remarks]
    text = "\n".join(lines) + "\n"
    row = as_json.as_json(result, words, seconds, remarks)
    with writing_to(ledger.path):
        write_text(ledger.path / "verdict.txt", text)
        write_text(ledger.path / "verdict.json", row + "\n")
        ledger.write_table()
    print(f"\n{text}\n{len(ledger.known)} runs, {ledger.path / 'trials.csv'}")
    if options.json:
        print(row)
    return result


def said_of(notice: Notice, words: Words, options: Options) -> list[str]:
    """A notice as lines for people."""
    facts = notice.facts
    if notice.kind == "pilot":
        return _said_of_pilot(facts["pilot"], facts["plan"], words, options)
    if notice.kind == "extended":
        label = facts["contestant"].label
        return [f"{label}: its best lies on an edge; {facts['trials']} trials more, for all."]
    if notice.kind == "scouted":
        label, search = facts["contestant"].label, facts["search"]
        begins = f"lr {search.start.lr:g}, weight decay {search.start.weight_decay:g}"
        return [f"{label} begins at {begins}: the best of {search.num_scouts} runs, decades apart."]
    if notice.kind == "tuned":
        return [_said_of_search(facts["contestant"], facts["search"])]
    if notice.kind == "planned":
        result = facts["result"]
        size = f"{digits(result.effect, 2):g} {words.unit}".rstrip()
        ask = f"{result.n} fresh seeds each to find {size} (sd of a run {digits(result.sd, 2):g})"
        return [f"Final: {ask}, at {_picks(result)}."]
    if notice.kind == "look" and not facts["is_last"]:
        decided = " and ".join(judged.contestant.label for judged in facts["settled"])
        state = f"decided for {decided}" if decided and facts["waiting"] else "decided"
        state = state if decided else "not decided yet"
        return [f"First look, after {facts['n']} seeds: {state}."]
    return []


def _said_of_pilot(pilot: Pilot, plan: Plan, words: Words, options: Options) -> list[str]:
    same = f"the same seed twice differs by {pilot.rounding:.2g} sd; "
    if not pilot.rounding:
        same = "the same seed gives the same number; "
    if pilot.rounding != pilot.rounding:
        same = ""
    values = f"{_values(pilot.tune, pilot.sd)} (sd {digits(pilot.sd, 2):g})"
    tuned = f"{words.tuned} {values} {words.unit}".strip()
    reported = f"{words.metric} {_values(pilot.report, pilot.sd)}; " if words.held_out else ""
    lines = [
        f"Pilot: {plan.baseline.label} as it is, 3 seeds: {tuned}; {reported}{same}"
        f"{cost.duration(pilot.seconds)} a run."
    ]
    return [*lines, *cost.price(plan, pilot, options.num_workers, words.unit)]


def _values(values: Sequence[float], sd: float) -> str:
    places = decimals_of(sd)
    return ", ".join(rounded(one, places) if math.isfinite(one) else "lost" for one in values)


def _said_of_search(one: Contestant, search: Search) -> str:
    pick, lost = search.pick, int((~_finite(search.y)).sum())
    ended = f", {lost} of them diverged or lost" if lost else ""
    return (
        f"{one.label}: lr {pick.lr:g}, weight decay {pick.weight_decay:g} after "
        f"{search.num_trials} trials{ended}."
    )


def _finite(values: Any) -> Any:
    import numpy as np

    return np.isfinite(values)


def _picks(result: Result) -> str:
    said = [
        f"{one.contestant.label} lr {one.pick.lr:g} and weight decay {one.pick.weight_decay:g}"
        for one in result.tuned.values()
    ]
    return ", ".join(said)


def _ask(options: Options, plan: Plan, pilot: Pilot, ledger: Ledger) -> None:
    """Whether to go on at that price; not asked again once it was answered."""
    agreed = [event for event in ledger.events() if event["event"] == "agreed"]
    effect = plan.effect * pilot.sd if plan.effect_in_sd else plan.effect
    if options.yes or any(_covers(event, plan.budget, effect) for event in agreed):
        return
    if not sys.stdin.isatty():
        raise Declined("nobody to ask: say --yes to go on at this price")
    try:
        answer = input("Go on? [y/N] ").strip().lower()
    except EOFError:
        answer = ""
    if answer not in ("y", "yes"):
        raise Declined("not started; the pilot is kept, and the same command asks again")
    ledger.note("agreed", budget=plan.budget, effect=effect)


def _covers(agreed: dict[str, Any], budget: int, effect: float) -> bool:
    """Whether what was agreed to costs at least as much: more trials, or a smaller difference to
    find, is another price."""
    return agreed["budget"] >= budget and agreed.get("effect", 0.0) <= effect * (1 + 1e-9)


class Progress:
    """A live line on a terminal, a line per minute elsewhere."""

    def __init__(self, every_seconds: float = 60.0) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._every = every_seconds
        self._said_at = time.monotonic()
        self._live: Any = None

    def show(self, running: list[Ask], so_far: str, remark: str = "") -> None:
        """Refreshes what is shown; an empty list of what runs ends it. `remark`: of the first."""
        if not running:
            self.stop()
            return
        first = running[0]
        what = f"{first.optimizer} {first.phase}: lr {first.lr:g}, wd {first.weight_decay:g}"
        more = f" and {len(running) - 1} more" if len(running) > 1 else ""
        remark = f", {remark}" if remark else ""
        line = f"{so_far}; {what}, seed {first.seed}{remark}{more}"
        if self._console.is_terminal:
            self._show_live(line)
        elif time.monotonic() - self._said_at > self._every:
            self._said_at = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    def _show_live(self, line: str) -> None:
        from rich.status import Status

        if self._live is None:
            self._live = Status(line, console=self._console)
            self._live.start()
        self._live.update(line)

    def stop(self) -> None:
        """Takes the live line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def folder_of(root: Path, name: str | None, default: str) -> Path:
    """Where a comparison lies.

    Raises:
        UserError: for a name that is a path.
    """
    chosen = name or default
    if Path(chosen).name != chosen:
        raise UserError(f"--name {chosen!r}: give a name, not a path; --dir says where")
    return root / chosen
