"""Regularized evolution: who is a parent, who leaves, when it begins anew."""

from __future__ import annotations

import dataclasses
import math
import random

from experiments.search import library
from experiments.search.evolution import Evolution, EvolutionSettings
from experiments.search.mutation import Mutator
from experiments.search.random_search import RandomSearch
from experiments.search.strategy import (
    CHILD,
    INITIAL,
    RECHECK,
    Candidate,
    Verdict,
    generator_of,
)

ADAMW = library.load("adamw_early")


def evolution(**settings) -> Evolution:
    return Evolution(EvolutionSettings(**settings), ADAMW, Mutator())


def tell(of: Evolution, candidate: Candidate, fitness: float) -> None:
    of.tell(candidate.number, Verdict(fitness, f"key {candidate.number}"))


def test_it_starts_from_copies_of_the_initial_program() -> None:
    of = evolution(population=5)
    first = of.ask()
    assert (first.kind, first.program, first.number) == (INITIAL, ADAMW, 0)
    tell(of, first, 0.25)
    assert [(one.number, one.fitness) for one in of.population()] == [(0, 0.25)] * 5
    child = of.ask()
    assert child.kind == CHILD and child.parent == 0 and child.edit is not None
    assert child.edit.apply(ADAMW) == child.program


def test_the_oldest_leaves_however_good_it_is() -> None:
    of = evolution(population=4)
    for number in range(10):
        tell(of, of.ask(), 100.0 - number)
    assert [one.number for one in of.population()] == [6, 7, 8, 9]
    assert of.best(1)[0].number == 0  # the archive still knows it


def test_the_fitter_of_the_tournament_is_the_parent() -> None:
    of = evolution(population=4, tournament=40)
    for number in range(5):
        tell(of, of.ask(), 10.0 if number == 3 else float(-number))
    assert [of.ask().parent for _ in range(5)] == [3] * 5


def test_it_is_a_tournament_with_ageing_written_anew() -> None:
    """The same random numbers through four lines of one's own: same parents, same population."""
    of, own, luck = evolution(population=12, seed=3), [(0, 0.0)] * 12, random.Random(0)
    tell(of, of.ask(), 0.0)
    for number in range(1, 400):
        child, draw = of.ask(), generator_of(3, number)
        first, second = (own[draw.randrange(12)] for _ in range(2))
        assert child.parent == (first if first[1] >= second[1] else second)[0]
        own = [*own[1:], (number, luck.random())]
        tell(of, child, own[-1][1])
    assert [(one.number, one.fitness) for one in of.population()] == own


def test_a_dead_child_joins_but_never_wins_against_a_living_one() -> None:
    of = evolution(population=3, tournament=30)
    for fitness in (0.0, -math.inf, -1.0, -math.inf):
        tell(of, of.ask(), fitness)
    assert {of.ask().parent for _ in range(5)} == {2}


def test_a_stalled_search_begins_anew_from_the_initial_or_the_best_program() -> None:
    for origin, expected in (("initial", 0), ("best", 2)):
        of = evolution(population=3, patience=3, restart_from=origin)
        for fitness in (0.0, -1.0, 5.0, 1.0, 1.0, 1.0):
            tell(of, of.ask(), fitness)
        late = of.ask()  # of the era that ends now
        tell(of, of.ask(), 1.0)
        assert of.num_restarts == 1
        assert [one.number for one in of.population()] == [expected] * 3
        tell(of, late, 50.0)
        assert [one.number for one in of.population()] == [expected] * 3
        assert of.ask().era == 1


def test_a_recheck_corrects_all_who_compute_the_same() -> None:
    of = evolution(population=3, recheck_every=3, num_incumbents=1)
    for fitness in (0.0, 2.0, 2.0):  # the last two are one program
        number = of.ask().number
        of.tell(number, Verdict(fitness, f"key {min(number, 1)}"))
    of.tell(of.ask().number, Verdict(-1.0, "key 1"))
    assert [(one.number, one.fitness) for one in of.population()] == [
        (0, 0.0),
        (1, -1.0),
        (2, -1.0),
    ]


