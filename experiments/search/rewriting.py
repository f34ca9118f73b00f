"""Shorter programs that compute exactly the same: by one statement at a time, or as Lion.

Every statement has an exact value (`algebra`). If one function of values that are there already has
the same value, it takes the statement's place, and what nobody reads any more goes:
update = m / sqrt(m * m) becomes sign(m). A program of which `proof` knows that it is sign momentum
becomes the statements of the paper, if its constants are decimals.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from experiments.search import liveness, proof, ties, types
from experiments.search.algebra import Algebra, Undecided, Value, execute
from experiments.search.language import Argument, Program, Statement
from experiments.search.operations import OPERATIONS

_UNARY = ("sign", "abs", "negative", "square", "cube", "sqrt", "reciprocal")
_BINARY = ("add", "sub", "mul", "div")
_NOTHING = 1e-25
"""What a protected division leaves of 0 / 0."""


def rewrite(program: Program) -> Program:
    """The shortest equal program that is found: never longer, and the same wherever defined."""
    program = liveness.prune(without_copies(program))
    while (shorter := _one_step(program)) is not None:
        program = shorter
    canonical = as_sign_momentum(program)
    return canonical if canonical is not None and len(canonical) <= len(program) else program


def as_sign_momentum(program: Program) -> Program | None:
    """The statements of the paper for a program of the family; None for any other.

    A fraction that no float shows exactly (1/3) gives None, too.
    """
    verdict = proof.prove(program)
    if verdict.family is None:
        return None
    assert verdict.beta1 is not None and verdict.beta2 is not None
    assert verdict.weight_decay is not None and verdict.lr_scale is not None
    beta1, beta2, decay, scale = (
        _decimal(x) for x in (verdict.beta1, verdict.beta2, verdict.weight_decay, verdict.lr_scale)
    )
    if beta1 is None or beta2 is None or decay is None or scale is None:
        return None
    moved = Statement("m", "interpolate", ("g", "m", beta2))
    lines = [Statement("update", "interpolate", ("g", "m", beta1)), _sign("update"), moved]
    if beta1 == beta2:
        lines = [moved, _sign("m")]
    if beta1 == 0:
        lines = [_sign("g")]
    if decay:
        lines += [
            Statement("wd", "mul", ("w", decay)),
            Statement("update", "add", ("update", "wd")),
        ]
    if scale != 1:
        lines.append(Statement("lr", "mul", ("lr", scale)))
    return Program((*lines, Statement("update", "mul", ("update", "lr"))))


def _sign(of: str) -> Statement:
    return Statement("update", "sign", (of,))


def _decimal(number: Fraction) -> float | None:
    """The float whose text shows a number exactly, if there is one."""
    found = float(number)
    return found if Fraction(repr(found)) == number else None


def without_copies(program: Program) -> Program:
    """Reads what was copied in place of copies, where that is still there."""
    stands_for: dict[str, Argument] = {}
    lines = []
    for target, function, arguments in program.statements:
        read = tuple(stands_for.get(a, a) if isinstance(a, str) else a for a in arguments)
        for name in [n for n, a in stands_for.items() if target in (n, a)]:
            del stands_for[name]
        if function == "copy" and read[0] != target:
            stands_for[target] = read[0]
        if function != "copy" or read[0] != target:
            lines.append(Statement(target, function, read))
    return _renamed(liveness.prune(Program(tuple(lines))))


def _renamed(program: Program) -> Program:
    """Without `x = y` where y is written just before and read by nobody else afterwards."""
    lines = list(program.statements)
    for i, (target, function, arguments) in enumerate(lines):
        source = arguments[0] if arguments else None
        if function != "copy" or not isinstance(source, str):
            continue
        made = max((j for j in range(i) if lines[j].target == source), default=None)
        between = lines[made + 1 : i] if made is not None else []
        if made is None or any(target in (s.target, *s.arguments) for s in between):
            continue
        changed = lines[:made] + [lines[made]._replace(target=target)]
        changed += [_reading(s, source, target) for s in between] + lines[i + 1 :]
        shorter = Program(tuple(changed))
        if types.is_valid(shorter) and _same(shorter, program):
            return _renamed(liveness.prune(shorter))
    return program


def _reading(statement: Statement, old: str, new: str) -> Statement:
    arguments = tuple(new if a == old else a for a in statement.arguments)
    return statement._replace(arguments=arguments)


def _same(one: Program, other: Program) -> bool:
    from experiments.search.hashing import structural_hash

    return structural_hash(one) == structural_hash(other)


def _one_step(program: Program) -> Program | None:
    """A shorter equal program by another function in one statement; None if there is none."""
    try:
        algebra = execute(program).algebra
        values = _values(program, algebra)
        algebra.is_closed = True
    except Undecided:
        return None
    best, numbers = None, _numbers(program)
    for index, statement in enumerate(program.statements):
        for function, arguments in _candidates(program, index):
            if not _seems_equal(function, arguments, numbers[index], numbers[index + 1]):
                continue
            if not _equal(algebra, function, arguments, values[index], values[index + 1]):
                continue
            instead = Statement(statement.target, function, arguments)
            if not _is_of_one_kind(statement, instead, types.infer(program.statements[:index])):
                continue
            lines = list(program.statements)
            lines[index] = instead
            shorter = liveness.prune(without_copies(Program(tuple(lines))))
            if (
                len(shorter) < len(best or program)
                and types.is_valid(shorter)
                and ties.same_updates(program, shorter)  # sign(1e-30) is no 0
            ):
                best = shorter
    return best


def _is_of_one_kind(one: Statement, other: Statement, kinds: dict[str, str]) -> bool:
    """Both arrays or both scalars: the norm of many ones is not that of one."""
    return types.result_kind(one, kinds) == types.result_kind(other, kinds)


def _values(program: Program, algebra: Algebra) -> list[dict[str, Value]]:
    """The values of all variables before each statement, and at the end."""
    values: dict[str, Value] = dict(algebra.inputs)
    found = [dict(values)]
    for _ in algebra.follow(program, values):
        found.append(dict(values))
    return found


def _numbers(program: Program) -> list[dict[str, np.ndarray]]:
    """As `_values`, in float64, to try many functions quickly; `ties`: w / w is no 1 there."""
    values = ties.points(program)
    found = [dict(values)]
    with np.errstate(all="ignore"):
        for target, function, arguments in program.statements:
            given = [values[a] if isinstance(a, str) else a for a in arguments]
            values[target] = np.asarray(OPERATIONS[function].numpy(*given))
            found.append(dict(values))
    return found


def _seems_equal(
    function: str,
    arguments: tuple[Argument, ...],
    before: dict[str, np.ndarray],
    after: dict[str, np.ndarray],
) -> bool:
    changed = [n for n in after if n not in before or after[n] is not before[n]]
    with np.errstate(all="ignore"):
        found = OPERATIONS[function].numpy(*[before[a] for a in arguments if isinstance(a, str)])
    return bool(np.allclose(found, after[changed[0]], rtol=1e-6, atol=_NOTHING, equal_nan=True))


def _candidates(program: Program, index: int) -> Iterator[tuple[str, tuple[Argument, ...]]]:
    """Functions of the variables that are there before a statement."""
    kinds = types.infer(program.statements[:index])
    names = sorted(kinds)
    for name in names:
        yield "copy", (name,)
        yield from ((function, (name,)) for function in _UNARY)
    for function in _BINARY:
        for i, x in enumerate(names):
            others = names[i:] if OPERATIONS[function].commutative else names
            yield from ((function, (x, y)) for y in others if x != y)


def _equal(
    algebra: Algebra,
    function: str,
    arguments: tuple[Argument, ...],
    before: dict[str, Value],
    after: dict[str, Value],
) -> bool:
    """Whether a function has the value that the statement between two states gave its target."""
    changed = [n for n in after if n not in before or after[n] != before[n]]
    if len(changed) != 1:
        return False
    try:
        found = algebra.apply(function, [algebra.read(a, before) for a in arguments])
    except (Undecided, ZeroDivisionError):
        return False
    return bool(found == after[changed[0]])
