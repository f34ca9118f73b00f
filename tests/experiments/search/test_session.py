"""A search as a user sees it: called again it goes on, told once it is not repeated."""

from __future__ import annotations

import io
import json
import math
import os
import random
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import searched
from rich.console import Console

from experiments.compose import compose
from experiments.config import ConfigError, UserError
from experiments.jobs.search import read_page, start
from experiments.search import (
    collect,
    commands,
    events,
    finals,
    importing,
    operations,
    probes,
    session,
)
from experiments.search import folder as folders
from experiments.search.collect import sightings_of
from experiments.search.executors import slurm
from experiments.search.finals import Final
from experiments.search.folder import SearchFolder
from experiments.search.history import COLUMNS, History, totals
from experiments.search.language import parse
from experiments.search.live import Live, as_table, summary
from experiments.search.screening import Screen
from experiments.search.settings import SearchSettings, from_page
from experiments.search.strategy import Individual
from experiments.search.training import InterpreterError
from experiments.store import HeldError, read_json, write_json

SMOKE = read_page("smoke")
SHORT = {**SMOKE, "num_candidates": 120, "rotate_every": 40, "num_incumbents": 2, "window": 12}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SearchFolder:
    """A search that nobody has disturbed."""
    root = tmp_path_factory.mktemp("whole")
    assert start(SHORT, 0, root) == 0
    return SearchFolder(next(root.iterdir()))


def ended(root: Path) -> SearchFolder:
    assert start(SHORT, 0, root) == 0
    return SearchFolder(next(root.iterdir()))


def same(one: SearchFolder, other: SearchFolder) -> bool:
    population = [read_json(folder.status)["population"] for folder in (one, other)]
    files = [(f.events.read_bytes(), f.finals.read_bytes()) for f in (one, other)]
    return (
        one.path.name == other.path.name and population[0] == population[1] and files[0] == files[1]
    )


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing is tidied."""


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_search_ends_as_if_it_had_not_been(
    tmp_path: Path, whole: SearchFolder, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """`scripts/search_kills.py` does it with real signals."""
    lengths = sorted(random.Random(seed).sample(range(120), 3))
    append = session.EventLog.append
    for length in lengths:

        def until(log: Any, event: Any, length: int = length) -> None:
            if event["number"] >= length:
                raise Killed
            append(log, event)

        monkeypatch.setattr(session.EventLog, "append", until)
        with pytest.raises(Killed):
            start(SHORT, 0, tmp_path)
        (folder,) = tmp_path.iterdir()
        with (folder / "events.jsonl").open("a") as file:
            file.write('{"number":')  # the line that it was writing
    monkeypatch.setattr(session.EventLog, "append", append)
    assert f"stopped; the same command goes on, {lengths[-1]} of 120" in commands._line(folder)
    assert same(ended(tmp_path), whole)
    assert len(SearchFolder(folder).read()["sessions"]) == 4


def test_ctrl_c_stops_with_a_line_and_the_same_command_goes_on(
    tmp_path: Path, whole: SearchFolder, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(session.Controller, "_receive", interrupted)
        assert start(SHORT, 0, tmp_path) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert read_json(next(tmp_path.iterdir()) / "status.json")["state"] == "interrupted"
    assert same(ended(tmp_path), whole)


def test_a_finished_search_is_only_reported(
    whole: SearchFolder, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(session, "build", None)  # no worker may be started
    assert start(SHORT, 0, whole.path.parent) == 0
    said = capsys.readouterr().out
    assert "120 programs" in said and "finalist" in said and "on fresh data" in said


def test_two_at_once_are_refused(whole: SearchFolder) -> None:
    with whole.lock.locked(), pytest.raises(HeldError, match="search .* is under way already"):
        start(SHORT, 0, whole.path.parent)


def test_a_search_that_ends_while_it_is_looked_at_has_not_stopped(
    whole: SearchFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SearchFolder(Path(shutil.copytree(whole.path, tmp_path / whole.path.name)))
    end = read_json(folder.status)

    def overtaken(_: object) -> bool:
        write_json(folder.status, end)
        return False

    write_json(folder.status, {**end, "state": "running"})
    monkeypatch.setattr("experiments.store.Folder.is_held", overtaken)
    assert "finished, 120 of 120" in commands._line(folder.path)


def test_two_that_begin_at_once_make_one_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has its first session in the header when the other is about to write it."""
    settings = from_page(SHORT)
    make = folders.make_folder

    def overtaken(path: Path) -> None:
        monkeypatch.undo()
        make(path)
        is_there = Path.exists

        def missed(file: Path) -> bool:
            monkeypatch.undo()
            first = SearchFolder.create(settings, 0, tmp_path)
            first.write({**first.read(), "sessions": ["the first"]})
            return False

        assert not is_there(path / "search.json")
        monkeypatch.setattr(Path, "exists", missed)

    monkeypatch.setattr(folders, "make_folder", overtaken)
    assert SearchFolder.create(settings, 0, tmp_path).read()["sessions"] == ["the first"]


