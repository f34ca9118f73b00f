"""Hashes: equal for what is written otherwise, different for what computes otherwise."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from programs import from_seed, programs

from experiments.search import disguises, hashing, library, probes
from experiments.search.language import Program, Statement, parse
from experiments.search.screening import Screen

HEAD = "def train(w, g, m, v, lr):\n  "


def program(body: str) -> Program:
    return parse(f"{HEAD}{body}\n  return update, m, v\n")


def renamed(program: Program, names: dict[str, str]) -> Program:
    return Program(
        tuple(
            Statement(
                names.get(s.target, s.target),
                s.function,
                tuple(names.get(a, a) if isinstance(a, str) else a for a in s.arguments),
            )
            for s in program.statements
        )
    )


@settings(max_examples=100, deadline=None)
@given(programs())
def test_names_and_roles_and_dead_statements_do_not_matter(program: Program) -> None:
    found = hashing.structural_hash(program)
    assert hashing.structural_hash(renamed(program, {"a": "b1", "b": "a", "c": "b"})) == found
    assert hashing.structural_hash(renamed(program, {"m": "v", "v": "m"})) == found
    dead = Statement("unused", "cosh", ("update",))
    assert hashing.structural_hash(Program((*program.statements, dead))) == found


def test_order_of_independent_statements_does_not_matter() -> None:
    source = random.Random(0)
    for name in library.names():
        one = library.load(name)
        for _ in range(3):
            other = disguises._shuffle(one, source)
            assert hashing.structural_hash(other) == hashing.structural_hash(one)


@pytest.mark.parametrize(
    ("one", "other", "is_equal"),
    [
        ("update = g + w", "update = w + g", True),
        ("update = g - w", "update = w - g", False),
        ("update = g * 2.0", "update = 2.0 * g", True),
        ("update = g * 2.0", "update = g * 2.0000000000000004", False),
        ("update = g / -1.0", "update = g / -2.0", False),  # hash(-1) == hash(-2) in Python
        ("x = g\n  update = x", "update = g", True),
        ("update = m\n  m = g", "update = v\n  v = g", True),
        ("update = m\n  m = g", "update = m\n  m = w", False),
        ("update = m + v\n  m = g\n  v = w", "update = v + m\n  v = g\n  m = w", True),
        ("update = m - v\n  m = g\n  v = w", "update = v - m\n  m = g\n  v = w", False),
        ("x = reciprocal(0.0)\n  x = tanh(x)\n  update = g * x",  # down the gradient
         "x = reciprocal(-0.0)\n  x = tanh(x)\n  update = g * x", False),  # up
    ],
)  # fmt: skip
def test_the_structural_hash_follows_the_data(one: str, other: str, is_equal: bool) -> None:
    hashes = [hashing.structural_hash(program(body)) for body in (one, other)]
    assert (hashes[0] == hashes[1]) == is_equal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("update = square(g)", "update = g * g"),
        ("update = interp(g, m, 0.9)\n  m = g", "update = 0.9 * m + (1 - 0.9) * g\n  m = g"),
        ("update = g / sqrt(g * g)", "update = sign(g)"),
        ("update = g / abs(g)", "update = sign(g)"),
        ("update = (g + w) * lr", "update = lr * g + w * lr"),
        ("update = g - w", "update = negative(w - g)"),
        ("update = exp(log(abs(g)))", "update = abs(g)"),
    ],
)
def test_the_functional_hash_sees_through_algebra(one: str, other: str) -> None:
    for hash_of in (hashing.functional_hash, hashing.confirming_hash):
        assert hash_of(program(one)) == hash_of(program(other))
    assert hashing.structural_hash(program(one)) != hashing.structural_hash(program(other))


def test_the_functional_hash_tells_programs_apart() -> None:
    """All of the library, but for the evolved program, which is Lion; and Lions of other betas."""
    names = [name for name in library.names() if name != "evolved_plain"]
    hashes = {hashing.functional_hash(library.load(name)) for name in names}
    assert len(hashes) == len(names)
    lion, evolved = library.load("lion"), library.load("evolved_plain")
    assert hashing.functional_hash(lion) == hashing.functional_hash(evolved)
    assert hashing.confirming_hash(lion) == hashing.confirming_hash(evolved)
    near = parse(lion.text().replace("0.99)", "0.989)"))
    assert hashing.functional_hash(near) != hashing.functional_hash(lion)


def test_a_clip_that_acts_at_the_end_of_a_training_is_confirmed_to_act() -> None:
    """At learning rates above 0.01 a second moment of 0.999 stays below them for some steps."""
    text = "v = interp(square(g), v, 0.999)\n{}  update = m / sqrt(v)\n  m = interp(g, m, 0.9)"
    plain, clipped = (program(text.format(line)) for line in ("", "  v = clip(v, lr)\n"))
    assert hashing.functional_hash(plain) == hashing.functional_hash(clipped)
    assert hashing.confirming_hash(plain) != hashing.confirming_hash(clipped)


def test_equal_structure_is_equal_function() -> None:
    by_structure: dict[str, str] = {}
    for seed in range(400):
        one = from_seed(seed, 5)
        function = hashing.functional_hash(one)
        structure = hashing.structural_hash(one)
        assert by_structure.setdefault(structure, function) == function


def test_rounding_does_not_split_and_zeros_have_no_sign() -> None:
    stream = np.random.default_rng(0).normal(size=4096)
    assert hashing.stream_hash(stream) == hashing.stream_hash(stream * (1 + 1e-16))
    assert hashing.stream_hash(np.zeros(3)) == hashing.stream_hash(-np.zeros(3))
    for by in (1e-7, 8e-9):  # a bit of 28
        assert hashing.stream_hash(stream) != hashing.stream_hash(stream * (1 + by))
    whole = hashing.confirming_hash(program("update = g"))
    assert len(whole) == 32 * len(probes.large()) == 96, "each of the large probes is asked"


def test_hashes_are_those_of_another_process() -> None:
    """Python's own hash of text differs between processes; caches are shared by files."""
    body = (
        "from experiments.search import hashing, library\n"
        "p = library.load('raw')\n"
        "print(hashing.structural_hash(p), hashing.functional_hash(p), p.id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", body], capture_output=True, text=True, check=True
    ).stdout.split()
    raw = library.load("raw")
    assert done == [hashing.structural_hash(raw), hashing.functional_hash(raw), raw.id]


