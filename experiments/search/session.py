"""One sitting at a search: from where its log ends to the budget's end, then the final numbers."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from experiments.config import UserError
from experiments.search import events, finals, importing, probes
from experiments.search.controller import Controller
from experiments.search.evaluation import Tier, standard_of
from experiments.search.events import EventLog
from experiments.search.executors.build import build
from experiments.search.folder import SearchFolder
from experiments.search.language import Program
from experiments.search.live import Live
from experiments.search.operations import fingerprint
from experiments.search.proxies import families
from experiments.search.replay import restore
from experiments.search.screening import Screen
from experiments.search.settings import SearchSettings
from experiments.search.state import Rules, State, may_ask
from experiments.store import now, write_json, write_text


def run(folder: SearchFolder, settings: SearchSettings) -> int:
    """Searches until the budget is spent; may be stopped and called again at any time.

    Args:
        folder: The search's.
        settings: As asked for now: where and with how many workers may have changed.

    Returns:
        The exit code: 0, or 128 + the signal that stopped it.
    """
    with folder.lock.locked(), _stoppable() as stopped:
        rules = replace(folder.rules(), batch_size=settings.batch_size)
        importing.gather(folder, settings.cache_from)
        state = folder.empty_state()
        try:
            restore(rules, state, events.read_log(folder.events), folder.initial)
            _check_probes(folder, rules, state)
            _look_at_start(folder, rules, state)
            _note_session(folder, settings, state)
            _search(folder, settings, rules, state)
            _finish(folder, settings, rules, state)
        except KeyboardInterrupt:
            _write_status(folder, state, "interrupted")
            print(f"{folder.path.name}: stopped; the same command goes on", file=sys.stderr)
            return 128 + stopped[0]
    return 0


def _search(folder: SearchFolder, settings: SearchSettings, rules: Rules, state: State) -> None:
    if not state.in_flight and not may_ask(rules, state):
        return
    log = EventLog(folder.events)
    executor = build(settings, folder.path / "queue")
    try:
        with Live(folder.path.name, rules) as live:
            Controller(rules, state, executor, log.append, live).run()
    finally:
        executor.close()
        log.close()


def _finish(folder: SearchFolder, settings: SearchSettings, rules: Rules, state: State) -> None:
    """The best on fresh data; the population's hash, by which equal searches are known."""
    digest = state.strategy.digest()
    if not folder.finals.exists():
        rows = list(final_rows(settings, rules.tier, folder.initial, state))
        write_text(folder.finals, "".join(json.dumps(row) + "\n" for row in rows), durable=True)
    _write_status(folder, state, "finished", population=digest)
    told, counts = state.strategy.num_told, state.counts
    print(
        f"{folder.path.name}: {told} programs, {counts.evaluated} trainings, "
        f"{counts.cached} cached, {counts.dead} dead; population {digest[:12]}"
    )
    for row in folder.final_rows():
        print(f"  {describe_final(row)}")


def final_rows(
    settings: SearchSettings, tier: Tier, initial: Program, state: State
) -> Iterator[dict[str, Any]]:
    """The initial program and the finalists, judged on fresh data."""
    found = state.strategy.best(settings.num_finalists)
    best = [one for one in found if math.isfinite(one.fitness)]  # judged again, it may have failed
    programs = [initial, *(one.program for one in best)]
    judged = finals.evaluate(programs, tier, settings.final_rounds)
    numbers = [0, *(one.number for one in best)]
    searched = [None, *(one.fitness for one in best)]
    for number, on_search, program, final in zip(numbers, searched, programs, judged, strict=True):
        yield {
            "number": number,
            "kind": "initial" if on_search is None else "finalist",
            "on_search_data": on_search,
            **final.to_json(),
            "text": program.text(),
        }


def describe_final(row: dict[str, Any]) -> str:
    """One line for a person."""
    final = finals.Final.from_json(row)
    seen = row["on_search_data"]
    said = "" if seen is None else f" (its search counted {seen:+.4f}, in rounds of its own)"
    return f"{row['kind']} {row['number']}: {gain_text(final)} nats on fresh data{said}"


def gain_text(final: finals.Final) -> str:
    """Mean and standard error."""
    if not math.isfinite(final.mean):
        return "failed"
    error = final.standard_error
    return f"{final.mean:+.4f}" + ("" if math.isnan(error) else f" ± {error:.4f}")


def _check_probes(folder: SearchFolder, rules: Rules, state: State) -> None:
    """A search that has yet to screen or to judge must do so as it did.

    Raises:
        UserError: if another version of the probes, the language or its own family began it.
    """
    header = folder.read()
    if header.get("language", fingerprint()) != fingerprint():
        raise UserError(
            f"{folder.path.name}: begun with other functions of the language than there are here: "
            "start anew under another search.name, or go on with the code that began it"
        )
    name = folder.settings.family
    is_other = header.get("family_code", now := families.code(name)) != now
    if is_other and not folder.finals.exists():
        raise UserError(
            f"{folder.path.name}: the {families.part(name)} of {name} has changed since: "
            "start anew under another search.name, or go on with what began it"
        )
    begun = header.get("probes", 1)
    if begun != probes.VERSION and (state.in_flight or may_ask(rules, state)):
        raise UserError(
            f"{folder.path.name}: begun with version {begun} of the probes, here is "
            f"{probes.VERSION}: go on with the code that began it, or start anew under another "
            "search.name"
        )


def _look_at_start(folder: SearchFolder, rules: Rules, state: State) -> None:
    """What would spoil a search from its start on, before anything is trained.

    Raises:
        UserError: the reference does not train.
    """
    if state.strategy.num_told:
        return
    standard_of(rules.tier, 0)
    found = Screen(frozenset(folder.settings.forbid))(folder.initial)
    if found.cause is not None:
        print(
            f"note: the initial program {folder.settings.initial} is dead ({found.cause}), so that "
            "selection begins with its first living descendant; see search.initial, search.forbid",
            file=sys.stderr,
        )


def _note_session(folder: SearchFolder, settings: SearchSettings, state: State) -> None:
    import torch

    from experiments.distributed import World
    from experiments.surroundings import surroundings

    header = folder.read()
    facts = {"started": now(), "executor": settings.executor, "num_workers": settings.num_workers}
    facts |= {"batch_size": settings.batch_size, "told_before": state.strategy.num_told}
    header["sessions"].append(facts | surroundings(World(0, 1, torch.device("cpu"))))
    folder.write(header)
    _write_status(folder, state, "running")


def _write_status(folder: SearchFolder, state: State, what: str, **more: Any) -> None:
    counts = vars(state.counts)
    told = {"told": state.strategy.num_told, "asked": state.strategy.num_asked}
    write_json(folder.status, {"state": what, "updated": now(), **told, **counts, **more})


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """SIGTERM stops as Ctrl-C does; the list holds which of the two came."""
    came = [signal.SIGINT.value]

    def stop(number: int, _frame: object) -> None:
        came[0] = number
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