def test_finals_are_on_data_that_the_search_never_saw(whole: SearchFolder) -> None:
    rows = list(whole.final_rows())
    assert [row["kind"] for row in rows] == ["initial", "finalist", "finalist"]
    assert rows[0]["mean"] == 0.0 and len(rows[1]["gains"]) == SHORT["final_rounds"]
    assert rows[1]["on_search_data"] >= rows[2]["on_search_data"]


def test_a_program_that_failed_when_it_was_judged_again_is_no_finalist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its -Infinity is no JSON."""
    sgd = parse("def train(w, g, m, v, lr):\n  update = g * lr\n  return update, m, v")
    kept = [Individual(3, sgd, 0.2, "a"), Individual(4, sgd, -math.inf, "b")]
    state: Any = SimpleNamespace(strategy=SimpleNamespace(best=lambda count: kept))
    monkeypatch.setattr(finals, "evaluate", lambda of, *_: [Final((0.1,), (0,))] * len(of))
    rows = list(session.final_rows(from_page(SHORT), folders.Tier(), sgd, state))
    assert [row["number"] for row in rows] == [0, 3]
    json.dumps(rows, allow_nan=False)


def test_seed_and_what_is_searched_name_the_folder_and_workers_do_not(tmp_path: Path) -> None:
    settings = from_page(SHORT)
    text = {"initial_text": "a", "reference_text": "b"}
    other = [
        settings.id(1, text),
        settings.id(0, {**text, "initial_text": "c"}),
        replace(settings, window=13).id(0, text),
        replace(settings, mode="free").id(0, text),
    ]
    assert len({settings.id(0, text), *other}) == 5
    for same in ({"executor": "pool"}, {"num_workers": 3}, {"batch_size": 2}, {"initial": "x.txt"}):
        assert replace(settings, **same).id(0, text) == settings.id(0, text)


@pytest.mark.parametrize("change, said", [
    ({"famly": "lm"}, "search.famly: no such key; did you mean family?"),
    ({"family": "vit"}, "search.family=vit: no such family; there are: mlp, lm, conv"),
    ({"strategy": "grid"}, "search.strategy=grid: choose evolution, random or constants"),
    ({"population": 0}, "search.population=0: must be at least 1"),
    ({"population": "many"}, "search.population=many: must be int"),
    ({"guided": 1}, "search.guided=1: must be bool"),
    ({"num_steps": 25}, "search.num_steps=25: must be a multiple of 10"),
    ({"lrs": [0.1, -1]}, "search.lrs: must be positive numbers"),
    ({"mutations": {"swap": 1}}, "search.mutations.swap: there are: insert, delete"),
    ({"mutations": {"insert": 0}}, "at least one weight must be positive"),
    ({"kill_margin": float("nan")}, "search.kill_margin=nan: must be at least 0"),
    ({"num_workers": 0}, "search.num_workers=0: must be at least 1"),
    ({"population": 10**9}, "search.population=1000000000: must be at most 1,000,000"),
    ({"forbid": ["sign"]}, "search.forbid=sign: choose of: overwrites lr, own step size"),
    ({"initial": "adamm"}, "adamm: no such file"),
    ({"cache_from": ["nobody"]}, "nobody: no such search"),
    ({"name": "mine", "cache_from": ["mine"]}, "is this search itself"),
    ({"cache_from": [1]}, "search.cache_from: must be names of searches, not 1"),
    ({"name": "../x"}, "search.name=../x: a folder is called by it"),
    ({"lrs": [True]}, "search.lrs: must be positive numbers"),
    ({"mutations": {"insert": "much"}}, "search.mutations.insert=much: must be a number"),
    ({"mutations": {"insert": float("inf")}}, "search.mutations.insert=inf: must be a number"),
    ({"num_steps": 10**9}, "search.num_steps=1000000000: must be at most 1,000,000"),
    ({"num_finalists": 65}, "search.num_finalists=65: must be at most 64"),
    ({"tournament": 31, "population": 30}, "search.tournament=31: must be at most search.popul"),
    ({"rotate_every": 4, "num_incumbents": 4}, "search.rotate_every=4: must be more than"),
    ({"strategy": "random", "max_statements": 2}, "search.max_statements=2: must be at least 3"),
    ({"strategy": "constants", "initial": "sgd"}, "none of tune can change a program"),
    ({"executor": "pool", "num_workers": 9999}, "search.num_workers=9999: this machine is for"),
])  # fmt: skip
def test_bad_settings_cost_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(")) as caught:
        start({**SHORT, **change}, 0, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("page", ["smoke", "laptop", "paper", "random", "rediscovery"])
def test_every_page_composes(page: str) -> None:
    settings = from_page(read_page(page))
    composed = compose(["job=search", f"search={page}", "search.num_workers=3"])
    assert composed.search == {**read_page(page), "num_workers": 3}
    assert settings.name == page and settings.reference == "adamw_early"
    if page == "paper":
        assert (settings.population, settings.tournament) == (1000, 2)
        assert settings.num_candidates == 300_000 and not settings.guided
        used = {kind for kind, weight in settings.mutations.items() if weight}
        assert used == {"insert", "delete", "modify"}


@pytest.mark.parametrize("strategy", ["random", "constants"])
def test_the_baselines_run_through_the_same_door(tmp_path: Path, strategy: str) -> None:
    assert start({**SHORT, "strategy": strategy, "num_candidates": 60}, 0, tmp_path) == 0
    history = History.of(SearchFolder(next(tmp_path.iterdir())))
    children = [event for event in history.events if event["kind"] == "child"]
    kinds = {event["edit"][0] for event in children}
    assert kinds == {"whole" if strategy == "random" else "replace"}


def test_what_another_search_knows_is_not_trained_again(tmp_path: Path) -> None:
    first = {**SHORT, "num_candidates": 60}
    assert start(first, 0, tmp_path) == 0
    (folder,) = tmp_path.iterdir()
    later = {**SHORT, "cache_from": [folder.name]}
    evaluated = read_json(folder / "status.json")["evaluated"]
    assert start({**later, "num_candidates": 60}, 0, tmp_path) == 0
    (other,) = [path for path in tmp_path.iterdir() if path != folder]
    assert read_json(other / "status.json")["evaluated"] < evaluated / 2
    with pytest.raises(UserError, match="judged otherwise"):
        start({**later, "num_steps": 30}, 0, tmp_path)
    history, taken_from = History.of(SearchFolder(other)), History.of(SearchFolder(folder))
    assert history.events[0]["of"] == -1
    assert history.lineage(0)[0].fitness == taken_from.lineage(0)[0].fitness == 0.0
    assert history.table().best.iloc[-1] >= 0.0


def test_programs_of_another_search_are_confirmed_before_they_count(whole: SearchFolder) -> None:
    """Two searches may call different programs by one key: the first that the small probe met."""
    head, end = "def train(w, g, m, v, lr):\n  ", "\n  return update, m, v"
    text = head + "update = {}" + end
    names = ("g", "minimum(g, 3.0)", "minimum(g, 3)", "g + m")
    plain, clamped, again, same = (parse(text.format(name)) for name in names)
    (first,) = importing.screened([(plain, 0, 1.0)], Screen())
    (second,) = importing.screened([(clamped, 0, 2.0)], Screen())
    assert first["key"] == second["key"]  # which is why keys are no ground to merge
    evaluations = [(plain, 0, 1.0), (clamped, 0, 2.0), (again, 1, 4.0), (same, 0, 9.0)]
    rows = list(importing.screened(evaluations, Screen()))
    assert len({row["key"] for row in rows}) == 2
    whole.imported.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        state = whole.empty_state()
    finally:
        whole.imported.unlink()
    worth = [state.cache.get(state.screen(one).key or "") for one in (plain, clamped)]
    assert [entry and entry.fitness for entry in worth] == [{"0": 1.0}, {"0": 2.0, "1": 4.0}]


def test_other_probes_do_not_go_on_with_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: SearchFolder
) -> None:
    header = whole.read()
    assert header["probes"] == probes.VERSION
    folder = SearchFolder(tmp_path / whole.path.name)
    folder.path.mkdir()
    lines = whole.events.read_text().splitlines(keepends=True)
    old = {key: value for key, value in header.items() if key != "probes"}  # as version 1 wrote
    folder.header.write_text(json.dumps(old))
    folder.events.write_text("".join(lines[:50]))
    monkeypatch.setattr(session, "build", None)  # no worker may be started
    said = f"begun with version 1 of the probes, here is {probes.VERSION}: "
    with pytest.raises(UserError, match=said) as told:
        start(SHORT, 0, tmp_path)
    assert "\n" not in str(told.value) and folder.events.read_text() == "".join(lines[:50])
    folder.events.write_text("".join(lines))
    folder.finals.write_text(whole.finals.read_text())
    assert start(SHORT, 0, tmp_path) == 0  # nothing is left to screen


def test_other_functions_do_not_go_on_with_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: SearchFolder
) -> None:
    """A function of one's own changes every mutation, and not the name of the folder."""
    shutil.copytree(whole.path, tmp_path / whole.path.name)
    assert start(SHORT, 0, tmp_path) == 0
    mine = operations.Operation("my_own", ("any",))
    monkeypatch.setitem(operations.OPERATIONS, "my_own", mine)
    with pytest.raises(UserError, match="begun with other functions of the language") as told:
        start(SHORT, 0, tmp_path)
    assert "\n" not in str(told.value) and "search.name" in str(told.value)


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: SearchFolder
) -> None:
    write, lines = os.write, []

    def few(handle: int, data: bytes) -> int:
        lines.append(data)
        if len(lines) == 40:
            return write(handle, data[:10])  # what still had room
        return write(handle, data)

    monkeypatch.setattr(events.os, "write", few)
    with pytest.raises(UserError, match=r"events.jsonl: cannot be written .*: make room") as told:
        start(SHORT, 0, tmp_path)
    assert "\n" not in str(told.value)
    monkeypatch.setattr(events.os, "write", write)
    assert same(ended(tmp_path), whole)


