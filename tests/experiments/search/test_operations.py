"""The table of functions is the paper's list, and its three rules are one function each."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy
import torch

from experiments.search import numpy_rules, sympy_rules, torch_rules
from experiments.search.operations import ALIASES, OPERATIONS

LIST = Path(__file__).parents[3] / "results" / "paper" / "search_functions.csv"
SYMBOLS = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
POINTS = {  # where the functions are real and smooth
    **{name: [(0.3,), (-0.7,), (0.05,)] for name in ("arcsin", "arccos", "arctanh")},
    "arccosh": [(1.2,), (3.0,)],
    "power": [(0.7, 1.3), (2.0, -2.0), (1.5, 0.0)],
}
ELEMENTWISE = sorted(
    name
    for name, operation in OPERATIONS.items()
    if operation.arity and operation.result == "widest" and name not in ("norm",)
)


def points(name: str) -> list[tuple[float, ...]]:
    arity = OPERATIONS[name].arity
    values = [(0.4, -1.3, 0.2), (-0.9, 0.35, 0.8), (2.5, 1.7, -0.4)]
    return POINTS.get(name, [value[:arity] for value in values])


OURS = {"copy"}
"""Functions that the paper's list lacks; put yours here, too."""


def test_the_table_is_the_papers_list() -> None:
    table = pd.read_csv(LIST)
    known = {SYMBOLS.get(name, name) for name in table.function}
    assert set(OPERATIONS) == known - {"invert"} | OURS
    for row in table[table.function != "invert"].itertuples():
        assert OPERATIONS[SYMBOLS.get(row.function, row.function)].arity == row.arity
    assert not OPERATIONS["copy"].searched
    searched = [name for name, o in OPERATIONS.items() if o.searched and name not in OURS]
    assert len(searched) == 44  # the appendix' 43, and negative
    assert set(ALIASES.values()) <= set(OPERATIONS)
    for rules in (numpy_rules, torch_rules, sympy_rules):
        assert set(rules.RULES) == set(OPERATIONS)


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE if n != "clip_by_global_norm"])
def test_three_rules_of_one_function_agree(name: str) -> None:
    operation = OPERATIONS[name]
    for point in points(name):
        symbolic = float(operation.sympy(*[sympy.Float(x, 30) for x in point]))
        arrays = [np.full(3, x) for x in point]
        if name == "interpolate":
            arrays[2] = point[2]
        plain = operation.numpy(*arrays)
        tensors = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arrays]
        np.testing.assert_allclose(plain, symbolic, rtol=1e-13)
        np.testing.assert_allclose(operation.torch(*tensors).numpy(), plain, rtol=1e-12)
        single = [t.float() if isinstance(t, torch.Tensor) else t for t in tensors]
        found = operation.torch(*single)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), plain, rtol=3e-6)
        assert operation.torch(*point) == pytest.approx(symbolic, rel=1e-13)  # of floats alone


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_of_two_zeros_the_order_does_not_matter(name: str, dtype: type) -> None:
    """The structural hash forgets the order, and what is divided by -0 has the other sign."""
    zeros = np.zeros(9, dtype)
    for one, other in ((zeros, -zeros), (-zeros, zeros), (-zeros, -zeros)):
        tensors = torch.from_numpy(one), torch.from_numpy(other)
        for found in (numpy_rules.SINGLE[name](one, other), torch_rules.RULES[name](*tensors)):
            assert not np.signbit(np.asarray(found)).any() and np.asarray(found).dtype == dtype


