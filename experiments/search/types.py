"""Kinds of the values of a program, array or scalar: what cannot run is found without running it.

A scalar stands wherever an array may (it is cast, as in the paper); an array never where a scalar
is required: the weight of `interp`, the threshold of `clip`. The update and both buffers must be
arrays at the end of a step.

Source: arXiv:2302.06675, appendix "Abstract Execution": type and shape inference
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.search.language import OUTPUTS, LanguageError, Program, Statement
from experiments.search.operations import ARRAY, OPERATIONS, SCALAR

INPUT_KINDS = {"w": ARRAY, "g": ARRAY, "m": ARRAY, "v": ARRAY, "lr": SCALAR}

_RULES = {
    name: (
        operation.arity,
        tuple(i for i, kind in enumerate(operation.kinds) if kind == SCALAR),
        operation.result == SCALAR,
        operation.alike,
    )
    for name, operation in OPERATIONS.items()
}
"""Per function: arity, arguments that must be scalars, a scalar result?, all of one kind?"""


def infer(statements: Sequence[Statement]) -> dict[str, str]:
    """The kind of every variable after some statements, which may be the beginning of a program.

    Raises:
        LanguageError: a variable is read before it is assigned, or has the wrong kind.
    """
    kinds = INPUT_KINDS.copy()
    for statement in statements:
        kinds[statement[0]] = result_kind(statement, kinds)
    return kinds


def result_kind(statement: Statement, kinds: dict[str, str]) -> str:
    """The kind of a statement's value, given the kinds of the variables before it.

    Raises:
        LanguageError: as `infer`.
    """
    _, function, arguments = statement
    arity, scalars, is_scalar, alike = _RULES[function]
    if len(arguments) != arity:
        raise LanguageError(f"`{statement.text()}`: {function} takes {arity} arguments")
    try:
        given = [kinds[a] if type(a) is str else SCALAR for a in arguments]
    except KeyError as error:
        raise LanguageError(f"`{statement.text()}`: {error} is not assigned before") from None
    for i in scalars:
        if given[i] is ARRAY:
            raise LanguageError(
                f"`{statement.text()}`: argument {i + 1} of {OPERATIONS[function].written} must "
                f"be a scalar; {arguments[i]} is an array"
            )
    if alike and given[0] is not given[1]:
        raise LanguageError(f"`{statement.text()}`: needs two arrays or two scalars")
    return SCALAR if is_scalar or ARRAY not in given else ARRAY


def check(program: Program) -> None:
    """Refuses a program that could not run.

    Raises:
        LanguageError: as `infer`, or an output is missing or no array.
    """
    kinds = infer(program.statements)
    for name in OUTPUTS:
        if kinds.get(name) is not ARRAY:
            said = "is never assigned" if name not in kinds else "is a scalar"
            raise LanguageError(f"{name} {said}; it must be an array shaped like the weights")


def is_valid(program: Program) -> bool:
    """Whether `check` accepts a program."""
    try:
        check(program)
    except LanguageError:
        return False
    return True