def test_a_fault_of_ours_ends_the_search_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: SearchFolder
) -> None:
    def broken(jobs: object) -> None:
        raise InterpreterError("no such axis")

    with monkeypatch.context() as patched:
        patched.setattr("experiments.search.executors.executor.judge", broken)
        with pytest.raises(InterpreterError):
            start(SHORT, 0, tmp_path)
    assert same(ended(tmp_path), whole)  # nothing wrong was logged


def test_the_log_reads_as_a_table(whole: SearchFolder) -> None:
    history = History.of(whole)
    table = history.table()
    assert list(table.columns) == list(COLUMNS) and len(table) == 120
    assert set(table.how) <= {"evaluated", "cached", "dead"}
    assert table.num_evaluated.iloc[-1] == read_json(whole.status)["evaluated"]
    assert (table.num_live <= table.num_statements).all()
    assert table.change[0] == "initial program" and table.best.iloc[-1] >= table.best.iloc[0]
    counts = totals(table)
    assert counts["cache factor"] == 120 / counts["trained"]
    new = set(table.key[table.how == "evaluated"])
    assert counts["rechecks"] == counts["trained"] - len(new) > 0
    cached = table[table.how == "cached"].iloc[0]
    assert history.by_number[int(cached["of"])]["how"] == "evaluated"


