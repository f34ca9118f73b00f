"""Programs that cannot train die before training, for a reason that is a fact."""

from __future__ import annotations

import pytest

from experiments.search import death, library
from experiments.search.language import parse


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("update = w * lr", "no gradient"),
        ("update = sign(w)\n  m = g", "no gradient"),
        ("x = arcsin(3.0)\n  update = g * x", "not finite"),
        ("x = exp(1000.0)\n  update = g * x", "not finite"),
        ("x = g - g\n  update = x * w", "constant zero"),
        ("update = g * 1000000.0", "too large"),
        ("update = g / 1e+20", "too small"),
        ("m = 5.0 * m\n  m = exp(m)\n  update = g * m", "not finite"),  # after some steps
        ("update = g * lr", None),
    ],
)
def test_causes_of_death(body: str, cause: str | None) -> None:
    program = parse(f"def train(w, g, m, v, lr):\n  {body}\n  return update, m, v\n")
    assert death.cause_of_death(program) == cause


@pytest.mark.parametrize("name", library.names())
def test_known_optimizers_live(name: str) -> None:
    assert death.cause_of_death(library.load(name)) is None
    assert not death.ignores_gradient(library.load(name))


def test_a_gradient_that_cancels_is_found() -> None:
    program = parse(
        "def train(w, g, m, v, lr):\n  x = g + w\n  update = x - g\n  return update, m, v"
    )
    assert death.cause_of_death(program) is None and death.ignores_gradient(program)


@pytest.mark.parametrize("name", ["lion", "momentum_sgd", "adamw", "raw", "lars_like"])
def test_the_step_follows_lr(name: str) -> None:
    assert death.scales_with_lr(library.load(name)) == (name != "raw")  # which clips at lr


def test_a_program_that_sets_its_own_lr_is_found() -> None:
    text = "def train(w, g, m, v, lr):\n  lr = 0.01\n  update = g * lr\n  return update, m, v"
    assert not death.scales_with_lr(parse(text))


@pytest.mark.parametrize(
    ("body", "follows"),
    [
        ("update = sign(g) * maximum(lr, 0.005)", False),  # less than the probe's lowest rate
        ("x = lr + 0.0001\n  update = g * x", False),
        (
            "m = m + 1.0\n  x = maximum(m - 100.0, 0.0)\n  x = x * 0.001\n"
            "  update = sign(g) * (x + lr)",
            False,  # counts steps
        ),
        ("x = get_eps()\n  update = interp(x, sign(g), lr)", True),  # 1e-8 is no step size
        ("m = m + 1.0\n  update = g * lr / m", True),  # a schedule on top
    ],
)
def test_a_step_size_of_its_own_that_shows_late_is_found(body: str, follows: bool) -> None:
    program = parse(f"def train(w, g, m, v, lr):\n  {body}\n  return update, m, v\n")
    assert death.scales_with_lr(program) == follows


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("update = sign(g) * lr", True),
        ("m = interp(g, m, 0.9)\n  update = m + w\n  x = lr * 0.5\n  update = update * x", True),
        ("x = lr * g\n  y = lr * w\n  update = interp(x, y, 0.1)\n  update = update / v", True),
        ("x = lr * g\n  update = x - w", False),
        ("x = lr * g\n  update = interp(x, w, 0.1)", False),
        ("x = lr * g\n  update = x * lr", False),
        ("update = g / lr", False),
        ("x = g * lr\n  update = sign(x)", False),
        ("m = g * lr\n  update = sign(m) * lr", False),  # the buffer remembers rates
        ("lr = 0.01\n  update = g * lr", False),
    ],
)
def test_the_text_shows_that_an_update_is_proportional_to_lr(body: str, shown: bool) -> None:
    program = parse(f"def train(w, g, m, v, lr):\n  {body}\n  return update, m, v\n")
    assert death.is_proportional_to_lr(program) == shown
    assert death.scales_with_lr(program) or not shown
