"""Programs that could not run are refused without running them, and only those."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from programs import programs

from experiments.search import types
from experiments.search.execution import numpy_step, torch_step
from experiments.search.language import LanguageError, Program, Statement, parse


def program(body: str) -> Program:
    return parse(f"def train(w, g, m, v, lr):\n  {body}\n  return update, m, v\n")


@settings(max_examples=100, deadline=None)
@given(programs())
def test_kinds_are_the_shapes_of_the_values(program: Program) -> None:
    """Every variable in NumPy and torch, with a leading axis: arrays (K, n), scalars (K, 1)."""
    types.check(program)
    shape = (3, 4)
    for step, make in ((numpy_step, np.asarray), (torch_step, torch.tensor)):
        arrays = [make(np.full(shape, x, np.float32)) for x in (0.5, 0.1, 0.0, 0.0)]
        lr = make(np.full((3, 1), 0.1, np.float32))
        with np.errstate(all="ignore"):
            for value in step(program)(*arrays, lr):
                assert tuple(value.shape) == shape


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("update = interp(g, m, v)", "argument 3 of interp must be a scalar; v is an array"),
        ("update = clip(g, w)", "argument 2 of clip must be a scalar"),
        ("x = dot(g, lr)\n  update = g * x", "needs two arrays or two scalars"),
        ("update = lr * 2.0", "update is a scalar"),
        ("update = g\n  m = dot(g, w)", "m is a scalar"),
        ("x = norm(g)\n  update = clip(g, x)", "argument 2 of clip must be a scalar"),
    ],
)
def test_what_cannot_run_is_refused(body: str, said: str) -> None:
    with pytest.raises(LanguageError, match=said):
        types.check(program(body))
    assert not types.is_valid(program(body))


def test_mutants_that_read_too_early_or_too_much_are_refused() -> None:
    for statement, said in (
        (Statement("update", "sign", ("late",)), "'late' is not assigned before"),
        (Statement("update", "sign", ("g", "g")), "sign takes 1 arguments"),
    ):
        with pytest.raises(LanguageError, match=said):
            types.check(Program((statement,)))
    with pytest.raises(LanguageError, match="update is never assigned"):
        types.check(Program(()))