def test_a_lineage_leads_from_the_initial_program_without_holes(whole: SearchFolder) -> None:
    history = History.of(whole)
    for number in (0, 60, 119):
        steps = history.lineage(number)
        assert steps[0].program == whole.initial
        assert steps[-1].program == history.programs[number]
        assert all(abs(len(a.program) - len(b.program)) <= 1 for a, b in zip(steps, steps[1:]))  # noqa: B905
    with pytest.raises(UserError, match="there are 0 to 119"):
        history.lineage(500)


NO_LOSS = "def train(w, g, m, v, lr):\n  update = g * 1e38\n  return update, m, v\n"
FIXED = "def train(w, g, m, v, lr):\n  s = sqrt(lr)\n  update = g * s\n  return update, m, v\n"


def test_a_search_that_cannot_begin_well_says_so(tmp_path: Path, capsys: Any) -> None:
    (bad := tmp_path / "bad.txt").write_text(NO_LOSS)
    with pytest.raises(UserError, match="the reference has no finite loss on mlp"):
        start({**SHORT, "reference": str(bad)}, 0, tmp_path)
    bad.write_text(FIXED)
    few = {"forbid": ["own step size"], "num_candidates": 3}
    assert start({**SHORT, **few, "initial": str(bad)}, 0, tmp_path) == 0
    assert "is dead (own step size)" in capsys.readouterr().err


