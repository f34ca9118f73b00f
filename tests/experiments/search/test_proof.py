"""Proofs find every disguise of Lion, and never take another optimizer for it."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from experiments.search import checker, disguises, filters, library, liveness, proof, rewriting
from experiments.search.algebra import Undecided, execute
from experiments.search.language import Program, Statement, parse
from experiments.search.verdict import Verdict

HALF = Fraction(1, 2)


def program(body: str) -> Program:
    return parse(f"def train(w, g, m, v, lr):\n  {body}\n  return update, m, v\n")


def facts(verdict: Verdict) -> tuple[Fraction | None, ...]:
    return verdict.beta1, verdict.beta2, verdict.lr_scale, verdict.weight_decay


@pytest.mark.parametrize(
    ("name", "betas", "decay"),
    [
        ("lion", ("9/10", "99/100"), "1/10"),
        ("evolved_plain", ("9/10", "99/100"), "1/10"),
        ("sign_momentum", ("9/10", "9/10"), "1/10"),
        ("sign_sgd", ("0", "0"), "0"),
    ],
)
def test_the_family_in_the_library(name: str, betas: tuple[str, str], decay: str) -> None:
    verdict = proof.prove(library.load(name))
    said = verdict.to_json()
    assert said["family"] == "sign-momentum" and said["decided"]
    assert (said["beta1"], said["beta2"]) == betas
    assert said["equal_to_lion_with"] == list(betas) and said["weight_decay"] == decay
    checker.verify(verdict.certificate)


@pytest.mark.parametrize(
    "name",
    sorted(set(library.names()) - {"lion", "evolved_plain", "sign_momentum", "sign_sgd"}),
)
def test_all_others_are_refuted(name: str) -> None:
    verdict = proof.prove(library.load(name))
    assert verdict.family is None and verdict.is_decided
    said = verdict.to_json()
    empty = ("family", "beta1", "beta2", "equal_to_lion_with", "weight_decay")
    assert [said[key] for key in empty] == [None] * 5 and said["reason"]


def test_the_raw_program_is_lion_without_clip_and_arcsin() -> None:
    raw = library.load("raw")
    reason = proof.prove(raw).reason
    assert "clip_by_global_norm and arcsin" in reason and "hinder" in reason
    plain = Program(
        tuple(
            Statement(s.target, "copy", s.arguments[:1])
            if s.function in ("clip_by_global_norm", "arcsin")
            else s
            for s in raw.statements
        )
    )
    verdict = proof.prove(plain)
    a, b = Fraction("0.8999999761581421"), Fraction("1.109133005142212")
    assert facts(verdict) == (
        a,
        a * b,
        Fraction("0.0002171761734643951"),
        Fraction("0.4601978361606598"),
    )
    checker.verify(verdict.certificate)


@pytest.mark.parametrize("seed", range(60))
def test_disguises_are_recognised_with_exact_betas(seed: int) -> None:
    source = random.Random(seed)
    recipe = disguises.draw_recipe(source)
    text = disguises.disguise(recipe, source)
    verdict = proof.prove(parse(text))
    wanted = (recipe.beta1, recipe.beta2, recipe.scale, recipe.decay)
    assert facts(verdict) == wanted, text
    checker.verify(verdict.certificate)


@pytest.mark.parametrize("fault", disguises.FAULTS)
@pytest.mark.parametrize("seed", range(4))
def test_near_misses_are_not_taken_for_the_original(seed: int, fault: str) -> None:
    source = random.Random(10_000 + seed)
    recipe = disguises.draw_recipe(source)
    verdict = proof.prove(parse(disguises.disguise(recipe, source, fault)))
    assert facts(verdict) != (recipe.beta1, recipe.beta2, recipe.scale, recipe.decay)
    if fault in ("beta1", "beta2", "decay", "scale"):
        assert verdict.family is not None  # it is another Lion, and proved to be one
    elif fault != "second order":  # of which some cancel
        assert verdict.family is None


@pytest.mark.parametrize(
    ("body", "betas"),
    [
        ("c = max(g, -g)\n  update = lr * g / c", (0, 0)),
        ("m = g\n  update = lr * sign(m)", (0, 0)),
        ("c = g + m\n  m = g\n  update = lr * sign(c)", (HALF, 0)),
        (
            "c = tanh(interp(g, m, 0.5))\n  m = interp(g, m, 0.5)\n  update = lr * sign(c)",
            (HALF,) * 2,
        ),
        (
            "c = clip(interp(g, m, 0.5), 0.1)\n  m = interp(g, m, 0.5)\n  update = lr * sign(c)",
            (HALF,) * 2,
        ),
        ("m = interp(g, m, 0.5)\n  update = lr * sign(power(m, 3))", (HALF, HALF)),
        ("m = interp(g, m, 0.5)\n  update = lr * m / power(m ** 2, 0.5)", (HALF, HALF)),
        ("m = interp(g, m, 0.5)\n  update = lr * sign(exp(lr) * m)", (HALF, HALF)),
        ("m = interp(g, m, 0.5)\n  update = lr * cbrt(m ** 3) / sqrt(m ** 2)", (HALF, HALF)),
        ("m = interp(g, m, 0.5)\n  update = lr * (sign(m) + sin(m) - sin(m))", (HALF, HALF)),
        ("update = lr * sign(g + 0.5 * abs(g))", (0, 0)),
        (
            "c = interp(g, m, 0.5)\n  m = c\n  update = sign(c) + v\n  update = update * lr",
            (HALF,) * 2,
        ),
        ("c = g + v\n  v = v * 0.5\n  update = lr * g / abs(c)", (0, 0)),  # v stays zero
        ("c = g + v + m\n  v = sin(m)\n  m = v * 0.5\n  update = lr * sign(c)", (0, 0)),
        ("x = sign(g)\n  y = sign(w)\n  update = lr * sign(x + x * x * x - 0.5 * y)", (0, 0)),
    ],
)
def test_what_the_algebra_sees_through(body: str, betas: tuple[Fraction, Fraction]) -> None:
    verdict = proof.prove(program(body))
    assert (verdict.beta1, verdict.beta2) == betas


def test_buffers_that_stay_zero_are_in_the_certificate() -> None:
    body = "c = interp(g, m, 0.5)\n  m = c\n  update = sign(c) + v\n  update = update * lr"
    certificate = proof.prove(program(body)).certificate
    assert certificate["zero"] == ["v"]
    checker.verify(certificate)
    with pytest.raises(checker.Refused):
        checker.verify({**certificate, "zero": []})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("update = lr * sign(w)\n  m = g", "depends on w"),
        (
            "c = interp(g, m, -0.5)\n  m = interp(g, m, 0.5)\n  update = lr * sign(c)",
            "beta1 = -1/2",
        ),
        ("m = m + g\n  update = lr * sign(m)", "beta1 = 1"),
        ("c = interp(g, m, 0.5)\n  m = interp(g, m, 1.5)\n  update = lr * sign(c)", "beta2 = 3/2"),
        ("update = lr * sign(m)\n  m = interp(g, m, 0.5)", "lacks the newest gradient"),
        ("c = g - m\n  m = interp(g, m, 0.5)\n  update = lr * sign(c)", "forgets the mean"),
        ("update = lr * sign(m)\n  m = m * 0.5", "zero where the weights are"),
        ("update = 0 - lr * sign(g)", "goes up the gradient"),
        ("update = 0.1 * sign(g)", "does not follow lr"),
        ("lr = get_pi()\n  update = lr * sign(g)", "does not follow lr"),
        ("update = lr * (sign(g) + 0.1) ", "besides lr times a sign"),
        ("update = lr * (sign(g) + sign(m))\n  m = interp(g, m, 0.5)", "several signs"),
        ("update = lr * sign(g) * sign(m)\n  m = g", "not lr times the sign"),
        ("update = sign(g) * lr + w * lr * lr", "does not follow lr"),
        (
            "m = interp(g, m, 0.5)\n  v = interp(m, v, 0.25)\n  update = lr * sign(v)",
            "second order",
        ),
    ],
)
def test_what_is_not_the_family_and_why(body: str, reason: str) -> None:
    verdict = proof.prove(program(body))
    assert verdict.family is None and verdict.is_decided
    assert reason in verdict.reason


@pytest.mark.parametrize(
    "body",
    [
        "x = 1.0 + sign(w)\n  update = lr * sign(g * x / x)",  # 0 / 0 for half of the weights
        "x = maximum(w, 0.0)\n  update = lr * sign(g * x / x)",
        "x = norm(g - g)\n  update = lr * sign(g * x)",
        "x = norm(m)\n  update = lr * sign(g * x)",  # m stays zero
        "x = sign(m)\n  update = lr * sign(g) * x * x",  # the same
        "x = m / m\n  update = lr * sign(g) * x",
        "x = arcsin(g)\n  update = lr * (sign(g) + x - x)",  # NaN for gradients above 1
        "x = arccosh(g)\n  update = lr * (sign(g) + x - x)",
        "x = lr - lr\n  y = clip(g, x)\n  update = lr * sign(y)",
        "x = cosine_sim(g, w)\n  update = lr * sign(g * x)",
        "x = dot(g, w)\n  update = lr * sign(g * x)",
        "x = g + w\n  update = lr * sign(x) * abs(x) / x",
        "m = g + 1e-09 * w\n  update = lr * sign(m)",
        "update = lr * sign(g + 1e-12)",
        "update = lr * sign(g) + 1e-15",
        "update = lr * (sign(g) + 1e-15 * square(w))",
        "update = lr * sign(g) + 1e-15 * w",
        "x = power(g, 2.0000001)\n  update = lr * x / (abs(g) * g)",
        "x = maximum(g, 1e-20)\n  update = lr * sign(x)",
        "update = lr * sign(log(exp(g)))",  # log of the magnitude: not g for negative g
        "update = lr * sign(sqrt(g) * g - 1e-30)",
    ],
)
def test_what_is_equal_only_almost_is_not_proved(body: str) -> None:
    assert proof.prove(program(body)).family is None


def test_a_negative_decay_is_named_and_is_no_lion() -> None:
    said = proof.prove(program("update = lr * (sign(g) - 0.1 * w)")).to_json()
    assert said["family"] and said["weight_decay"] == "-1/10"
    assert said["equal_to_lion_with"] is None and "negative" in said["reason"]


def test_undecided_is_said_and_is_not_a_refutation() -> None:
    """2 g + sin(g) has the sign of g, but neither this algebra nor a stream can tell."""
    verdict = proof.prove(program("update = lr * sign(2 * g + sin(g))"))
    assert verdict.family is None and not verdict.is_decided
    assert verdict.reason.startswith("undecided") and verdict.to_json()["decided"] is False


def test_nothing_to_the_power_of_nothing_is_one_as_in_numbers() -> None:
    """A buffer that nobody writes, to the power of another."""
    lion = library.load("lion").text()
    disguised = lion.replace("update = update * lr", "one = power(v, v)\n  update = update * lr\n"
                             "  update = update * one")  # fmt: skip
    verdict = proof.prove(parse(disguised))
    assert (verdict.beta1, verdict.beta2) == (Fraction(9, 10), Fraction(99, 100))


def test_the_algebra_gives_up_on_division_by_zero() -> None:
    with pytest.raises(Undecided, match="divides by zero"):
        execute(program("x = g - g\n  update = g / x"))


def test_the_algebra_is_the_program_in_numbers() -> None:
    """Its values, at random points, are those of the float64 rules, in the whole library."""
    random_numbers = np.random.default_rng(0)
    for name in ("lion", "evolved_plain", "momentum_sgd", "nesterov_sgd", "sgd"):
        one = liveness.prune(library.load(name))
        result = execute(one)
        point = dict(zip(("w", "g", "m", "v", "lr"), random_numbers.normal(size=5), strict=True))
        point["lr"] = abs(point["lr"])
        from experiments.search.execution import numpy_step

        point |= dict.fromkeys(result.zeros, 0.0)
        arrays = [np.full(2, point[n]) for n in ("w", "g", "m", "v")]
        update, m, v = numpy_step(one)(*arrays, point["lr"])
        for value, found in (
            (result.update, update),
            (result.states["v"], v),
            (result.states["m"], m),
        ):
            expression = value.as_expr()
            names = {f"u{i}": u.argument for i, u in enumerate(result.algebra.unknowns)}
            signs = {n: np.sign(float(a.as_expr().subs(point))) for n, a in names.items()}
            assert float(expression.subs({**point, **signs})) == pytest.approx(found[0], rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_betas_are_read_off_any_mixture_of_buffers(seed: int) -> None:
    """A change of basis T x of the state keeps the transfer function, so the betas."""
    source = random.Random(seed)

    def number() -> Fraction:
        return Fraction(source.randint(-9, 9), source.randint(1, 9))

    b1, b2 = Fraction(source.randint(1, 98), 99), Fraction(source.randint(1, 98), 99)
    size = Fraction(source.randint(1, 50), 7)
    a, b, c, d = (number() for _ in range(4))
    if a * d == b * c:
        a, b, c, d = Fraction(1), Fraction(2), Fraction(3), Fraction(5)
    det = a * d - b * c
    inverse = [[d / det, -b / det], [-c / det, a / det]]
    # Lion's buffer, and one beside it that moves by itself: x1 <- b2 x1 + (1 - b2) g, x2 <- x2 / 3
    lion = [[b2, Fraction(0)], [Fraction(0), Fraction(1, 3)]]
    basis = [[a, b], [c, d]]
    moved = _times(_times(basis, lion), inverse)
    system = filters.Filter(
        moved,
        [row[0] * (1 - b2) for row in basis],
        [size * b1 * x for x in inverse[0]],
        size * (1 - b1),
    )
    assert filters.betas(*filters.transfer(system)) == (b1, b2)


def _times(x: list[list[Fraction]], y: list[list[Fraction]]) -> list[list[Fraction]]:
    return [[sum((r[k] * y[k][j] for k in range(2)), Fraction(0)) for j in range(2)] for r in x]


def test_the_checker_stands_alone_and_refuses_every_false_claim() -> None:
    import ast
    from pathlib import Path

    tree = ast.parse(Path(checker.__file__).read_text())
    imported = {
        getattr(node, "module", None) or node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported <= {"__future__", "ast", "collections.abc", "fractions", "math", "typing"}
    good = proof.prove(library.load("evolved_plain")).certificate
    checker.verify(good)
    for key, value in (
        ("beta1", "8/9"),
        ("beta2", "98/100"),
        ("weight_decay", "1/9"),
        ("lr_scale", "2"),
        ("signed", {"g": "1/10", "v": "8/10"}),
        ("momentum", {"v": "2"}),
        ("momentum", {}),
        ("zero", ["v"]),
        ("zero", ["m"]),
        ("program", good["program"].replace("1.1", "1.2")),
        ("program", good["program"].replace("sqrt", "tanh")),
        ("program", good["program"].replace("return update, m, v", "return m, m, v")),
        ("program", good["program"].replace("w * 0.1", "w * w")),
        ("program", "print('hello')"),
        ("program", good["program"].replace("  return", "  x = update = g\n  return")),
        ("program", good["program"].replace("sqrt(m2)", "sqrt(m2, x=g)")),
        ("program", good["program"].replace("sqrt(m2)", "sqrt(m2, m2)")),
        ("program", good["program"].replace("lr):", "lr=1):")),
        ("program", "(" * 10_000),
        ("program", None),
        ("beta1", "no number"),
        ("beta1", ["9/10"]),
        ("signed", None),
        ("signed", {**good["signed"], "w": "1"}),
        ("zero", 3),
    ):
        with pytest.raises(checker.Refused):
            checker.verify({**good, key: value})
    for other in ([], None, "{}"):
        with pytest.raises(checker.Refused):
            checker.verify(other)


def test_powers_of_a_small_average_are_no_example_against_a_proof() -> None:
    """Where a gradient is zero s is 1e-4 of the others, and c^6 / c^6 is far from 1 in float64."""
    text = """
