"""Seven wrong Lions that "the loss falls" would pass: the trajectory comparison catches each."""

import numpy as np
import pytest
import torch

from tests.lion.trajectories import (
    BETAS,
    follows,
    make_problem,
    per_tensor,
    reference_step,
    run,
)

BETA1, BETA2 = BETAS


def signum(p, g, m, lr, wd):
    m = BETA2 * m + (1 - BETA2) * g
    return p - lr * (np.sign(m) + wd * p), m


def betas_swapped(p, g, m, lr, wd):
    c = BETA2 * m + (1 - BETA2) * g
    return p - lr * (np.sign(c) + wd * p), BETA1 * m + (1 - BETA1) * g


def momentum_before_sign(p, g, m, lr, wd):
    m = BETA2 * m + (1 - BETA2) * g
    c = BETA1 * m + (1 - BETA1) * g
    return p - lr * (np.sign(c) + wd * p), m


def no_decay(p, g, m, lr, wd):
    c = BETA1 * m + (1 - BETA1) * g
    return p - lr * np.sign(c), BETA2 * m + (1 - BETA2) * g


def l2_decay(p, g, m, lr, wd):
    g = g + wd * p
    c = BETA1 * m + (1 - BETA1) * g
    return p - lr * np.sign(c), BETA2 * m + (1 - BETA2) * g


def sign_sgd(p, g, m, lr, wd):
    return p - lr * (np.sign(g) + wd * p), BETA2 * m + (1 - BETA2) * g


def beta2_ignored(p, g, m, lr, wd):
    c = BETA1 * m + (1 - BETA1) * g
    return p - lr * (np.sign(c) + wd * p), c


MUTANTS = (
    signum,
    betas_swapped,
    momentum_before_sign,
    no_decay,
    l2_decay,
    sign_sgd,
    beta2_ignored,
)


def weights_only(states):
    return [(thetas, []) for thetas, _ in states]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("schedule", ["constant", "warmup-cosine"])
def test_mutant_is_caught(mutant, schedule):
    problem = make_problem(schedule, torch.float32)
    expected, states = (run(s, problem, 0.3) for s in (reference_step, per_tensor(mutant)))
    assert not follows(states, expected, 5e-6)
    # The weights alone give it away too, even to a tolerance a thousand times wider.
    assert not follows(weights_only(states), weights_only(expected), 5e-3)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda f: f.__name__)
def test_mutant_descends(mutant):
    """Why the trajectory is needed: every mutant passes a test that the loss falls."""
    p, m = np.full(4, 3.0), np.zeros(4)
    for _ in range(60):
        p, m = mutant(p, p, m, 0.05, 0.1)  # the gradient of |p|^2 / 2
    assert np.sum(p**2) < 0.25 * 36