def test_probes_are_what_they_say() -> None:
    small, (within, beyond, long) = probes.small(), probes.large()
    for probe in probes.single():
        assert {array.dtype for array in probe[:3]} == {np.dtype(np.float32)}
        assert (
            probe.lr.min() < 1e-6 and probes.stream(library.load("raw"), probe).dtype == np.float32
        )
    assert small.g.shape == (8, 512) and long.g.shape == (384, 128)
    assert within.g.shape == beyond.g.shape == (24, 2048)
    for probe in (small, within, beyond, long):
        size = np.abs(probe.g)
        assert np.quantile(size, 0.05) < 1e-5 and size.max() > 0.5
        norms = np.linalg.norm(probe.g, axis=1)
        assert norms.min() < 1 < norms.max()  # clipping at 1 acts in some steps only
        assert sum(probe.sizes) == probe.g.shape[1] and (probe.lr > 0).all()
    assert max(np.abs(probe.g).max() for probe in (small, within)) < 1 < np.abs(long.g).max()
    assert np.abs(beyond.g).max() > 50 and np.abs(beyond.w).max() > 50
    for probe in (within, beyond, long):  # as biases at first, and what is never active
        assert (probe.g == 0).all(axis=0).any() and (probe.w == 0).all(axis=0).any()
    for probe in (within, beyond, long, *probes.single()):  # as of rare words, and as gains
        rest = (probe.g == 0).mean(axis=0)
        for share in (1 / 3, 6 / 7):
            assert np.isclose(rest, share, atol=0.03).mean() > 0.02
        assert (probe.w == 1).all(axis=0).mean() > 0.02
    assert (np.diff(long.lr) < 0).all() and beyond.lr.min() < 1e-5 and long.lr[-1] < 1e-5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("update = g", "update = maximum(g, -0.93)"),
        ("update = g", "update = minimum(g, 30.0)"),
        ("update = cube(g)", "x = exp(expm1(w))\n  update = minimum(cube(g), x)"),
        ("update = g\n  m = g", "x = m / m\n  update = g * x\n  m = g"),  # m of zero
        ("update = g / w", "update = g / (w + 1e-22)"),  # biases of zero
        ("update = g", "x = log(w)\n  x = x / x\n  update = g * x"),  # gains of one
        (  # after a gradient of zero, log10(0) is in m
            "update = 2.0 * g",
            "m = interp(g, m, 0.9)\n  s = sign(m)\n  m = log10(s)\n  x = s * sign(g)\n  "
            "x = 1.0 + x\n  update = x * g",
        ),
        ("update = g", "x = w - w * w\n  x = x / x\n  update = g * x"),
        ("update = g * exp(m)", "m = m + 0.01\n  x = minimum(m, 3.0)\n  update = g * exp(x)"),
        ("v = interp(square(g), v, 0.999)\n  x = sqrt(v)\n  update = m / x\n  m = g",
         "v = interp(square(g), v, 0.999)\n  v = minimum(v, 0.58)\n  x = sqrt(v)\n"
         "  update = m / x\n  m = g"),
    ],
)  # fmt: skip
def test_what_acts_on_few_updates_is_confirmed_to_act(one: str, other: str) -> None:
    first, second = program(one), program(other)
    assert hashing.confirming_hash(first) != hashing.confirming_hash(second)


