"""What the algebra of a program took not to be zero, and whether that is so.

w / w is 1 in algebra, and 0 in a program where a weight is 0; sign(g)^2 is 1, and 0 where a
gradient is. Where nothing was taken for granted but lr > 0 and that what is signed is not zero, the
algebra is a proof. Elsewhere it may be right (x / sqrt(v) has the sign of x even where v is 0,
since divisors are kept away from zero), and updates must show it.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from experiments.search import liveness
from experiments.search.algebra import Algebra, Result, execute
from experiments.search.language import INPUTS, Program
from experiments.search.polynomials import number_at
from experiments.search.unknowns import Value


def unproved(algebra: Algebra, signed: Value) -> str | None:
    """In words, what may be zero although the algebra took it not to be; None: nothing.

    Args:
        algebra: Of an execution.
        signed: What is known not to be zero.
    """
    known = {polynomial for polynomial, _ in algebra.factors(signed)[1]}
    for value in algebra.nonzero:
        for polynomial, _ in algebra.factors(value)[1]:
            if not _is_nonzero(algebra, polynomial, known):
                is_plain = not any(_used(polynomial)[len(INPUTS) :])
                return str(polynomial) if is_plain else "a divisor, or what another sign is of,"
    return None


def in_words(program: Program, result: Result, signed: Value) -> str:
    """The end of a sentence on what is proved: what was only tried, and "" for nothing.

    Where what is signed is 0, the updates may be any; what that step leaves in the buffers may not.
    """
    said = ""
    if what := unproved(result.algebra, signed):
        said = f", tried but not proved where {what} is"
    moves = execute(liveness.moves_of_buffers(program)).algebra
    if what := unproved(moves, moves.one):
        said = f"{said}, tried but not proved after a step in which {what} is 0"
    return said


def _used(polynomial: Any) -> list[bool]:
    return [any(m[i] for m in polynomial) for i in range(polynomial.ring.ngens)]


def _is_nonzero(algebra: Algebra, polynomial: Any, known: set[Any]) -> bool:
    used = [i for i, is_used in enumerate(_used(polynomial)) if is_used]
    if polynomial in known:
        return True
    if len(used) == 1 and polynomial == polynomial.ring.gens[used[0]]:
        return _is_nonzero_unknown(algebra, used[0], known)
    if all(algebra.is_sign(i) and _is_nonzero_unknown(algebra, i, known) for i in used):
        return all(number_at(polynomial, used, case) for case in product((1, -1), repeat=len(used)))
    strictly = {i: _is_nonzero_unknown(algebra, i, known) for i in used}
    is_sum_of_positives = all(c > 0 for c in polynomial.values()) and all(
        algebra.is_positive(i) for i in used
    )
    return is_sum_of_positives and any(
        all(strictly[i] for i, exponent in enumerate(m) if exponent) for m in polynomial
    )


def _is_nonzero_unknown(algebra: Algebra, index: int, known: set[Any]) -> bool:
    if index < len(INPUTS):
        return INPUTS[index] == "lr"
    unknown = algebra.about(index)
    assert unknown is not None
    of = unknown.argument if unknown.argument is not None else unknown.equals
    if of is None and not unknown.may_be_zero:
        of = unknown.sign  # of tanh(x): that of x
    if of is None:
        return False
    return all(_is_nonzero(algebra, part, known) for part, _ in algebra.factors(of)[1])
