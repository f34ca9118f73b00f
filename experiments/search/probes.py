"""Streams of made-up gradients that show what a program does, in float64, without any training.

`sign` gives one bit per weight, so small probes would merge different programs: 512 weights x 8
steps to look up. Magnitudes of gradients reach from 1e-6 to 0.99 within a step (arcsin is defined
there) and change from step to step, so that clipping acts in some steps and not in others; weights,
gradients and learning rates of every step differ.

To confirm that two programs are one, three harder streams, on which whatever a program compares is
now larger and now smaller: thresholds act, wherever they lie.

- 2,048 weights x 24 steps, |g| < 1, of which half lies evenly between 0 and 1 (a clamp at 0.93 acts
  on one in thirty), and half as low as 1e-8.
- 2,048 x 24, gradients up to 100, weights of that scale, learning rates down to 1e-6.
- 128 x 384, the length of a training, with its learning rate falling to 1e-6: what counts steps, or
  gathers slowly, arrives where it makes a difference.

In each some gradients and weights are exactly zero, as biases are at first, some weights are
exactly one, as gains are, and some gradients are zero now and then, as those of rare words are.

And for what float64 and its epsilon of 1e-30 hide, the last two once more in float32 with the
epsilon of training, the learning rates down to 1e-8: there exp(89) is infinite, and so is a buffer
after some dozen steps if each makes it twice as large.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from experiments.search.execution import numpy_step, single_step
from experiments.search.language import Program

VERSION = 6
"""Of all that a functional hash and the warnings depend on; searches of another version are not
gone on with.

1: the large probes had 12 steps, on which 16 of 600 confirmed programs differed from their doubles.
2: in float64 only, where 11 of 1,000 differed by a value that overflows.
3: a step size of one's own was looked for in 8 steps at learning rates of 0.01 and more, and
   x / 0.0 was x / -0.0.
4: no weight was exactly 1, as gains are at first: log(w) / log(w) was 1, and held them still.
5: a gradient was zero in all steps or in none: what log(sign(m)) left behind was never read again.
"""


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
def large() -> tuple[Probe, Probe, Probe]:
    """Twice 2,048 weights x 24 steps, and 128 x 384."""
    return (
        _with_rare(make_wide(1, 2048, 24)),
        _with_rare(make_wide(2, 2048, 24, largest=1e2, lowest_lr=1e-6)),
        _with_rare(make_wide(3, 128, 384, largest=3.0, lowest_lr=1e-6, is_schedule=True)),
    )


@cache
def falling() -> Probe:
    """16 weights x 128 steps, learning rates falling as in a short training."""
    probe = make_wide(6, 16, 128)
    return probe._replace(lr=np.geomspace(0.064, 1e-4, 128))


@cache
def single() -> tuple[Probe, Probe]:
    """2,048 weights x 24 steps and 128 x 384, in float32."""
    wide = make_wide(4, 2048, 24, largest=1e2, lowest_lr=1e-8)
    long = make_wide(5, 128, 384, largest=3.0, lowest_lr=1e-8, is_schedule=True)
    return rounded(_with_rare(wide)), rounded(_with_rare(long))


def _with_rare(probe: Probe) -> Probe:
    """Every 29th weight is one in all steps; the gradient of the one before it is zero in one step
    of three, of the one before that in six of seven, as of rare words."""
    w, g, step = probe.w.copy(), probe.g.copy(), np.arange(len(probe.g))
    w[:, 28::29] = 1.0
    g[step % 3 == 0, 27::29] = 0.0
    g[step % 7 < 6, 26::29] = 0.0
    return probe._replace(w=w, g=g)


def rounded(probe: Probe) -> Probe:
    """The probe in float32."""
    w, g, lr = (array.astype(np.float32) for array in (probe.w, probe.g, probe.lr))
    return Probe(w, g, lr, probe.sizes)


def make_wide(
    seed: int,
    num_weights: int,
    num_steps: int,
    largest: float = 1.0,
    lowest_lr: float = 1e-2,
    is_schedule: bool = False,
) -> Probe:
    """A probe on which thresholds act.

    Args:
        seed: Of the random numbers.
        num_weights: Over both tensors, three quarters and one quarter of them.
        num_steps: At least 1.
        largest: Scale of the largest gradients; magnitudes stay below it.
        lowest_lr: Learning rates are drawn between it and 1.
        is_schedule: Learning rates fall evenly from 1 to the lowest in place of being drawn.
    """
    random = np.random.default_rng([20230213, 1, seed])
    shape = (num_steps, num_weights)
    is_even = random.random(num_weights) < 0.5
    even, low = random.uniform(0, 1, num_weights), 10.0 ** random.uniform(-8, 0, num_weights)
    level = np.where(is_even, even, low) * largest ** random.uniform(0, 1, num_weights)
    drift = 2 * random.normal(size=num_weights)
    is_quiet = random.random((num_steps, 1)) < 0.5
    pace = np.where(is_quiet, 10.0 ** random.uniform(-4, 0, (num_steps, 1)), 1.0)
    g = 0.9999 * level * pace * np.tanh(drift + random.normal(size=shape))
    w = random.normal(size=shape) * 10.0 ** random.uniform(-3, np.log10(largest), num_weights)
    g[:, random.random(num_weights) < 0.02] = 0.0
    w[:, random.random(num_weights) < 0.02] = 0.0
    lr = 10.0 ** random.uniform(np.log10(lowest_lr), 0, num_steps)
    if is_schedule:
        lr = np.linspace(1.0, lowest_lr, num_steps)
    return Probe(w, g, lr, (num_weights - num_weights // 4, num_weights // 4))


def stream(program: Program, probe: Probe) -> np.ndarray:
    """The updates of a program on a probe, from buffers of zeros.

    Args:
        program: A program of valid types; statements that do not matter cost time only.
        probe: Inputs of every step.

    Returns:
        (steps, n) of the probe's dtype; NaN and infinite where the program says so.
    """
    updates = np.empty_like(probe.g)
    m = v = np.zeros_like(probe.g[0])
    with np.errstate(all="ignore"):
        if probe.g.dtype == np.float32:
            step, lrs = single_step(program, probe.sizes), list(probe.lr)
        else:
            step, lrs = numpy_step(program, probe.sizes), probe.lr.tolist()
        for t, lr in enumerate(lrs):
            updates[t], m, v = step(probe.w[t], probe.g[t], m, v, lr)
    return updates
