"""The controller: one search whatever works for it, resumed exactly, replayed from its log."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import searched

from experiments.config import UserError
from experiments.search import library
from experiments.search.controller import Controller
from experiments.search.evaluation import Job
from experiments.search.events import EventLog, read, read_log
from experiments.search.executors.executor import Inline
from experiments.search.executors.simulated import Simulated
from experiments.search.history import History
from experiments.search.mutation import PAPER, Mutator
from experiments.search.replay import restore
from experiments.search.screening import Screening
from experiments.search.state import FREE
from experiments.search.training import InterpreterError

INITIAL = library.load(searched.INITIAL)
EVALUATED = searched.outcome(Job(INITIAL, searched.rules().tier, 0)).to_json()


def test_an_ordered_search_does_not_see_who_works_for_it() -> None:
    rules = searched.rules(400)
    first, log = searched.search(rules, searched.Pretended())
    for executor in (
        searched.Pretended(8),
        searched.Pretended(8, reverse=True),
        Simulated(5, seed=1),
    ):
        if isinstance(executor, Simulated):  # its fitnesses differ, so it is compared with itself
            one, _ = searched.search(rules, executor)
            other, _ = searched.search(replace(rules, batch_size=1), Simulated(64, seed=2))
            assert one.strategy.digest() == other.strategy.digest()
            continue
        other, other_log = searched.search(replace(rules, batch_size=3), executor)
        assert other.strategy.digest() == first.strategy.digest() and other_log == log
    other, _ = searched.search(replace(rules, window=33), searched.Pretended())
    assert other.strategy.digest() != first.strategy.digest()  # the window is part of the search


@pytest.mark.parametrize("mode", ["ordered", "free"])
def test_who_was_asked_for_first_is_judged_first(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an ordered search waits for the oldest, which comes last, with idle workers."""
    executor, sent = searched.Pretended(2, reverse=True), list[int]()
    rules, state = searched.rules(150, mode=mode, batch_size=3), searched.state()
    restore(rules, state, [], INITIAL)
    controller = Controller(rules, state, executor, lambda event: None)
    submit = executor.submit

    def noted(ticket: int, jobs: Any) -> None:
        sent.extend(controller._sent[ticket])
        submit(ticket, jobs)

    monkeypatch.setattr(executor, "submit", noted)
    controller.run()
    assert len(sent) > 30 and sent == sorted(sent)


def test_trained_fitness_does_not_see_the_batches() -> None:
    rules = searched.rules(80, window=16)
    first, log = searched.search(rules, Inline())
    other, other_log = searched.search(replace(rules, batch_size=1), Inline())
    assert other_log == log and other.strategy.digest() == first.strategy.digest()
    assert {event["how"] for event in log} == {"evaluated", "cached", "dead"}


def test_a_search_cut_anywhere_goes_on_to_the_same_end() -> None:
    rules = searched.rules(400)
    whole, log = searched.search(rules, searched.Pretended(3))
    cuts = random.Random(0).sample(range(400), 5)
    for cut in [0, 1, 399, 400, *cuts]:
        again, again_log = searched.search(rules, searched.Pretended(2, reverse=True), log[:cut])
        assert again_log == log and again.strategy.digest() == whole.strategy.digest()
        assert vars(again.counts) == vars(whole.counts)


@pytest.mark.parametrize("mode", ["ordered", "free"])
def test_a_log_replays_to_the_same_population(mode: str) -> None:
    rules = searched.rules(400, mode=mode)
    state, log = searched.search(rules, searched.Pretended(4, reverse=True))
    for again in (False, True):  # with the mutations of the log, and with mutations made anew
        replayed = searched.state()
        assert restore(rules, replayed, json.loads(json.dumps(log)), INITIAL, again) == 400
        assert replayed.strategy.digest() == state.strategy.digest()
        assert not replayed.in_flight


def test_free_mode_tells_in_the_order_of_finishing() -> None:
    rules = searched.rules(200, mode=FREE)
    _, log = searched.search(rules, searched.Pretended(4, reverse=True))
    told = [event["number"] for event in log if "asked" not in event]
    assert sorted(told) == list(range(200)) and told != sorted(told)


def test_a_free_search_loses_nothing_that_was_in_flight() -> None:
    rules = searched.rules(200, mode=FREE)
    _, log = searched.search(rules, searched.Pretended(4, reverse=True))
    _, again = searched.search(rules, searched.Pretended(), log[:150])
    told = [event["number"] for event in again if "asked" not in event]
    assert sorted(told) == list(range(200)) and again[:150] == log[:150]


def test_another_searchs_log_is_refused() -> None:
    rules = searched.rules(200)
    _, log = searched.search(rules, searched.Pretended())
    cached = next(event["number"] for event in log if event["how"] == "cached")
    cases = [
        ([*log[:cached], {**log[cached], "of": cached - 1}], "of would differ"),
        ([*log[:cached], {**log[cached], "how": "evaluated", **EVALUATED}], "it would not be"),
        ([*log[:50], *log[60:]], "candidate 50 should come before it"),
        ([*log[:50], *log[51:]], "candidate 50 should come before it"),
        ([*log[:51], *log[50:]], "told twice"),
    ]
    for damaged, said in cases:
        with pytest.raises(UserError, match=f"not of this search.*({said})"):
            restore(rules, searched.state(), damaged, INITIAL)
    with pytest.raises(UserError, match="the mutation comes out otherwise"):
        restore(rules, searched.state(seed=1), log, INITIAL, again=True)