@pytest.mark.parametrize("rules", [numpy_rules, torch_rules])
def test_reductions_run_over_the_last_axis_alone(rules: object) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 5, 6))
    make = torch.from_numpy if rules is torch_rules else np.asarray
    calls = {
        "dot": (make(x), make(y)),
        "cosine_sim": (make(x), make(y)),
        "global_norm": (make(x),),
        "clip_by_global_norm": (make(x), 0.5),
        "norm": (make(x),),
    }
    for name, arguments in calls.items():
        rule = rules.RULES[name]  # type: ignore[attr-defined]
        together = np.asarray(rule(*arguments))
        assert together.shape == ((5, 6) if name in ("clip_by_global_norm", "norm") else (5, 1))
        for i in range(5):
            row = [a[i : i + 1] if not isinstance(a, float) else a for a in arguments]
            np.testing.assert_array_equal(np.asarray(rule(*row))[0], together[i])
    np.testing.assert_allclose(numpy_rules.dot(x, y)[:, 0], (x * y).sum(1))
    np.testing.assert_allclose(numpy_rules.global_norm(x)[:, 0], np.linalg.norm(x, axis=1))
    clipped = numpy_rules.RULES["clip_by_global_norm"](x, 0.5)
    np.testing.assert_allclose(np.linalg.norm(clipped, axis=1), 0.5)
    np.testing.assert_array_equal(numpy_rules.RULES["clip_by_global_norm"](x, 100.0), x)


def test_norm_is_that_of_each_weight_tensor() -> None:
    x = np.arange(12.0).reshape(2, 6)
    wanted = np.stack(
        [np.repeat([np.linalg.norm(r[:2]), np.linalg.norm(r[2:])], (2, 4)) for r in x]
    )
    np.testing.assert_allclose(numpy_rules.norm(x, (2, 4)), wanted)
    np.testing.assert_allclose(torch_rules.norm(torch.from_numpy(x), (2, 4)), wanted)


def test_divisions_and_logarithms_keep_away_from_zero() -> None:
    zero, one = np.zeros(1), np.ones(1)
    assert numpy_rules.RULES["div"](one, zero)[0] == pytest.approx(1e30)
    assert numpy_rules.RULES["div"](zero, zero)[0] == 0.0  # 0 / 0 is sign(0)
    assert numpy_rules.RULES["log"](zero)[0] == pytest.approx(math.log(1e-30))
    single = torch.zeros(1)
    assert torch_rules.RULES["div"](torch.ones(1), single) == pytest.approx(1e12)
    assert torch_rules.RULES["div"](torch.ones(1), -single) == pytest.approx(-1e12)
    assert torch_rules.RULES["div"](1.0, 0.0) == pytest.approx(1e30)
    assert torch_rules.guard(single.half()) > 0 and torch_rules.guard(single.bfloat16()) > 0


def test_nan_is_never_hidden() -> None:
    nan = torch.full((2,), math.nan)
    for name, operation in OPERATIONS.items():
        if operation.arity == 0:
            continue
        arguments = [nan, *[0.5] * (operation.arity - 1)]
        if operation.alike:
            arguments = [nan] * operation.arity
        assert operation.torch(*arguments).isnan().all(), name
        plain = [a.double().numpy() if isinstance(a, torch.Tensor) else a for a in arguments]
        assert np.isnan(operation.numpy(*plain)).all(), name


@pytest.mark.parametrize("name", sorted(n for n, o in OPERATIONS.items() if o.arity))
def test_flags_say_what_the_rules_do(name: str) -> None:
    operation, grid = OPERATIONS[name], np.linspace(-0.95, 0.95, 40)
    x, y = grid, np.sin(7 * grid)
    scalar = 0.3
    with np.errstate(all="ignore"):
        if operation.arity == 1:
            value, mirrored = operation.numpy(x), operation.numpy(-x)
            assert operation.odd == np.allclose(mirrored, -value, equal_nan=False)
        if operation.arity == 2 and operation.kinds[1] == "any":
            value, turned = operation.numpy(x, y), operation.numpy(y, x)
            assert operation.commutative == np.allclose(value, turned, equal_nan=False)
        if name == "interpolate":
            value = operation.numpy(x, y, scalar)
            np.testing.assert_allclose(operation.numpy(2 * x, 2 * y, scalar), 2 * value)