def test_after_a_restart_the_best_is_the_founders_and_not_the_best_there_ever_was() -> None:
    """Else what is better than its own era counted for nothing, and each era ended at once."""
    of = evolution(population=3, patience=3)
    for fitness in (0.0, 50.0, 1.0, 1.0, 1.0, 1.0):
        tell(of, of.ask(), fitness)
    assert of.num_restarts == 1
    for fitness in (1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0):  # better each time before it stalls
        tell(of, of.ask(), fitness)
    assert of.num_restarts == 1


def test_a_recheck_corrects_the_founder_who_has_left_and_may_come_back() -> None:
    of = evolution(population=2, patience=4, recheck_every=3, num_incumbents=1)
    for fitness in (9.0, 1.0, 1.0):  # the founder is the best, and no more in the population
        tell(of, of.ask(), fitness)
    again = of.ask()
    assert (again.kind, again.parent, of.num_restarts) == (RECHECK, 0, 0)
    of.tell(again.number, Verdict(-3.0, "key 0"))
    tell(of, of.ask(), 1.0)
    assert of.num_restarts == 1
    assert [(one.number, one.fitness) for one in of.population()] == [(0, -3.0)] * 2


def test_incumbents_are_judged_anew_and_fall_back() -> None:
    of = evolution(population=4, recheck_every=5, num_incumbents=2)
    for number in range(4):
        tell(of, of.ask(), float(number))
    child, again = of.ask(), [of.ask(), of.ask()]
    assert child.kind == CHILD
    assert [(one.kind, one.parent) for one in again] == [(RECHECK, 3), (RECHECK, 2)]
    assert of.ask().kind == CHILD
    of.tell(again[0].number, Verdict(-1.0, "key 3"))
    assert [one.number for one in of.best(2)] == [2, 1]
    assert [one.fitness for one in of.population()] == [0.0, 1.0, 2.0, -1.0]


def test_a_candidate_depends_on_seed_number_and_what_was_told() -> None:
    def asked(seed: int, count: int) -> list[Candidate]:
        of = evolution(population=4, seed=seed)
        candidates = []
        for number in range(count):
            candidates.append(of.ask())
            tell(of, candidates[-1], math.sin(number))
        return candidates

    assert asked(0, 20) == asked(0, 25)[:20] and asked(0, 20) != asked(1, 20)


def test_no_seed_is_another_one_some_candidates_later() -> None:
    drawn = [generator_of(seed, number).random() for seed in range(9) for number in range(9)]
    assert len(set(drawn)) == 81


def test_of_equals_the_older_is_the_best_and_what_is_dead_is_none() -> None:
    of = evolution(population=4)
    for fitness in (-math.inf, 1.0, 2.0, 2.0, math.inf, math.nan):
        tell(of, of.ask(), fitness)
    assert [one.number for one in of.best(9)] == [2, 3, 1]


def test_the_digest_sees_whatever_the_next_candidates_depend_on() -> None:
    def after(fitness: float, seed: int = 0, more: int = 0) -> str:
        of = evolution(population=4, seed=seed)
        for _ in range(3):
            tell(of, of.ask(), fitness)
        for _ in range(more):
            of.ask()
        return of.digest()

    assert after(1.0) == after(1.0)
    assert len({after(1.0), after(1.5), after(1.0, seed=1), after(1.0, more=1)}) == 4


def test_adopting_a_log_is_asking() -> None:
    asked, adopted = (evolution(population=4, recheck_every=6, num_incumbents=2) for _ in "ab")
    for number in range(20):
        candidate = asked.ask()
        adopted.adopt(dataclasses.replace(candidate))
        for of in (asked, adopted):
            tell(of, candidate, math.cos(number)) if candidate.kind != RECHECK else of.tell(
                candidate.number, Verdict(0.0, f"key {candidate.parent}")
            )
        assert asked.digest() == adopted.digest()


def test_random_search_learns_nothing_but_keeps_the_best() -> None:
    def programs(sign: float) -> list[Candidate]:
        of = RandomSearch(0, ADAMW)
        candidates = []
        for number in range(10):
            candidates.append(of.ask())
            of.tell(number, Verdict(sign * number, f"key {number}"))
        assert of.best(1)[0].number == (9 if sign > 0 else 0)
        return candidates

    assert programs(1.0) == programs(-1.0)
