"""Numbers that speak for or against sign momentum: streams of updates in float64.

A proof is algebra, but a refutation may be one example. Updates that are lr (scale sign(s) +
decay w), s a linear filter of the gradients, have one magnitude in all weights once the weights are
zero, and signs that some linear filter explains.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np

from experiments.search import probes, ties
from experiments.search.execution import Step, numpy_step, single_step
from experiments.search.language import Program

Inputs = tuple[np.ndarray, np.ndarray, float]
"""w, g and lr of a step."""

_RELATIVE = 1e-6
_FACTOR = 1024.0
_ROUNDING = 1e-3  # share of signs that rounding may turn
_RELATIVE_32, _MANY = 1e-3, 0.02  # the same of float32, and what is more than a sign here and there
_DROWNED = 1e-4  # whose sixth powers the epsilon of divisions changes by more than _RELATIVE

_NUM_TIED = 512


@cache
def _probe(num_weights: int = 1024, num_steps: int = 8) -> probes.Probe:
    """Weights of zero, one learning rate, gradients of all sizes below 1, quiet and loud steps."""
    random = np.random.default_rng(20230213)
    pace = 10.0 ** random.uniform(-2, 0, (num_steps, 1))
    small = 10.0 ** np.where(np.arange(num_weights) % 2, random.uniform(-9, 0, num_weights), 0)
    g = pace * small * random.uniform(-0.99, 0.99, (num_steps, num_weights))
    sizes = (num_weights // 2, num_weights // 2)
    return probes.Probe(np.zeros_like(g), g, np.full(num_steps, 0.1), sizes)


@cache
def _ordinary_probe(num_weights: int = 512, num_steps: int = 12) -> probes.Probe:
    """Gradients of ordinary size, whose sixth powers are far from the epsilon of divisions.

    Some are above 1, where arcsin is not defined, even if it cancels. One in ten is zero, as is one
    weight in ten; another is 1, as gains are at first.
    """
    random = np.random.default_rng(20230214)
    shape = (num_steps, num_weights)
    g = random.uniform(0.05, 1.5, shape) * random.choice([-1.0, 1.0], shape)
    lr = 2.0 ** random.integers(-6, 1, num_steps)
    w = random.normal(size=shape)
    w[random.random(shape) < 0.1] = 1.0
    g[random.random(shape) < 0.1], w[random.random(shape) < 0.1] = 0.0, 0.0
    return probes.Probe(w, g, lr, (num_weights,))


def find_witness(program: Program) -> str | None:
    """What a stream of updates shows against sign momentum; None if nothing.

    Args:
        program: A program of valid types.
    """
    probe = _probe()
    stream = probes.stream(program, probe)
    if not np.isfinite(stream).all():
        return "its updates are not finite for some gradients"
    size = np.abs(stream)
    if not size.any():
        return "its updates are zero where the weights are"
    if np.any(size < (1 - _RELATIVE) * size.max()):
        return "its updates differ in magnitude between weights, or between steps of one lr"
    return _find_wrong_sign(program, probe, np.sign(stream)) or (
        None
        if _a_filter_explains(np.sign(stream), probe.g)
        else "no linear filter of the gradients has the signs of its updates"
    )


def _find_wrong_sign(program: Program, probe: probes.Probe, signs: np.ndarray) -> str | None:
    """Whether the signs depend on what those of a linear filter cannot depend on."""
    loud = probes.stream(program, probe._replace(g=_FACTOR * probe.g))
    if not np.isfinite(loud).all():
        return "its updates are not finite for large gradients"
    if _differ(np.sign(loud), signs):
        return "the signs of its updates change when all gradients are multiplied by 1024"
    random = np.random.default_rng(20230213)
    paces = probes.stream(program, probe._replace(lr=2.0 ** random.integers(-9, 9, len(probe.lr))))
    if _differ(np.sign(paces), signs):
        return "the signs of its updates depend on lr"
    w = _FACTOR * random.normal(size=probe.g.shape)
    with np.errstate(all="ignore"):
        change = probes.stream(program, probe._replace(w=w)) / probe.lr[:, None]
        change = (change - probes.stream(program, probe) / probe.lr[:, None]) / w
    if not np.ptp(change) <= _RELATIVE * max(1.0, abs(np.median(change))):
        return "the weights enter its updates otherwise than as decay"
    return None


def _differ(signs: np.ndarray, others: np.ndarray) -> bool:
    """More than a sign that rounding turned. The factors above are powers of two."""
    return int(np.count_nonzero(signs != others)) > 2


def _a_filter_explains(signs: np.ndarray, g: np.ndarray) -> bool:
    """Whether some h has signs[t] = sign(sum_k h[k] g[t - k]) everywhere: a linear program."""
    from scipy.optimize import linprog

    steps = len(g)
    rows = []
    for t in range(steps):
        past = np.zeros((g.shape[1], steps))
        past[:, : t + 1] = g[t::-1].T
        rows.append(signs[t][:, None] * past)
    matrix = np.concatenate(rows)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    margin = np.ones((len(matrix), 1))
    found = linprog(
        [*[0.0] * steps, -1.0],
        A_ub=np.hstack([-matrix, margin]),
        b_ub=np.zeros(len(matrix)),
        bounds=[*[(-1, 1)] * steps, (None, 1)],
    )
    return not (found.success and -found.fun <= 1e-12)


@cache
def _long_probe() -> probes.Probe:
    """16 weights x 1,000 steps of ordinary gradients: what grows slowly leaves arcsin's domain."""
    return probes.make_wide(7, 16, 1000)


