"""What algebra cancels, numbers need not: where inputs are equal, or a program's constants."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.search import rewriting, ties
from experiments.search.execution import numpy_step
from experiments.search.language import Program, parse


def program(body: str) -> Program:
    return parse(f"def train(w, g, m, v, lr):\n  {body}\n  return update, m, v\n")


STEP = {"w": 0.5, "g": 0.25, "m": 0.0, "v": 0.0, "lr": 0.3}


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ("x = m - v\n  x = x / x\n  update = g * x\n  m = g\n  v = w", {}),  # the first step
        ("x = m - v\n  x = sign(x)\n  x = x * x\n  update = w * x\n  m = g\n  v = w", {}),
        ("x = w - 1.0\n  x = x / x\n  update = g * x", {"w": 1.0}),
        ("x = w - 0.1\n  x = x / x\n  update = g * x", {"w": 0.1}),
        ("x = lr - 0.01\n  x = x / x\n  update = g * x", {"lr": 0.01}),
        ("x = g - m\n  x = x / x\n  update = w * x\n  m = g", {"m": 0.25}),
        ("x = w - 2.0 * g\n  x = x / x\n  update = w * x", {}),
        ("x = norm(g)\n  x = x / x\n  update = w * x", {"g": 0.0}),
        ("x = w * (m + g)\n  x = min(x, lr)\n  update = x / x\n  m = w * w", {"g": 0.0}),
    ],
)
def test_what_is_nothing_at_a_tie_is_not_rewritten_to_something(
    body: str, at: dict[str, float]
) -> None:
    """0 / 0 is 0 in programs, so that the update is; whoever cancels it would step."""
    values = STEP | at
    w, g, m, v = (np.full(3, values[name]) for name in ("w", "g", "m", "v"))
    one = program(body)
    for version in (one, rewriting.rewrite(one)):
        update, _, _ = numpy_step(version)(w, g, m, v, values["lr"])
        np.testing.assert_array_equal(update, 0.0)


def test_what_is_not_defined_stays_undefined() -> None:
    one = program("x = arcsin(g)\n  x = x - x\n  update = g + x")
    with np.errstate(invalid="ignore"):
        x = np.full(3, 1.5)
        update, _, _ = numpy_step(rewriting.rewrite(one))(x, x, x, x, 0.1)
    assert np.isnan(update).all()


def test_what_an_epsilon_leaves_is_seen_once_it_is_large() -> None:
    """1 / (1 / 0) is 1e-30, which a sign makes 1."""
    text = "x = reciprocal(g)\n  x = reciprocal(x)\n  update = {}"
    assert len(rewriting.rewrite(program(text.format("lr * w * sign(x)")))) == 5
    assert rewriting.rewrite(program(text.format("lr * x"))) == program("update = lr * g")


def test_points_are_ties_and_zeros_and_the_programs_numbers() -> None:
    one = program("x = w - 0.1\n  y = lr - 0.02\n  update = x * y + 3.0 * g")
    assert {0.1, -0.1, 3.0, 1.0, 0.0, 0.1 / 3.0} <= set(ties.constants(one))
    assert {0.1, 0.02, 0.3} <= set(ties.rates(one))
    found = ties.points(one)
    w, g, m, v, lr = (found[name] for name in ("w", "g", "m", "v", "lr"))
    assert w.shape == g.shape == m.shape == v.shape and lr.shape == (len(w), 1)
    for x, y in ((w, g), (w, m), (g, m), (m, v)):
        assert ((x == y) & (x != 0)).any()
    zeros = {tuple(not row.any() for row in rows) for rows in zip(w, g, m, v, strict=True)}
    assert len(zeros) == 16
    assert max(np.abs(x).max() for x in (w, g, m, v)) <= ties.LARGEST
    again = ties.points(one)
    assert all(np.array_equal(again[name], found[name]) for name in found)


def test_two_trainings_are_compared_at_ties() -> None:
    plain, held = program("update = g * lr"), program("x = w - 0.1\n  update = g * lr * (x / x)")
    assert ties.same_updates(plain, program("update = lr * (g + 0.0 * w)"))
    assert not ties.same_updates(held, plain) and not ties.same_updates(held, program("update = g"))