def test_one_damaged_search_does_not_hide_the_others(whole: SearchFolder, capsys: Any) -> None:
    root = whole.path.parent
    (other := root / "a-damaged").mkdir()
    (other / "search.json").write_text("{")
    try:
        assert run("status", root=root) == 1
        said = capsys.readouterr().out
        assert "a-damaged: " in said and "smoke-s0" in said
        header = read_json(whole.header)
        header["settings"]["colour"] = "red"
        (other / "search.json").write_text(json.dumps(header))
        with pytest.raises(UserError, match="is of another version"):
            run("replay", "a-damaged", root=root)
    finally:
        shutil.rmtree(other)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("funnel", "--rounds", "1"), "at least 2"),
        (("meta", "--rounds", "0"), "at least 1"),
        (("meta", "--rounds", "501"), "at most 500"),
        (("meta", "--points", "0"), "--points 0: at least 1"),
        (("table", "--out", "/nowhere/log.csv"), "cannot be written"),
    ],
)
def test_bad_arguments_cost_one_line(whole: SearchFolder, command: Any, said: str) -> None:
    name, *more = command
    with pytest.raises(UserError, match=said):
        run(name, "smoke", *more, root=whole.path.parent)


def test_a_chosen_program_is_judged_anew_on_other_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def pretended(programs: Any, tier: Any, num_rounds: int, first_round: int) -> list[Final]:
        asked.append((num_rounds, first_round))
        return [Final((0.1,) * num_rounds, (1,) * num_rounds)]

    monkeypatch.setattr(finals, "evaluate", pretended)
    few = ("--rounds", "2", "--first-round")
    assert run("worth", "lion", *few, "100", root=None) == 0 and asked == [(2, 100)]
    with pytest.raises(UserError, match="--first-round -1: 0 to 500"):
        run("worth", "lion", *few, "-1", root=None)


