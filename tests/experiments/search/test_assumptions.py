"""Proofs hold at weights and gradients of zero, are verified, and end in good time."""

from __future__ import annotations

import pytest

from experiments.search import checker, proof, unknowns
from experiments.search.algebra import Undecided, execute
from experiments.search.language import Program, parse


def program(body: str) -> Program:
    return parse(f"def train(w, g, m, v, lr):\n  {body}\n  return update, m, v\n")


LION = "c = interp(g, m, 0.9)\n  m = interp(g, m, 0.99)\n  "


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ("update = lr * sign(c) * w / w", "w"),
        ("update = lr * sign(c) * (g / g)", "g"),
        ("update = lr * sign(c) * sign(g) * sign(g)", "g"),
        ("update = lr * sign(c * abs(g))", "g"),
        ("update = lr * sign(c * w * w)", "w"),
        ("x = w - 1.0\n  update = lr * sign(c) * (x / x)", "w - 1"),
        ("m = m * (w / w)\n  update = lr * sign(c)", "w"),
        ("x = w - 0.1\n  update = lr * sign(c) * (x / x)", "w - 1/10"),
        ("x = 3.0 * w - 2.0\n  update = lr * sign(c) * (x / x)", "w - 2/3"),
        ("x = g - m\n  update = lr * sign(c) * (x / x)", "g - m"),
        ("x = lr - 0.01\n  update = lr * sign(c) * (x / x)", "lr - 1/100"),
    ],
)
def test_what_is_equal_only_away_from_zeros_is_not_proved(body: str, at: str) -> None:
    """Biases begin at 0, gains at 1, and units without input have gradients of 0."""
    verdict = proof.prove(program(LION + body))
    assert verdict.family is None and f"if {at} were never 0" in verdict.reason
    assert verdict.is_decided


@pytest.mark.parametrize(
    "body",
    [
        "update = lr * sign(c) * power(abs(c), 2) / square(c)",
        "s = minimum(maximum(sign(c), -0.5), 0.5)\n  update = s * sqrt(lr) * sqrt(lr)",
        "update = lr * sign(reciprocal(c))",
    ],
)
def test_what_is_proved_is_verified(body: str) -> None:
    verdict = proof.prove(program(LION + body))
    checker.verify(verdict.certificate)
    assert "not proved" not in verdict.reason


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("update = lr * sign(sinh(c))", "without a certificate"),
        ("update = lr * sign(c / sqrt(v))\n  v = v + g * g", "not proved where"),
    ],
)
def test_what_the_checker_cannot_follow_has_no_certificate(body: str, said: str) -> None:
    verdict = proof.prove(program(LION + body))
    assert verdict.family and not verdict.certificate and said in verdict.reason


@pytest.mark.parametrize(
    ("body", "is_family"),
    [
        ("v = v + 0.01\n  x = arcsin(v)\n  update = lr * (sign(c) + x - x)", False),
        ("v = v + 0.002\n  x = 0.0 * arctanh(v)\n  update = lr * (sign(c) + x)", False),
        ("x = arccos(lr)\n  update = lr * (sign(c) + x - x)", True),
    ],
)
def test_what_cancels_must_be_defined(body: str, is_family: bool) -> None:
    """NaN from the hundredth step on, which no short stream of updates shows."""
    verdict = proof.prove(program(LION + body))
    assert (verdict.family is not None) == is_family
    assert ("not proved where arccos is not defined" in verdict.reason) == is_family
    assert is_family or "always defined" in verdict.reason


@pytest.mark.parametrize("what", ["exp(0.0)", "cos(v)", "cosh(m - m)", "exp2(log(exp(0.0)))"])
def test_values_at_zero_and_one_are_numbers(what: str) -> None:
    verdict = proof.prove(program(f"{LION}update = lr * sign(c) * {what}"))
    assert (str(verdict.beta1), str(verdict.beta2)) == ("9/10", "99/100")
    checker.verify(verdict.certificate)
    lie = verdict.certificate["program"].replace("0.0", "0.1").replace("cos(v)", "cos(w)")
    if lie != verdict.certificate["program"]:
        with pytest.raises(checker.Refused):
            checker.verify({**verdict.certificate, "program": lie})


def test_numbers_that_grow_without_end_are_given_up() -> None:
    body = "x = 3.0\n  " + "x = x * x\n  " * 60
    for last in ("update = lr * sign(g * x)", "x = x * g\n  " * 1200 + "update = lr * sign(x)"):
        assert not proof.recognise(program(body + last)).is_decided
    certificate = proof.prove(program(LION + "update = lr * sign(c)")).certificate
    for lie in ({"beta1": "1e999999999"}, {"program": program(body + "update = g * x").text()}):
        with pytest.raises(checker.Refused):
            checker.verify({**certificate, **lie})


def test_roots_of_roots_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknowns, "_MOST_TERMS", 40)
    body = "x = g\n  " + "x = sqrt(x + m)\n  x = x / (x + g)\n  " * 4 + "update = lr * sign(x)"
    with pytest.raises(Undecided, match="more than 40 terms"):
        execute(program(body + "\n  m = interp(g, m, 0.9)"))


@pytest.mark.parametrize(
    "what", ["sign(c) - 0.001 * c", "sign(c) + w", "2.0 + sign(c)", "c + abs(c)"]
)
def test_the_checker_takes_no_sum_for_a_sign(what: str) -> None:
    certificate = proof.prove(program(LION + "update = lr * sign(c)")).certificate
    other = program(f"{LION}x = {what}\n  update = lr * sign(x)")
    with pytest.raises(checker.Refused):
        checker.verify({**certificate, "program": other.text()})


@pytest.mark.parametrize(
    "what", ["2.0 * c + abs(c)", "3.0 * sign(c) * c * c + c * c", "c * lr * c * c"]
)
def test_the_checker_follows_sums_with_the_sign_of_s(what: str) -> None:
    certificate = proof.prove(program(LION + "update = lr * sign(c)")).certificate
    other = program(f"{LION}x = {what}\n  update = lr * sign(x)")
    checker.verify({**certificate, "program": other.text()})
