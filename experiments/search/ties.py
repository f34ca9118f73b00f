"""Numbers at which a program may divide by zero: inputs that are equal, zero, or its constants.

Algebra takes x / x for 1, and random numbers agree: they never make w - 0.1, g - m or lr - 0.01
exactly zero. Trainings do. Buffers are equal in the first step, gains are 1, a constant learning
rate is the one that a program names. So equality is tried here, too.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from experiments.search.execution import numpy_step
from experiments.search.language import Program

ARRAYS = ("w", "g", "m", "v")
LARGEST = 8.0
"""Beyond it a sum loses what a small number adds, and powers leave float64."""
_MOST = 8
_RELATIVE, _ABSOLUTE, _ROUNDING = 1e-6, 1e-12, 1e-3
"""What rounding changes of an update, and in which share of them more: a sign of 0."""
_TIED = 0.5
"""Share of numbers that are special."""


def constants(program: Program) -> np.ndarray:
    """Zero, +-1, and the constants of a program with their quotients, of either sign."""
    written = {abs(a) for s in program.statements for a in s.arguments if not isinstance(a, str)}
    found = sorted(c for c in written | {1.0} if 0 < c <= LARGEST)
    if len(found) <= _MOST:
        found = sorted({*found, *(a / b for a, b in permutations(found, 2) if a <= LARGEST * b)})
    return np.array([0.0, *found, *(-c for c in found)])


def rates(program: Program) -> np.ndarray:
    """Learning rates that a program may take apart: its constants in (0, 1], and 0.3."""
    found = constants(program)
    return np.array([0.3, *found[(found > 0) & (found <= 1)]])


def ordinary(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Sixteenths up to 1.5 and away from zero, whose sums are exact."""
    return random.integers(1, 25, shape) / 16 * random.choice([-1.0, 1.0], shape)


def tied(
    random: np.random.Generator, plain: np.ndarray, others: list[np.ndarray], special: np.ndarray
) -> np.ndarray:
    """Some numbers in the place of others.

    Args:
        random: What is drawn with.
        plain: Most of the numbers.
        others: Arrays to be equal to, of the same shape, or a multiple by one of `special`.
        special: From `constants`.
    """
    shape = plain.shape
    drawn = random.choice(special, shape)
    if others:
        factor = np.where(random.random(shape) < 0.5, 1.0, random.choice(special[1:], shape))
        which = random.integers(0, len(others), shape)
        equal = factor * np.choose(which, others)
        drawn = np.where(random.random(shape) < 0.5, equal, drawn)
    is_tied = (random.random(shape) < _TIED) & (np.abs(drawn) <= LARGEST)
    return np.where(is_tied, drawn, plain)


def points(program: Program, num_weights: int = 48) -> dict[str, np.ndarray]:
    """Inputs of a step, whatever the buffers were before.

    Returns:
        w, g, m and v, arrays (rows, num_weights), and lr (rows, 1). A row is a model: norms are of
        a row. In 16 rows each choice of the arrays is zero, and each learning rate has some rows.
    """
    random, special = np.random.default_rng(20230215), constants(program)
    lrs = rates(program)
    shape = (16 + 2 * len(lrs), num_weights)
    found: dict[str, np.ndarray] = {}
    for place in random.permutation(len(ARRAYS)):
        plain = ordinary(random, shape)
        found[ARRAYS[place]] = tied(random, plain, list(found.values()), special)
    for row in range(16):
        for bit, name in enumerate(ARRAYS):
            if row >> bit & 1:
                found[name][row] = 0.0
    return {**found, "lr": np.concatenate([np.full(16, 0.3), lrs, lrs])[:, None]}


def step_inputs(
    program: Program, random: np.random.Generator, t: int, m: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights, gradients and learning rate of step t of a training with these buffers."""
    special, lrs = constants(program), rates(program)
    buffers = [m, v, -m, -v]
    g = tied(random, ordinary(random, m.shape), buffers, special)
    w = tied(random, ordinary(random, m.shape), [g, -g, *buffers], special)
    return w, g, float(lrs[t % len(lrs)])


def same_updates(one: Program, other: Program, num_weights: int = 128) -> bool:
    """Whether two programs make the same updates in a training with ties, up to rounding."""
    random, steps = np.random.default_rng(20230217), (numpy_step(one), numpy_step(other))
    num_steps, wrong = 2 * len(rates(one)) + 8, 0
    buffers = [(np.zeros(num_weights), np.zeros(num_weights))] * 2
    with np.errstate(all="ignore"):
        for t in range(num_steps):
            w, g, lr = step_inputs(one, random, t, *buffers[0])
            (a, *first), (b, *second) = (
                step(w, g, *of, lr) for step, of in zip(steps, buffers, strict=True)
            )
            buffers = [tuple(first), tuple(second)]
            is_same = np.isclose(a, b, _RELATIVE, _ABSOLUTE, equal_nan=True)
            is_same |= ~np.isfinite(a) & ~np.isfinite(b)
            wrong += np.count_nonzero(~is_same)
    return wrong <= _ROUNDING * num_steps * num_weights