@cache
def _late_probe() -> probes.Probe:
    """16 weights, whose gradients are zero for 400 steps, as of rare words, and then are not."""
    probe = probes.make_wide(8, 16, 440)
    probe.g[:400] = 0.0
    return probe


@cache
def _single_probe() -> probes.Probe:
    """16 weights x 400 steps of float32."""
    return probes.rounded(probes.make_wide(9, 16, 400))


def stays_finite(program: Program) -> bool:
    """Whether all updates of a long training are numbers."""
    return bool(np.isfinite(probes.stream(program, _long_probe())).all())


def agrees(
    program: Program, beta1: Fraction, beta2: Fraction, scale: Fraction, decay: Fraction
) -> bool:
    """Whether the updates are lr (scale sign(s) + decay w), wherever s is not about 0: on ordinary
    gradients, where inputs are equal, or the program's constants, and after many gradients of zero.

    s = beta1 m + (1 - beta1) g
    """
    claim = tuple(float(x) for x in (beta1, beta2, scale, decay))
    probe, random = _ordinary_probe(), np.random.default_rng(20230216)

    def ordinary(t: int, m: np.ndarray, v: np.ndarray) -> Inputs:
        return probe.w[t], probe.g[t], float(probe.lr[t])

    def tied(t: int, m: np.ndarray, v: np.ndarray) -> Inputs:
        return ties.step_inputs(program, random, t, m, v)

    num_steps = max(len(probe.lr), 3 * len(ties.rates(program)))
    return all(
        _share_wrong(numpy_step(program), claim, shape, inputs) <= _ROUNDING
        for shape, inputs in (
            (probe.g.shape, ordinary),
            ((num_steps, _NUM_TIED), tied),
            (_late_probe().g.shape, _of(_late_probe())),
        )
    )


def agrees_in_float32(
    program: Program, beta1: Fraction, beta2: Fraction, scale: Fraction, decay: Fraction
) -> bool:
    """Whether float32 and the epsilon of training leave most updates what `agrees` says of them.

    They do not if what is signed is too small for float32, or a buffer grows until it overflows.
    """
    claim = tuple(float(x) for x in (beta1, beta2, scale, decay))
    probe, step = _single_probe(), single_step(program)
    return _share_wrong(step, claim, probe.g.shape, _of(probe), _RELATIVE_32) <= _MANY


def _of(probe: probes.Probe) -> Callable[[int, np.ndarray, np.ndarray], Inputs]:
    return lambda t, m, v: (probe.w[t], probe.g[t], probe.lr[t])


def _share_wrong(
    step: Step,
    claim: tuple[float, ...],
    shape: tuple[int, ...],
    inputs: Callable[[int, np.ndarray, np.ndarray], Inputs],
    relative: float = _RELATIVE,
) -> float:
    """Share of the updates of a training that are not what is claimed.

    Args:
        step: Of a program.
        claim: beta1, beta2, scale, decay.
        shape: Steps, weights.
        inputs: w, g and lr of a step, given the program's buffers before it.
        relative: What rounding changes.
    """
    beta1, beta2, scale, decay = claim
    num_steps, num_weights = shape
    wrong = 0
    m = v = momentum = np.zeros(num_weights)
    with np.errstate(all="ignore"):
        for t in range(num_steps):
            w, g, lr = inputs(t, m, v)
            m, v = (buffer.astype(g.dtype, copy=False) for buffer in (m, v))
            found, m, v = step(w, g, m, v, lr)
            signed = beta1 * momentum + (1 - beta1) * g
            update = lr * (scale * np.sign(signed) + decay * w)
            momentum = beta2 * momentum + (1 - beta2) * g
            far = lr * relative * (scale + abs(decay) * np.abs(w))
            is_clear = np.abs(signed) > _DROWNED
            wrong += np.count_nonzero(~(np.abs(update - found) <= far) & is_clear)
    return wrong / (num_steps * num_weights)