def train(w, g, m, v, lr):
  c = interp(g, m, 0.1)
  m = interp(g, m, 0.999)
  s = square(cube(c)) / (cube(c) * abs(cube(c)))
  update = lr * s
  return update, m, v
"""
    verdict = proof.prove(parse(text))
    assert (verdict.beta1, verdict.beta2) == (Fraction(1, 10), Fraction(999, 1000))


LION = "c = interp(g, m, 0.9)\n  m = interp(g, m, 0.99)\n  "


@pytest.mark.parametrize(
    "body",
    [
        # 1 for a scalar 1, the number of weights for an array of them: is it above a million?
        "x = g * 0.0 + 1.0\n  z = maximum(dot(x, x) - dot(1.0, 1.0) - 1e6, 0.0)\n  c = c - z",
        "x = g * 0.0 + lr\n  z = sign(1000.0 - global_norm(x) / global_norm(lr))\n  c = c * z",
        "x = g * 0.0 + lr\n  z = sign(1000.0 - norm(x) / norm(lr))\n  c = c * z",
        "x = g * 0.0 + lr\n  z = maximum(clip(lr, 1.0) - clip(x, 1.0) - 0.9, 0.0)\n  c = c - z",
        "x = g * 0.0 + 1.0\n  z = cosine_sim(x, x) - cosine_sim(1.0, 1.0)\n  c = c - tan(z)",
    ],
)
def test_a_norm_of_an_array_is_not_that_of_a_scalar(body: str) -> None:
    one = program(f"{LION}{body}\n  update = lr * sign(c)")
    assert proof.prove(one).family is None
    assert len(rewriting.rewrite(one)) > 4


def test_reductions_of_scalars_are_algebra() -> None:
    body = (
        "x = global_norm(lr) + norm(-2.0) + dot(lr, -1.0) + cosine_sim(2.0, 3.0)\n  "
        "update = lr * sign(c) * x / 3.0 * clip(-4.0, 1.0) * -1.0"
    )
    assert facts(proof.prove(program(LION + body))) == (
        *(Fraction(9, 10), Fraction(99, 100)),
        *(Fraction(1), Fraction(0)),
    )


@pytest.mark.parametrize("rate", [0.002, 0.00001])
def test_what_a_step_with_nothing_to_sign_leaves_in_the_buffers(rate: float) -> None:
    """It counts the steps in which nothing is signed; the slow counter is beyond any trial."""
    counter = f"v = v + {rate} - {rate} * square(sign(c))\n  c = c + maximum(v - 0.5, 0.0)\n  "
    verdict = proof.prove(program(f"{LION}{counter}update = lr * sign(c)"))
    assert verdict.family is None or "after a step in which g + 9*m is 0" in verdict.reason
    assert (verdict.family is None) == (rate == 0.002)
    assert not verdict.certificate


def test_the_checker_asks_what_a_step_with_nothing_to_sign_leaves() -> None:
    plain = program(f"{LION}update = lr * sign(c)")
    good = proof.prove(plain).certificate
    checker.verify(good)
    for line in ("m = m * (c / c)", "m = m * square(sign(c))"):
        text = good["program"].replace("  update", f"  {line}\n  update", 1)
        with pytest.raises(checker.Beyond, match="s is 0"):
            checker.verify({**good, "program": text})


@pytest.mark.parametrize(
    ("line", "is_other"),
    [
        ("c = c * 1e-60", True),
        ("v = v * 2.0 + 1.0\n  c = c + (v - v)", True),
        ("c = c * 8.0", False),
    ],
)
def test_what_float32_makes_of_a_proof_is_said(line: str, is_other: bool) -> None:
    verdict = proof.prove(program(f"{LION}{line}\n  update = lr * sign(c)"))
    assert verdict.family is not None
    assert ("in float32, in which programs are trained" in verdict.reason) == is_other


def test_the_algebra_gives_up_on_what_takes_hours_to_factorise() -> None:
    with pytest.raises(Undecided, match="82 terms and degree 81"):
        execute(program(f"{LION}update = sign(cube(cube(cube(cube(c)))))"))
