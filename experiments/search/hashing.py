"""Two names for what a program computes: by its structure, and by the updates that it makes.

The structural hash follows the data from inputs to outputs, as the paper's: it forgets names, the
order of independent statements, statements that do not matter, which buffer is called m and which
v, and the order of the arguments of commutative functions. 0.0 and -0.0 are two constants: what is
divided by them has opposite signs.

The functional hash is of the stream of updates on probes, rounded to 28 bits, so that `m * m` and
`square(m)`, or `m / sqrt(m * m)` and `sign(m)`, meet. Equal programs are told apart by rounding
about once in 10,000 (on the large probes in 100, which costs a training and no more); different
ones meet only if their streams agree to 4e-9 everywhere. A small probe serves to look up; a hit
counts only if the streams on the large probes agree too, and those in float32 up to its rounding.

Source: arXiv:2302.06675, appendix "Abstract Execution": deduplicating with functional hash
"""

from __future__ import annotations

import struct
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

from experiments.search import liveness
from experiments.search.language import Program, Statement
from experiments.search.operations import OPERATIONS

if TYPE_CHECKING:
    import numpy as np

_DROPPED_BITS = 24  # of the 52 of a float64's mantissa
_NOTHING = 1e-25
_SHARE_OF_UPDATE, _SHARE_OF_STEP, _SHARE_OF_WEIGHTS = 1e-2, 1e-3, 0.05
"""What float32 may change: of an update by its size, by its step's; and in so many updates more."""
_COMMUTATIVE = frozenset(name for name, o in OPERATIONS.items() if o.commutative)
_NAMES = {name: name.encode() for name in OPERATIONS}
_INPUTS = {name: blake2b(name.encode(), digest_size=16).digest() for name in ("w", "g", "lr")}
_PACK = struct.Struct("<d").pack
_FIRST, _SECOND = (blake2b(n, digest_size=16).digest() for n in (b"state 1", b"state 2"))


def structural_hash(program: Program, live: liveness.Liveness | None = None) -> str:
    """32 hexadecimal digits that equal programs up to names and order share.

    Args:
        program: A program of valid types.
        live: What `liveness.analyse` says of it, if that is known already.
    """
    live = live or liveness.analyse(program)
    kept = [program.statements[index] for index in live.kept]
    if len(live.states) < 2:
        return _digest(kept, live.states).hex()
    return min(_digest(kept, ("m", "v")), _digest(kept, ("v", "m"))).hex()


def _digest(statements: list[Statement], states: tuple[str, ...]) -> bytes:
    """Hash of the update and of the live buffers, numbered in the order given."""
    known: dict[str | float, bytes] = dict(_INPUTS)  # type: ignore[arg-type]
    known.update(zip(states, (_FIRST, _SECOND), strict=False))
    for target, function, arguments in statements:
        parts = [known[a] if type(a) is str else _PACK(a) for a in arguments]  # type: ignore[operator]
        if function == "copy":
            known[target] = parts[0]
            continue
        if function in _COMMUTATIVE:
            parts.sort()
        known[target] = blake2b(b" ".join((_NAMES[function], *parts)), digest_size=16).digest()
    outputs = b" ".join(known[name] for name in ("update", *states))
    return blake2b(outputs, digest_size=16).digest()


def stream_hash(stream: np.ndarray) -> str:
    """32 hexadecimal digits of a stream of updates, rounded to 28 bits.

    Args:
        stream: Float64, any shape; zeros of either sign are one, and so is every NaN.
    """
    import numpy as np

    stream = np.where(np.isnan(stream), np.nan, stream)
    bits = np.ascontiguousarray(stream + 0.0).view(np.int64)
    rounded = (bits + (1 << (_DROPPED_BITS - 1))) >> _DROPPED_BITS
    return blake2b(rounded.tobytes(), digest_size=16).hexdigest()


def functional_hash(program: Program) -> str:
    """Hash of the updates on the small probe: to look a program up."""
    from experiments.search import probes

    return stream_hash(probes.stream(program, probes.small()))


def confirming_hash(program: Program) -> str:
    """Hash of the updates on the large probes: to confirm that two programs are one.

    What lies below `_NOTHING` counts as zero: where the gradient is zero, `exp(log(square(g)))` is
    the epsilon that protects the logarithm.
    """
    import numpy as np

    from experiments.search import probes

    streams = (probes.stream(program, probe) for probe in probes.large())
    return "".join(stream_hash(np.where(np.abs(s) < _NOTHING, 0.0, s)) for s in streams)


def alike_in_training(one: Program, other: Program) -> bool:
    """Whether float32 and the epsilon of training leave the updates of two equal programs equal.

    They do not if in some step one has a value that is not finite and the other has none, or if
    one in 20 of its updates differs: rounding turns a sign here and there, and no more.
    """
    pairs = zip(_in_float32(one), _in_float32(other), strict=True)
    return all(_alike(a, b) for a, b in pairs)


@lru_cache(maxsize=64)  # few programs are met again and again
def _in_float32(program: Program) -> tuple[np.ndarray, ...]:
    from experiments.search import probes

    return tuple(probes.stream(program, probe) for probe in probes.single())


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Two streams (steps, n), up to rounding."""
    import numpy as np

    with np.errstate(all="ignore"):
        finite, also = np.isfinite(a), np.isfinite(b)
        if not np.array_equal(finite.all(axis=1), also.all(axis=1)):
            return False
        size = np.sqrt(np.square(np.where(finite, a, 0)).mean(axis=1, keepdims=True))
        close = np.abs(a - b) <= _SHARE_OF_UPDATE * np.abs(a) + _SHARE_OF_STEP * size
    close |= (~finite & ~also) | (a == b)
    return bool((close.mean(axis=1) > 1 - _SHARE_OF_WEIGHTS).all())
