"""Mutations: valid programs only, the paper's kinds, and what the guided ones save."""

from __future__ import annotations

import json
import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.config import UserError
from experiments.search import library, liveness
from experiments.search.edits import DELETE, INSERT, REPLACE, WHOLE, Edit
from experiments.search.language import Program, parse
from experiments.search.mutation import (
    CONSTANTS_ONLY,
    FUNCTIONS,
    MAX_CONSTANT,
    PAPER,
    WRAP,
    Mutator,
)
from experiments.search.operations import OPERATIONS
from experiments.search.random_search import RandomSearch
from experiments.search.types import is_valid

ADAMW = library.load("adamw_early")
PAPERS = Mutator()
GUIDED = Mutator(tuple(PAPER.items()), is_guided=True)
WRAPPING = Mutator(tuple({**PAPER, WRAP: 1.0}.items()), is_guided=True)


def walk(
    mutator: Mutator, start: Program, steps: int, seed: int
) -> list[tuple[Program, Edit, int]]:
    random, program, seen = Random(seed), start, []
    for _ in range(steps):
        edit, tries = mutator.mutate(program, random)
        child = edit.apply(program)
        seen.append((program, edit, tries))
        program = child
    return seen


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([PAPERS, GUIDED, WRAPPING]),
    st.sampled_from(library.names()),
    st.integers(0, 10**6),
)
def test_children_are_valid_and_come_back_from_their_edits(
    mutator: Mutator, name: str, seed: int
) -> None:
    for parent, edit, tries in walk(mutator, library.load(name), 10, seed):
        child = edit.apply(parent)
        assert is_valid(child) and child != parent and tries >= 1
        assert parse(child.text()) == child
        assert Edit.from_json(json.loads(json.dumps(edit.to_json()))) == edit
        assert abs(len(child) - len(parent)) <= 1


def test_the_papers_mutations_are_insert_delete_and_modify_of_one_argument() -> None:
    kinds = Counter()
    for seed in range(300):
        ((parent, edit, _),) = walk(PAPERS, ADAMW, 1, seed)
        kinds[edit.kind] += 1
        if edit.kind == REPLACE:
            old, new = parent.statements[edit.place], edit.statements[0]
            differing = [a != b for a, b in zip(old.arguments, new.arguments, strict=True)]
            assert (old.target, old.function) == (new.target, new.function) and sum(differing) == 1
    assert set(kinds) == {INSERT, DELETE, REPLACE} and min(kinds.values()) > 20


def test_kinds_places_functions_and_constants_are_drawn_as_the_paper_says() -> None:
    raw, random = library.load("raw"), Random(0)
    kinds, places, functions = Counter(), Counter(), Counter()
    drawn, factors = [], []
    for _ in range(20_000):
        edit = PAPERS.draw(raw, random)
        assert edit is not None
        kinds[edit.kind] += 1
        if edit.kind == INSERT:
            places[edit.place] += 1
            functions[edit.statements[0].function] += 1
            drawn += [a for a in edit.statements[0].arguments if not isinstance(a, str)]
        elif edit.kind == REPLACE:
            pairs = zip(raw.statements[edit.place][2], edit.statements[0][2], strict=True)
            factors += [math.log2(b / a) for a, b in pairs if a != b and not isinstance(a, str)]
    for counts, number in ((kinds, 3), (places, len(raw) + 1), (functions, len(FUNCTIONS))):
        assert len(counts) == number and stats.chisquare(list(counts.values())).pvalue > 0.001
    for sample in (drawn, factors):  # N(0, 1), and 2^N(0, 1) times the old one
        assert len(sample) > 1000 and stats.kstest(sample, "norm").pvalue > 0.001


@pytest.mark.parametrize("mutator", [GUIDED, WRAPPING], ids=["guided", "wrapping"])
def test_guided_mutants_are_rarely_invalid(mutator: Mutator) -> None:
    tries = [step[2] for seed in range(20) for step in walk(mutator, ADAMW, 40, seed)]
    assert 1 - len(tries) / sum(tries) <= 0.10
    unguided = [step[2] for seed in range(20) for step in walk(PAPERS, ADAMW, 40, seed)]
    assert 1 - len(unguided) / sum(unguided) > 0.15  # so the comparison says something


def test_a_wrap_stands_behind_an_assignment_and_takes_its_variable() -> None:
    only = Mutator(((WRAP, 1.0),), is_guided=True)
    for seed in range(30):
        ((parent, edit, _),) = walk(only, ADAMW, 1, seed)
        new, before = edit.statements[0], parent.statements[edit.place - 1]
        assert new.target == before.target and before.target in new.arguments