def test_a_search_counts_once(whole: SearchFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="named twice"):
        run("collect", "smoke", "smoke", "--study", str(tmp_path), root=whole.path.parent)


def test_a_program_that_sets_its_own_step_size_is_flagged() -> None:
    from experiments.search.language import parse
    from experiments.search.screening import Screen, warnings_of

    head, tail = "def train(w, g, m, v, lr):\n", "  update = sign(g)\n  update = update * lr\n"
    body = f"{head}{{}}{tail}  return update, m, v\n"
    assert warnings_of(parse(body.format(""))) == ()
    assert warnings_of(parse(body.format("  lr = lr * 0.5\n"))) == ("overwrites lr",)
    fixed = warnings_of(parse(body.format("  lr = get_eps()\n")))
    assert fixed == ("overwrites lr", "own step size")
    screen = Screen(frozenset(["own step size"]))
    assert screen(parse(body.format("  lr = get_eps()\n"))).cause == "own step size"
    assert screen(parse(body.format("  lr = lr * 0.5\n"))).flags == ("overwrites lr",)


def run(name: str, *more: str, root: Path | None) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    commands.add_to(parser.add_subparsers(), "lion")
    args = parser.parse_args([name, *more, *(["--searches", str(root)] if root else [])])
    return args.action(args)


def test_commands(whole: SearchFolder, tmp_path: Path, capsys: Any) -> None:
    root = whole.path.parent
    assert run("status", root=root) == 0
    assert "smoke-s0" in capsys.readouterr().out
    assert run("status", "smoke", root=root) == 0
    said = capsys.readouterr().out
    for part in ("finished, 120 of 120 programs", "programs per training", "def train"):
        assert part in said
    assert run("replay", "smoke", "--again", root=root) == 0
    assert "120 candidates" in (said := capsys.readouterr().out) and "as noted" in said
    assert run("lineage", "smoke", "60", root=root) == 0
    assert "initial program" in capsys.readouterr().out
    assert run("table", "smoke", "--out", str(tmp_path / "log.csv"), root=root) == 0
    assert (tmp_path / "log.csv").read_text().count("\n") == 121
    with pytest.raises(UserError, match="start one: python run.py job=search"):
        run("status", "other", root=tmp_path)


