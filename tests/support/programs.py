"""Random programs for tests: by hypothesis, which shrinks them, or from a seed, which is quick."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from experiments.search import types
from experiments.search.language import INPUTS, OUTPUTS, Argument, Program, Statement
from experiments.search.operations import ARRAY, OPERATIONS, SCALAR

NAMES = (*INPUTS, *OUTPUTS[:1], "a", "b", "c")
FUNCTIONS = tuple(sorted(OPERATIONS))


def constants() -> st.SearchStrategy[float]:
    """Finite numbers of all sizes, whole ones among them."""
    return st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(-3, 3).map(float),
    )


@st.composite
def programs(draw: st.DrawFn, max_statements: int = 12) -> Program:
    """A program of valid types, in which much does not matter."""
    statements: list[Statement] = []
    for _ in range(draw(st.integers(0, max_statements))):
        kinds = types.infer(statements)
        function = draw(st.sampled_from(FUNCTIONS))
        target = draw(st.sampled_from(NAMES))
        arguments = _arguments(draw, function, kinds)
        statements.append(Statement(target, function, arguments))
    return finished(statements)


def _arguments(draw: st.DrawFn, function: str, kinds: dict[str, str]) -> tuple[Argument, ...]:
    operation = OPERATIONS[function]
    named = sorted(n for n, k in kinds.items() if k == SCALAR)  # none, where lr is assigned
    scalars = st.one_of(constants(), st.sampled_from(named)) if named else constants()
    named = sorted(n for n, k in kinds.items() if k == ARRAY)
    arrays = st.sampled_from(named) if named else scalars
    if operation.alike:
        return tuple(draw(arrays) for _ in operation.kinds)
    either = st.one_of(arrays, arrays, scalars)
    return tuple(draw(scalars if kind == SCALAR else either) for kind in operation.kinds)


def finished(statements: list[Statement]) -> Program:
    """Ends a list of statements so that all outputs are arrays and the update has a gradient."""
    statements = [Statement("z", "copy", ("g",)), *statements]
    kinds = types.infer(statements)
    arrays = [n for n in ("c", "b", "a", "m", "v", "g", "w", "z") if kinds.get(n) == ARRAY]
    for name in OUTPUTS[1:]:
        if kinds[name] != ARRAY:
            statements.append(Statement(name, "add", (arrays[0], name)))
    if kinds.get("update") != ARRAY:
        statements.append(Statement("update", "copy", (arrays[0],)))
    return Program(tuple(statements))


def from_seed(seed: int, num_statements: int = 16) -> Program:
    """A program of valid types, the same for the same seed."""
    source = random.Random(seed)
    statements: list[Statement] = []
    while len(statements) < num_statements:
        function = source.choice(FUNCTIONS)
        kinds = types.infer(statements)
        arguments = tuple(
            source.choice(sorted(kinds)) if source.random() < 0.85 else source.gauss(0, 1)
            for _ in OPERATIONS[function].kinds
        )
        statement = Statement(source.choice(NAMES), function, arguments)
        try:
            types.infer([*statements, statement])
        except types.LanguageError:
            continue
        statements.append(statement)
    return finished(statements)
