"""Every sign momentum of a search is found, once, and nothing else."""

from __future__ import annotations

import random

from experiments.search import disguises, library, sightings
from experiments.search.language import parse
from experiments.search.mutation import Mutator


def test_hidden_programs_are_found_among_mutants() -> None:
    source, mutator = random.Random(0), Mutator()
    programs, program = [], library.load("adamw")
    for _ in range(300):
        program = mutator.mutate(program, source)[0].apply(program)
        programs.append(program)
        if len(program) > 30:
            program = library.load("adamw")
    hidden = {}
    for place in (20, 90, 180, 250):
        recipe = disguises.draw_recipe(source)
        hidden[place] = recipe
        programs[place] = parse(disguises.disguise(recipe, source))
    programs[60] = library.load("raw")
    programs[61] = library.load("raw")
    programs[270] = programs[20]
    found = {one.number: one for one in sightings.find(enumerate(programs))}
    assert {n for n, one in found.items() if one.verdict.family} >= set(hidden)
    assert 60 in found and 61 not in found and 270 not in found
    assert found[60].verdict.family is None and found[60].lion.beta1 is not None
    assert set(found[60].verdict.left_out) == {"clip_by_global_norm", "arcsin"}
    for place, recipe in hidden.items():
        assert (found[place].lion.beta1, found[place].lion.beta2) == (recipe.beta1, recipe.beta2)


def test_the_quick_look_passes_the_family_and_few_others() -> None:
    passed = {n for n in library.names() if sightings.has_one_magnitude(library.load(n))}
    assert passed >= {"lion", "evolved_plain", "evolved_step2", "raw", "sign_momentum", "sign_sgd"}
    assert not passed & {"adamw", "sgd", "momentum_sgd", "power_sign", "add_sign", "rmsprop"}