@pytest.mark.parametrize(
    ("one", "other", "is_alike"),
    [
        ("update = square(g)", "update = g * g", True),
        ("update = sign(g)", "update = g / sqrt(g * g)", True),
        ("update = interp(g, m, 0.9)\n  m = g", "update = 0.9 * m + (1 - 0.9) * g\n  m = g", True),
        ("update = (g + w) * lr", "update = lr * g + w * lr", True),
        ("update = g * get_pi()", "update = g * 3.141592653589793", True),
        ("update = g * cos(w)", "x = exp(log(abs(w)))\n  update = g * cos(x)", True),
        # leave the range of float32, far within that of float64
        ("update = g * w", "x = sinh(w)\n  x = arcsinh(x)\n  update = g * x", False),
        ("update = g\n  m = g", "x = m / m\n  update = g * x\n  m = 2.7 * m\n  m = m + 1.0", False),
        ("update = g", "x = square(lr)\n  x = x / x\n  update = g * x", False),
        # the epsilon of training acts where a square is below 1e-12
        ("update = sign(g)", "x = g * g\n  x = x / x\n  update = x * sign(g)", False),
    ],
)  # fmt: skip
def test_float32_is_asked_too(one: str, other: str, is_alike: bool) -> None:
    assert hashing.alike_in_training(program(one), program(other)) == is_alike
    assert hashing.alike_in_training(program(other), program(one)) == is_alike


def test_hits_of_the_cache_are_one_in_float32_too() -> None:
    screen = Screen()
    plain = screen(program("update = g * w"))
    for text, is_hit in (
        ("update = w * g + 0.0 * m", True),
        ("x = sinh(w)\n  x = arcsinh(x)\n  update = g * x", False),
        ("x = sinh(w)\n  x = arcsinh(x)\n  update = x * g + 0.0 * w", False),  # of the one before
    ):
        assert (screen(program(text)).key == plain.key) == is_hit
    assert (screen.num_confirmations, screen.num_told_apart) == (3, 1)


def test_what_an_epsilon_leaves_is_nothing_and_every_nan_is_one() -> None:
    one, other = program("update = exp2(log2(square(g)))"), program("update = square(g)")
    assert hashing.confirming_hash(one) == hashing.confirming_hash(other)
    stream = np.array([1.0, np.nan])
    assert hashing.stream_hash(stream) == hashing.stream_hash(np.copysign(stream, [1.0, -1.0]))