def test_every_child_is_logged_with_a_parent_that_was_logged_before() -> None:
    _, log = searched.search(searched.rules(400), searched.Pretended(3))
    numbers = [event["number"] for event in log]
    assert numbers == list(range(400))
    for event in log[1:]:
        assert event["parent"] in numbers[: event["number"]]
        assert ("edit" in event) == (event["kind"] == "child")
        if event["how"] == "cached":
            origin = log[event["of"]]
            assert origin["how"] == "evaluated" and origin["key"] == event["key"]


def test_data_rotate_and_incumbents_are_judged_again() -> None:
    state, log = searched.search(searched.rules(400), searched.Pretended(3))
    rounds = [event["round"] for event in log if event["how"] == "evaluated"]
    assert set(rounds) == {0, 1, 2, 3}
    again = [event for event in log if event["kind"] == "recheck"]
    assert len(again) == 3 * 4 and all(event["how"] == "evaluated" for event in again)
    key = again[-1]["key"]
    seen = [event["fitness"] for event in log if event.get("key") == key and "fitness" in event]
    entry = state.cache.get(key)
    assert (
        entry is not None and len(seen) > 1 and entry.mean == pytest.approx(sum(seen) / len(seen))
    )


def test_a_budget_of_evaluations_ends_a_search() -> None:
    rules = searched.rules(10_000)
    rules = replace(rules, budget=replace(rules.budget, max_evaluations=60))
    state, log = searched.search(rules, searched.Pretended(4))
    assert state.counts.evaluated == 60
    again, _ = searched.search(rules, searched.Pretended(), log[:70])
    assert again.strategy.digest() == state.strategy.digest()


def test_a_fault_stops_the_search_and_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(jobs: object) -> None:
        raise InterpreterError("no such axis")

    monkeypatch.setattr("experiments.search.executors.executor.judge", broken)
    state, log = searched.state(), []
    restore(searched.rules(50), state, [], INITIAL)
    with pytest.raises(InterpreterError):
        Controller(searched.rules(50), state, Inline(), log.append).run()
    assert all(event["how"] == "dead" for event in log)


@pytest.mark.parametrize("mode, window, least", [("free", 128, 0.95), ("ordered", 256, 0.85)])
def test_64_workers_are_kept_busy(mode: str, window: int, least: float) -> None:
    executor = Simulated(64)
    state = searched.state()
    state.screen = AllNew()  # type: ignore[assignment]
    rules = searched.rules(6000, mode=mode, window=window, batch_size=1)
    Controller(rules, state, executor, lambda event: None).run()
    assert executor.utilisation >= least


class AllNew:
    """A screen that takes every text for a new program."""

    def __call__(self, program) -> Screening:
        return Screening(program.id, program.id)

    def restore(self, *_: object) -> None:
        pass


def test_a_cut_line_is_dropped_and_a_damaged_one_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for expected in ([], [{"number": 0}], [{"number": 0}, {"number": 0}]):
        assert list(read(path)) == expected
        log = EventLog(path)
        log.append({"number": 0})
        log.close()
        with path.open("a") as file:
            file.write('{"number": 1, "ki')
    path.write_text('{"number": 0}\noops\n{"number": 2}\n')
    with pytest.raises(UserError, match="line 2 is damaged"):
        list(read(path))
    path.write_text('{"number": 0}\n5\n')
    with pytest.raises(UserError, match="line 2 is damaged"):
        list(read(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"how": None}, "line 2 is of another version, or damaged .how"),
        ({"structure": None}, "line 2 is of another version, or damaged .structure"),
        ({"number": "one"}, "line 2 .*number"),
        ({"fitness": "good"}, "line 2 .*fitness"),
        ({"losses": None}, "line 2 .*losses"),
        ({"parent": 7}, "its parent 7 is missing"),
        ({"edit": [1]}, "its edit cannot be read"),
        ({"edit": ["delete", 99, []]}, "its edit is of no statement"),
        ({"edit": ["insert", 0, [["x", "my_own", "g"]]]}, "no function my_own of 1 arguments"),
        ({"number": 0}, "stands twice in the log"),
        ({"how": "cached", "of": 5}, "repeats 5, which is missing"),
    ],
)
def test_a_line_that_is_not_of_a_log_is_one_line(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    first: dict[str, Any] = {"number": 0, "after": 0, "kind": "initial", "structure": "a"}
    first |= {"key": "k", "how": "evaluated", "round": 0, **EVALUATED}
    second = {**first, "number": 1, "kind": "child", "parent": 0, "edit": ["delete", 0, []]}
    changed = {name: value for name, value in {**second, **change}.items() if value is not None}
    (path := tmp_path / "events.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(changed)}\n")
    with pytest.raises(UserError, match=said):
        History(read_log(path), INITIAL)


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    for damage in (b"\xff\xfe\n", b"\0\0\n", b"\n", b"[" * 10_000 + b"\n"):
        (path := tmp_path / "events.jsonl").write_bytes(b'{"number": 0}\n' + damage)
        with pytest.raises(UserError, match="line 2 is damaged"):
            list(read(path))


GOLDEN = "72d09847d7ffc2bb"
"""Of 400 evaluations: changes with the language, the mutations, the screening, the evolution."""


def test_golden_search() -> None:
    mutator = Mutator(tuple({**PAPER, "wrap": 1.0}.items()), is_guided=True)
    rules = searched.rules(10_000)
    rules = replace(rules, budget=replace(rules.budget, max_evaluations=400))
    start = searched.state(mutator=mutator, patience=200, restart_from="best")
    state, _ = searched.search(rules, searched.Pretended(4), start=start)
    assert state.counts.evaluated == 400 and state.strategy.num_restarts > 0
    assert state.strategy.digest()[:16] == GOLDEN
