"""Streams of made-up gradients that show what a program does, in float64, without any training.

`sign` gives one bit per weight, so small probes would merge different programs: 512 weights x 8
steps to look up, 2,048 x 12 twice to confirm. Magnitudes of gradients reach from 1e-6 to 0.99
within a step (arcsin is defined there) and change from step to step, so that clipping acts in some
steps and not in others; weights, gradients and learning rates of every step differ. Some learning
rates of the second to confirm are as small as at the end of a training: `v = clip(v, lr)` may do
nothing before.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from experiments.search.execution import numpy_step
from experiments.search.language import Program


class Probe(NamedTuple):
    """Inputs of some steps.

    Attributes:
        w: (steps, n), weights at every step, whatever the program returns.
        g: (steps, n), gradients, magnitudes below 1.
        lr: (steps,), learning rates in (0, 1].
        sizes: Entries of the weight tensors that make up the n.
    """

    w: np.ndarray
    g: np.ndarray
    lr: np.ndarray
    sizes: tuple[int, ...]


def make(seed: int, num_weights: int, num_steps: int, lowest_lr: float = 1e-2) -> Probe:
    """A probe of two weight tensors, three quarters and one quarter of the weights."""
    random = np.random.default_rng([20230213, seed])
    shape = (num_steps, num_weights)
    magnitude = 10.0 ** random.uniform(-6, 0, num_weights)
    drift = random.normal(size=num_weights) * random.uniform(0, 1, num_weights)
    noise = random.normal(size=shape)
    pace = 10.0 ** random.uniform(-2, 0, (num_steps, 1))
    g = 0.99 * np.tanh((drift + noise) * magnitude * pace)
    w = random.normal(size=shape) * 10.0 ** random.uniform(-3, 0, num_weights)
    lr = 10.0 ** random.uniform(np.log10(lowest_lr), 0, num_steps)
    return Probe(w, g, lr, (num_weights - num_weights // 4, num_weights // 4))


@cache
def small() -> Probe:
    """512 weights x 8 steps."""
    return make(0, 512, 8)


@cache
def large() -> tuple[Probe, Probe]:
    """Twice 2,048 weights x 12 steps."""
    return make(1, 2048, 12), make(2, 2048, 12, lowest_lr=1e-6)


def stream(program: Program, probe: Probe) -> np.ndarray:
    """The updates of a program on a probe, from buffers of zeros.

    Args:
        program: A program of valid types; statements that do not matter cost time only.
        probe: Inputs of every step.

    Returns:
        (steps, n) float64; NaN and infinite where the program says so.
    """
    step = numpy_step(program, probe.sizes)
    m = v = np.zeros(probe.g.shape[1])
    updates = np.empty_like(probe.g)
    with np.errstate(all="ignore"):
        for t, lr in enumerate(probe.lr.tolist()):
            updates[t], m, v = step(probe.w[t], probe.g[t], m, v, lr)
    return updates
