"""What liveness takes away changes no update, to the last bit, and what it leaves matters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from programs import from_seed, programs

from experiments.search import library, liveness, probes, types
from experiments.search.language import Program, parse

PROBE = probes.make(5, 24, 6)


def same_bits(one: Program, other: Program) -> bool:
    """Whether all updates are the same bits; NaN is one, whatever its bits."""
    streams = [probes.stream(p, PROBE) for p in (one, other)]
    bits = [np.where(np.isnan(s), np.nan, s).view(np.int64) for s in streams]
    return np.array_equal(*bits)


def program(body: str) -> Program:
    return parse(f"def train(w, g, m, v, lr):\n  {body}\n  return update, m, v\n")


def test_the_raw_program_has_nine_redundant_statements() -> None:
    raw = library.load("raw")
    left = liveness.prune(raw)
    assert (len(raw), len(left)) == (21, 12)
    assert liveness.analyse(raw).states == ("v",)
    texts = {s.text() for s in raw.statements} - {s.text() for s in left.statements}
    assert texts == {
        "m = clip(m, lr)",
        "v845 = sqrt(0.6270633339881897)",
        "v968 = sign(v)",
        "v968 = v - v",
        "v845 = tanh(v845)",
        "v1 = square(v1)",
        "m = cosh(update)",
        "lr = tan(1.4572199583053589)",
        "lr = cos(v845)",
    }
    assert same_bits(raw, left)


@settings(max_examples=100, deadline=None)
@given(programs())
def test_updates_are_the_same_bits(program: Program) -> None:
    left = liveness.prune(program)
    types.check(left)
    assert same_bits(program, left)
    assert liveness.prune(left) == left
    assert liveness.analyse(left).states == liveness.analyse(program).states


def test_updates_of_long_random_programs_are_the_same_bits() -> None:
    removed = 0
    for seed in range(300):
        program = from_seed(seed, 20)
        left = liveness.prune(program)
        types.check(left)
        removed += len(program) - len(left)
        assert same_bits(program, left), program.text()
    assert removed > 1000


@pytest.mark.parametrize(
    ("body", "states", "num_kept"),
    [
        ("m = m + g\n  update = g", (), 1),  # moves, but reaches no update
        ("m = v + g\n  v = m + g\n  update = g", (), 1),  # each other's reader only
        ("m = v + g\n  v = m + g\n  update = m", ("v",), 3),
        ("update = v + g\n  v = m + 1\n  m = g", ("m", "v"), 3),  # two steps later
        ("update = m\n  m = g\n  m = w", ("m",), 2),  # overwritten before it is kept
        ("update = g\n  update = w\n  update = update + w", (), 2),
    ],
)
def test_a_buffer_lives_if_an_update_reads_it_sooner_or_later(
    body: str, states: tuple[str, ...], num_kept: int
) -> None:
    found = liveness.analyse(program(body))
    assert found.states == states and len(found.kept) == num_kept


def test_a_buffer_that_held_a_scalar_in_passing_is_renamed() -> None:
    one = program("m = dot(g, w)\n  update = g * m\n  m = w")
    left = liveness.prune(one)
    types.check(left)
    assert left.text().count("m_1") == 2 and same_bits(one, left)


def test_inputs_are_followed_through_the_buffers() -> None:
    assert liveness.analyse(program("update = m\n  m = v\n  v = g")).read >= {"g"}
    assert "g" not in liveness.analyse(program("update = w * lr\n  m = g")).read


def test_what_is_left_matters_in_the_library() -> None:
    """Each statement of a pruned program changes some update when it is replaced by zeros."""
    for name in ("lion", "evolved_plain", "adamw", "raw"):
        left = liveness.prune(library.load(name))
        for index, statement in enumerate(left.statements):
            lines = list(left.statements)
            lines[index] = statement._replace(function="mul", arguments=(0.0, statement.target))
            if statement.target not in types.infer(left.statements[:index]):
                lines[index] = statement._replace(function="copy", arguments=("w",))
            assert not same_bits(left, Program(tuple(lines))), (name, statement.text())
