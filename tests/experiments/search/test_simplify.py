"""Simplification: rewriting keeps every update; ablation takes what training does not miss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from programs import from_seed

from experiments.config import UserError
from experiments.data import bundled_paths
from experiments.search import (
    ablation,
    evaluation,
    hashing,
    library,
    liveness,
    probes,
    rewriting,
    types,
)
from experiments.search.language import Program, parse
from experiments.search.proxies import families
from experiments.search.simplify import proxy_measure, simplify

LION = """\
def train(w, g, m, v, lr):
  update = interp(g, m, 0.9)
  update = sign(update)
  m = interp(g, m, 0.99)
  wd = w * 0.46
  update = update + wd
  lr = lr * 0.00022
  update = update * lr
  return update, m, v
"""


def program(body: str) -> Program:
    return parse(f"def train(w, g, m, v, lr):\n  {body}\n  return update, m, v\n")


def misses_all_but(*functions: str) -> ablation.Measure:
    """A made-up training of the raw program that misses every function but those named."""

    def counted(one: Program) -> Counter[str]:
        return Counter(s.function for s in one.statements if s.function not in functions)

    needed = counted(liveness.prune(library.load("raw")))
    return lambda programs: [[-1.0 * (counted(one) != needed)] * 3 for one in programs]


def test_the_raw_program_becomes_lions_statements() -> None:
    way = simplify(library.load("raw"), misses_all_but("clip_by_global_norm", "arcsin"))
    stages = [stage for stage, _, _ in way.steps]
    assert stages[:4] == ["start", "liveness", "ablation", "ablation"]
    assert way.program.text() == LION
    assert way.verdict is not None and way.verdict.family == "sign-momentum"
    assert (str(way.verdict.beta1), str(way.verdict.beta2)) == ("9/10", "99/100")


def test_on_a_real_proxy_clip_and_arcsin_are_superfluous() -> None:
    raw = library.load("raw")
    way = simplify(raw, proxy_measure(raw, "mlp", num_rounds=2, num_steps=40), tolerance=0.03)
    removed = [said for stage, said, _ in way.steps if stage == "ablation"]
    assert any("clip(g, lr)" in said for said in removed)
    assert any("arcsin(g)" in said for said in removed)
    assert way.verdict is not None and way.verdict.family == "sign-momentum"
    assert way.verdict.weight_decay and way.verdict.beta2  # decay and memory are kept


def test_a_proxy_judges_all_programs_in_every_round_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[evaluation.Job]] = []

    def judged(jobs: Sequence[evaluation.Job]) -> list[Any]:
        asked.append(jobs)
        values = [10.0 * job.round_number + place for place, job in enumerate(jobs)]
        return [SimpleNamespace(fitness=value) for value in values]

    seen: list[int] = []
    monkeypatch.setattr(evaluation, "judge", judged)
    monkeypatch.setattr(evaluation, "standard_of", lambda _, number: seen.append(number))
    four = program("x = sign(g)\n  x = x * 4.0\n  update = x * lr")
    measure = proxy_measure(four, "mlp", num_rounds=3, num_steps=7, first_round=5)
    assert measure([four, library.load("lion")]) == [[50, 60, 70], [51, 61, 71]]
    (tier,) = {job.tier for jobs in asked for job in jobs}
    assert seen == [5] and (tier.num_steps, tier.part) == (7, "fresh")
    assert tier.reference == four.text()
    assert tier.lrs == pytest.approx([rate / 4 for rate in families.family("mlp").lrs])


def test_a_program_that_does_not_train_is_named_itself() -> None:
    """Not its reference, which nobody has chosen here."""
    broken = program("x = arcsin(2.0)\n  update = g * x * lr")
    with pytest.raises(UserError, match="the program itself has no finite loss on mlp") as told:
        simplify(broken, proxy_measure(broken, "mlp", num_rounds=1, num_steps=10))
    assert "simplify --exact" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("keep", [ablation.KEPT, (ablation.DECAY,), (ablation.BUFFERS,), ()])
def test_what_ablation_must_leave_alone(keep: tuple[str, ...]) -> None:
    full = program("c = g + m\n  m = g + m\n  update = sin(c)\n  wd = w\n  update = update + wd")

    def measure(programs: Sequence[Program]) -> list[list[float]]:
        return [[0.0, 0.0] for _ in programs]  # nothing is missed

    found = ablation.ablate(full, measure, 0.0, keep)[-1].program
    assert ("w" in liveness.analyse(found).read) == (ablation.DECAY in keep)
    assert any(s.target == "m" for s in found.statements) == (ablation.BUFFERS in keep)
    assert "g" in liveness.analyse(found).read


def test_what_is_missed_stays() -> None:
    lion = library.load("lion")
    assert ablation.ablate(lion, lambda programs: [[-0.5, -0.5] for _ in programs], 0.01) == []
    dead = [[float("-inf"), 0.0]]
    assert ablation.ablate(lion, lambda programs: dead * len(programs), 0.01) == []


def test_rounding_is_compared_with_what_is_left_and_not_with_the_original() -> None:
    left = program("x = g * 0.8999999\n  update = x * lr")
    for of_rounded, expected in ((-0.5, ["0.9"]), (-0.6, [])):

        def measure(programs: Sequence[Program], gain: float = of_rounded) -> list[list[float]]:
            return [[-0.5 if one == left else gain] * 2 for one in programs]

        found = ablation.round_constants(left, measure, 0.01)
        assert [one.what.rpartition(" ")[2] for one in found] == expected


@pytest.mark.parametrize(
    ("gains", "tolerance", "is_tolerable"),
    [
        ([-0.1, -0.1, -0.1], 0.2, True),
        ([-0.1, -0.1, -0.1], 0.05, False),
        ([-0.3, 0.1, 0.0], 0.0, True),  # within two standard errors of none
        ([0.1, 0.2], 0.0, True),
        ([float("-inf"), 1.0], 9.0, False),
        ([-0.1], 0.0, False),  # one round has no error to hide in
    ],
)
def test_tolerance(gains: list[float], tolerance: float, is_tolerable: bool) -> None:
    assert ablation.is_tolerable(gains, tolerance) == is_tolerable


@pytest.mark.parametrize(
    ("number", "rounded"),
    [
        (0.8999999761581421, 0.9),
        (1.109133005142212, 1.1),
        (0.4601978361606598, 0.46),
        (0.0002171761734643951, 0.00022),
        (-0.99, -0.99),
        (0.0, 0.0),
        (1e-30, 1e-30),
    ],
)
def test_rounding_keeps_within_two_percent(number: float, rounded: float) -> None:
    assert ablation.fewest_digits(number) == rounded


@pytest.mark.parametrize(
    ("body", "shorter"),
    [
        ("x = m * m\n  y = sqrt(x)\n  update = m / y\n  m = g", "update = sign(m)\n  m = g"),
        ("x = square(g)\n  update = sqrt(x)", "update = abs(g)"),
        ("x = 2.0 * g\n  y = g + g\n  update = x * y", "x = g + g\n  update = square(x)"),
        ("x = g + w\n  y = x - w\n  update = y * lr", "update = g * lr"),
        ("x = tanh(g)\n  y = tanh(g)\n  update = x + y", "x = tanh(g)\n  update = x + x"),
        ("x = negative(g)\n  update = w - x", "update = g + w"),
        (  # one step after another
            "x = square(g)\n  x = sqrt(x)\n  y = square(m)\n  y = sqrt(y)\n  update = x + y",
            "x = abs(g)\n  y = abs(m)\n  update = x + y",
        ),
    ],
)
def test_rewriting_finds_shorter_equal_programs(body: str, shorter: str) -> None:
    found = rewriting.rewrite(program(body))
    assert len(found) == len(program(shorter)), found.text()
    assert hashing.confirming_hash(found) == hashing.confirming_hash(program(shorter))


@pytest.mark.parametrize("name", library.names())
def test_rewriting_keeps_the_updates_of_the_library(name: str) -> None:
    one = library.load(name)
    other = rewriting.rewrite(one)
    types.check(other)
    assert len(other) <= len(liveness.prune(one))
    streams = [probes.stream(p, probes.small()) for p in (one, other)]
    np.testing.assert_allclose(*streams, rtol=1e-6, atol=1e-300)


def test_an_array_of_ones_is_no_number() -> None:
    """Else its norm, the root of the number of weights, would be 1."""
    text = "def train(w, g, m, v, lr):\n  x = w - w\n  x = cos(x)\n  x = norm(x)\n"
    one = parse(f"{text}  update = g * lr\n  update = update / x\n  return update, m, v\n")
    streams = [probes.stream(p, probes.small()) for p in (one, rewriting.rewrite(one))]
    np.testing.assert_allclose(*streams, rtol=1e-6, atol=1e-300)


def test_copies_are_read_through() -> None:
    random_programs = [from_seed(seed, 8) for seed in range(150)]
    for one in random_programs:
        other = rewriting.without_copies(one)
        assert len(other) <= len(one)
        probe = probes.make(1, 16, 3)
        streams = [probes.stream(p, probe) for p in (one, other)]
        np.testing.assert_array_equal(*streams)
    swap = parse("def train(w, g, m, v, lr):\n  return m, v, g")
    probe = probes.make(1, 16, 4)
    streams = [probes.stream(p, probe) for p in (swap, rewriting.without_copies(swap))]
    np.testing.assert_array_equal(*streams)


def test_a_family_program_without_decimal_betas_stays_as_it_is() -> None:
    one = program(
        "c = interp(g, m, 0.5)\n  x = 1.0 / 3.0\n  m = interp(g, m, x)\n  update = lr * sign(c)"
    )
    assert rewriting.as_sign_momentum(one) is None
    assert len(rewriting.rewrite(one)) <= len(one)


def test_data_that_are_missing_are_no_fault_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_paths, "find_spec", lambda name: None)
    families.proxy.cache_clear()
    measure = proxy_measure(library.load("lion"), "mlp", num_rounds=2, num_steps=7)
    try:
        with pytest.raises(UserError, match="ships with the package mnist1d: pip install"):
            measure([library.load("lion")])
    finally:
        families.proxy.cache_clear()
