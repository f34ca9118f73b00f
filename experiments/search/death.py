"""Finds programs that cannot train anything, before any training; or at a step size of their own.

Every cause is a fact about the updates on a probe, or about the text, and none is a guess about
fitness: NaN or infinity, no gradient in the update, a constant zero, an absurd scale.
"""

from __future__ import annotations

import numpy as np

from experiments.search import liveness, probes
from experiments.search.execution import numpy_step
from experiments.search.language import STATES, Program

TOO_LARGE, TOO_SMALL = 1e4, 1e-12
"""Root mean square of an update at learning rates up to 1 outside of which no step size helps."""
_TOLERANCE = 1e-6
_DRIFT = 1e-2
"""Share of its size by which a step may miss the learning rate where that falls: the 1e-8 that
interp(get_eps(), sign(g), lr) adds is no step size of its own."""


def cause_of_death(
    program: Program, stream: np.ndarray | None = None, live: liveness.Liveness | None = None
) -> str | None:
    """Why a program needs no training; None if nothing speaks against one.

    Args:
        program: A program of valid types.
        stream: Its updates on the small probe, if they are known already.
        live: What `liveness.analyse` says of it, if that is known already.

    Returns:
        "no gradient", "not finite", "constant zero", "too large", "too small", or None.
    """
    live = live or liveness.analyse(program)
    if "g" not in live.read:
        return "no gradient"
    if stream is None:
        stream = probes.stream(program, probes.small())
    with np.errstate(over="ignore", invalid="ignore"):
        mean_square = np.square(stream).mean(axis=1)
    if not np.isfinite(stream).all():
        return "not finite"
    if not mean_square.any():
        return "constant zero"
    if not mean_square.max() <= TOO_LARGE**2:
        return "too large"
    if mean_square.max() < TOO_SMALL**2:
        return "too small"
    return None


def ignores_gradient(program: Program) -> bool:
    """Whether other gradients give the same updates, though g stands in the text (`g - g`)."""
    probe = probes.small()
    other = probe._replace(g=-0.5 * probe.g[:, ::-1])
    return _close(probes.stream(program, probe), probes.stream(program, other))


def scales_with_lr(program: Program) -> bool:
    """Whether twice the learning rate gives twice the update.

    A program for which it does not, trains at a step size of its own and will not follow a
    schedule. Looked at for as long as a short training takes, too: `maximum(lr, 0.005)` and counted
    steps show late.
    """
    probe = probes.small()
    stream = probes.stream(program, probe)
    faster = probes.stream(program, probe._replace(lr=2 * probe.lr))
    return _close(2 * stream, faster) and _follows(program)


def _follows(program: Program) -> bool:
    """Whether twice the learning rate gives twice the update all along a schedule."""
    if is_proportional_to_lr(program):
        return True
    probe = probes.falling()
    step = numpy_step(program, probe.sizes)
    m = v = np.zeros((2, probe.g.shape[1]))
    with np.errstate(all="ignore"):
        for w, g, lr in zip(probe.w, probe.g, probe.lr, strict=True):
            both = np.array([[lr], [2 * lr]])
            update, m, v = step(np.stack([w, w]), np.stack([g, g]), m, v, both)
            if not np.isfinite(update).all():
                return True  # no step size: training will tell
            size = np.sqrt(np.square(update[1]).mean())
            if not np.allclose(2 * update[0], update[1], rtol=_DRIFT, atol=_DRIFT * size):
                return False
    return True


def is_proportional_to_lr(program: Program) -> bool:
    """Whether the text shows that the update is the learning rate times what does not depend on it.

    So most programs end (`update = update * lr`), and need no probe of many steps.
    """
    powers: dict[object, int | None] = {"lr": 1}  # of lr in a variable; None: not seen
    for target, function, arguments in program.statements:
        of = [powers.get(argument, 0) for argument in arguments]
        powers[target] = None
        if not any(power != 0 for power in of):
            powers[target] = 0
        elif None not in of and (
            (function == "mul" and sum(p or 0 for p in of) == 1)
            or (function == "div" and of == [1, 0])
            or (function in ("add", "sub", "negative", "copy") and 0 not in of)
            or (function == "interpolate" and of == [1, 1, 0])
        ):
            powers[target] = 1
    return [powers.get(name, 0) for name in ("update", *STATES)] == [1, 0, 0]


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to rounding, everywhere; NaN is equal to NaN."""
    return bool(np.allclose(a, b, rtol=_TOLERANCE, atol=0.0, equal_nan=True))