def test_tuning_changes_constants_only() -> None:
    program = ADAMW
    for parent, edit, _ in walk(Mutator(tuple(CONSTANTS_ONLY.items())), ADAMW, 50, 0):
        program = edit.apply(parent)
    shapes = [
        [
            (s.target, s.function, [a for a in s.arguments if isinstance(a, str)])
            for s in p.statements
        ]
        for p in (ADAMW, program)
    ]
    assert shapes[0] == shapes[1] and program != ADAMW


def test_the_length_has_a_limit() -> None:
    short = Mutator(((INSERT, 1.0), (DELETE, 0.1)), max_statements=len(ADAMW) + 2)
    assert max(len(step[0]) for step in walk(short, ADAMW, 60, 0)) == len(ADAMW) + 2


def test_what_cannot_be_changed_says_so() -> None:
    bare = parse("def train(w, g, m, v, lr):\n  update = g * lr\n  return update, m, v\n")
    with pytest.raises(UserError, match="none of tune can change a program of 1 statements"):
        Mutator(tuple(CONSTANTS_ONLY.items()), max_tries=50).mutate(bare, Random(0))


def test_random_programs_are_valid_read_the_gradient_and_have_the_asked_lengths() -> None:
    search = RandomSearch(0, ADAMW, lengths=(3, 6))
    drawn = [search.draw(Random(seed))[0] for seed in range(200)]
    assert all(is_valid(program) for program in drawn) and len(set(drawn)) > 190
    assert all("g" in liveness.analyse(program).read for program in drawn)
    assert {len(program) for program in drawn} == {3, 4, 5, 6}
    assert search.ask().program == ADAMW
    second = search.ask()
    assert second.edit is not None and second.edit.kind == WHOLE and second.parent is None


@pytest.mark.parametrize("edit, said", [
    (Edit(INSERT, 0, ADAMW.statements[:1]), "+ 1: g2 = square(g)"),
    (Edit(DELETE, 0), "- 1: g2 = square(g)"),
    (Edit(REPLACE, 0, ADAMW.statements[1:2]), "~ 1: g2 = square(g) -> m = interp(g, m, 0.9)"),
    (Edit(WHOLE, 0, ADAMW.statements), f"a new program of {len(ADAMW)} statements"),
])  # fmt: skip
def test_an_edit_reads_as_one_line(edit: Edit, said: str) -> None:
    assert edit.text(ADAMW) == said


def test_a_constant_keeps_its_sign_and_its_bound() -> None:
    text = "def train(w, g, m, v, lr):\n  update = g * -0.5\n  update = update * -9e9\n"
    program = parse(f"{text}  return update, m, v\n")
    tune, constants = Mutator(tuple(CONSTANTS_ONLY.items())), []
    for seed in range(200):
        edit, _ = tune.mutate(program, Random(seed))
        (statement,) = edit.statements
        constants += [one for one in statement.arguments if isinstance(one, float)]
    assert len(constants) == 200 and max(constants) < 0 and min(constants) == -MAX_CONSTANT
    small = [abs(one) for one in constants if one > -1e6]
    assert min(small) < 0.25 and max(small) > 1.0


def test_new_variables_and_constants_come_as_often_as_is_said() -> None:
    names = ["w", "g", "m", "v", "lr"]
    drawn = [Mutator().statement(names, {}, Random(seed)) for seed in range(4000)]
    assert abs(sum(one.target == "x1" for one in drawn) / 4000 - 1 / 6) < 0.02
    are_constant: dict[str, list[bool]] = {}
    for one in drawn:
        for kind, argument in zip(OPERATIONS[one.function].kinds, one.arguments, strict=True):
            are_constant.setdefault(kind, []).append(isinstance(argument, float))
    shares = {kind: sum(found) / len(found) for kind, found in are_constant.items()}
    assert shares == pytest.approx({"any": 0.2, "scalar": 0.5}, abs=0.06)


def test_kinds_have_their_weights_and_temporaries_are_read_and_written() -> None:
    text = "def train(w, g, m, v, lr):\n  deep = g * lr\n  update = deep * 2.0\n"
    program = parse(f"{text}  return update, m, v\n")
    mutator = Mutator(((INSERT, 3.0), (DELETE, 1.0)))
    drawn = [mutator.draw(program, Random(seed)) for seed in range(1000)]
    inserted = [edit.statements[0] for edit in drawn if edit and edit.kind == INSERT]
    assert 0.7 < len(inserted) / 1000 < 0.8
    assert any(one.target == "deep" for one in inserted)
    assert any("deep" in one.arguments for one in inserted)