def test_the_funnel_writes_what_it_finds(
    whole: SearchFolder, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from experiments.search import funnel

    def pretended(programs: Any, tier: Any, num_rounds: int, first_round: int) -> list[Final]:
        good = [Final((0.3, 0.25), (1, 1)), Final((0.2, 0.25), (1, 1))]
        return good[: len(programs)]

    monkeypatch.setattr(funnel.finals, "evaluate", pretended)
    assert run("funnel", "smoke", root=whole.path.parent) == 0
    said = capsys.readouterr().out
    assert "promoted" in said and "optimizer=program" in said
    rows = [json.loads(line) for line in (whole.path / "funnel.jsonl").read_text().splitlines()]
    assert [row["gate"] for row in rows] == ["T1", "T2", "T1", "T2"]


def test_the_live_view_tells_pace_hits_and_the_best(capsys: Any) -> None:
    rules = searched.rules(60)
    state, _ = searched.search(rules, searched.Pretended())
    facts = summary(state, rules, told_per_s=2.0, evaluated_per_s=1.0)
    assert facts["of 60 programs"] == "60" and facts["best gain"].endswith("nats")
    assert {"programs/s", "cached", "dead", "drawn again"} <= set(facts)
    console = Console(record=True, width=140, file=io.StringIO())
    console.print(as_table("name", facts, state))
    assert "def train" in (said := console.export_text()) and "cached" in said
    with Live("name", rules) as live:
        live(state)
        live._shown_at -= 1000.0
        live(state)
    assert "60 of 60 programs" in capsys.readouterr().out


def test_defaults_of_the_schema_are_valid() -> None:
    assert from_page(asdict(SearchSettings())) == SearchSettings()
    page = from_page(read_page("defaults"))
    assert replace(page, slurm={}) == SearchSettings()
    others = {"partition": None, "account": None, "setup": [], "extra": {}}
    assert page.slurm == {**others, **slurm.DEFAULTS}
    with pytest.raises(ConfigError):
        SearchSettings(mode="chaotic")


def test_searches_are_collected_as_the_tables_of_a_study(
    whole: SearchFolder, tmp_path: Path, capsys: Any
) -> None:
    root = whole.path.parent
    assert run("meta", "smoke", "--points", "2", "--rounds", "1", root=root) == 0
    (tmp_path / "study").mkdir()
    (tmp_path / "study/rediscovery.csv").write_text("of another search")
    assert run("collect", "smoke", "--study", str(tmp_path / "study"), root=root) == 0
    tables = {path.stem: pd.read_csv(path) for path in (tmp_path / "study").iterdir()}
    assert {"searches", "curves", "finals", "lineage", "meta"} <= set(tables)
    assert "rediscovery" not in tables
    curves = tables["curves"]
    assert curves.told.iloc[-1] == 120 and curves.evaluated.is_monotonic_increasing
    assert tables["searches"].population_hash[0] == read_json(whole.status)["population"]
    best = tables["finals"].query("kind == 'finalist'").sort_values("mean").number.iloc[-1]
    assert tables["lineage"].number.iloc[-1] == best and tables["lineage"].number[0] == 0
    assert list(tables["meta"].family) == ["mlp", "lm", "conv"] * 2
    assert tables["meta"].best.iloc[-1] == pytest.approx(curves.best.iloc[-1])


def test_searches_are_added_to_those_of_a_study(tmp_path: Path) -> None:
    page = {**SHORT, "num_candidates": 20}
    folders = []
    for number, initial in enumerate(("lion", "adamw_early", "sign_sgd")):
        assert start({**page, "initial": initial, "name": initial}, number, tmp_path) == 0
        folders += [SearchFolder(path) for path in tmp_path.glob(f"{initial}-*")]
    collect.write(folders, tmp_path / "at_once")
    collect.write(folders[:1], tmp_path / "added")
    collect.write(folders[1:], tmp_path / "added", add=True)
    collect.write(folders[2:], tmp_path / "added", add=True)  # again: its rows are made anew
    at_once = {path.name: path.read_text() for path in (tmp_path / "at_once").iterdir()}
    assert at_once == {path.name: path.read_text() for path in (tmp_path / "added").iterdir()}
    assert list(pd.read_csv(tmp_path / "added/searches.csv").arm) == [
        "lion", "adamw_early", "sign_sgd",
    ]  # fmt: skip
    text = (tmp_path / "added/searches.csv").read_text()
    (tmp_path / "added/searches.csv").write_text(text.replace("sign_sgd-s2", "sign_sgd-s2-old"))
    with pytest.raises(UserError, match="sign_sgd, seed 2 is named twice"):
        collect.write(folders[2:], tmp_path / "added", add=True)


def test_sign_momentum_that_was_met_is_collected_with_its_betas(tmp_path: Path) -> None:
    page = {**SHORT, "initial": "lion", "num_candidates": 40}
    assert start(page, 0, tmp_path) == 0
    folder = SearchFolder(next(tmp_path.iterdir()))
    seen = list(sightings_of(History.of(folder)))
    assert (seen[0]["number"], seen[0]["beta1"], seen[0]["beta2"]) == (0, "9/10", "99/100")
    assert seen[0]["is_exact"] and seen[0]["fitness"] is not None
