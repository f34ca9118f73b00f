"""The pure rule: its identities, at any input, and under torch.func."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lion import Lion, rule
from tests import reference

numbers = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
vectors = arrays(np.float64, 5, elements=numbers)
betas = st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.98, 0.99])
rates = st.floats(0.0, 1.0)


def torched(*xs):
    return [torch.from_numpy(x.copy()) for x in xs]


@settings(max_examples=60, deadline=None)
@given(vectors, vectors, vectors, rates, betas, betas, st.floats(0.0, 3.0))
def test_lion_is_the_papers(theta, g, m, lr, beta1, beta2, wd):
    options = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": wd}
    ours = rule.lion(*torched(theta, g, m), **options)
    for x, y in zip(ours, reference.lion(theta, g, m, **options), strict=True):
        np.testing.assert_allclose(x.numpy(), y, rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(vectors, vectors, vectors, rates, betas, st.floats(0.0, 3.0))
def test_equal_betas_are_the_signed_momentum_of_the_ablation(theta, g, m, lr, beta, wd):
    """Lion signs what becomes the momentum, so the ablation needs no class: Lion(betas=(b, b))."""
    ours, m_new = rule.lion(*torched(theta, g, m), lr=lr, beta1=beta, beta2=beta, weight_decay=wd)
    theirs, m_theirs = reference.signed_momentum(theta, g, m, lr=lr, beta=beta, weight_decay=wd)
    clear = (np.abs(m_theirs) > 1e-9) | (m_theirs == 0)  # a cancellation may round either way
    np.testing.assert_allclose(ours.numpy()[clear], theirs[clear], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(m_new.numpy(), m_theirs, rtol=1e-12, atol=1e-12)


def test_single_beta_trajectory_of_the_class():
    rng = np.random.default_rng(0)
    theta, m = rng.normal(size=50), np.zeros(50)
    param = torch.nn.Parameter(torch.tensor(theta))
    optimizer = Lion([param], lr=0.01, betas=(0.95, 0.95), weight_decay=0.3)
    for _ in range(24):
        g = rng.normal(size=50)
        theta, m = reference.signed_momentum(theta, g, m, lr=0.01, beta=0.95, weight_decay=0.3)
        param.grad = torch.tensor(g)
        optimizer.step()
        np.testing.assert_allclose(param.detach().numpy(), theta, rtol=0, atol=1e-13)


@settings(max_examples=60, deadline=None)
@given(vectors, vectors, vectors, st.integers(-20, 20))
def test_scaling_gradient_and_momentum_by_a_power_of_two_changes_no_step(theta, g, m, exponent):
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
    step, _ = rule.lion(*torched(theta, g, m), **options)
    scaled_step, _ = rule.lion(*torched(theta, g * 2.0**exponent, m * 2.0**exponent), **options)
    assert torch.equal(step, scaled_step)


@settings(max_examples=60, deadline=None)
@given(vectors, vectors, vectors)
def test_every_weight_moves_by_lr_or_not_at_all(theta, g, m):
    options = {"lr": 0.125, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0}
    step, _ = rule.lion(*torched(theta, g, m), **options)
    moves = (step.numpy() - theta).round(9)
    assert set(moves) <= {-0.125, 0.0, 0.125}


def test_sign_keeps_nan_and_knows_infinity():
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-45, -3.0])
    assert rule.sign(x)[1:].tolist() == [1, -1, 0, 0, 1, -1]
    assert rule.sign(x)[0].isnan()


def test_inputs_are_left_alone():
    tensors = [torch.randn(4, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    copies = [x.clone() for x in tensors]
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
    rule.lion(*tensors, **options)
    rule.hero_lion(*tensors, step=2, **options)
    assert all(torch.equal(x, y) for x, y in zip(tensors, copies, strict=True))


@pytest.mark.parametrize("update", [rule.lion, rule.hero_lion])
def test_a_grid_of_settings_steps_at_once(update):
    torch.manual_seed(0)
    param, grad, exp_avg = torch.randn(3, 6, 5)
    grid = torch.tensor([0.01, 0.1, 1.0]), torch.tensor([0.0, 0.3, 1.0])
    fixed = {"beta1": 0.9, "beta2": 0.99} | ({"step": 3} if update is rule.hero_lion else {})

    def cell(lr, wd):
        return update(param, grad, exp_avg, lr=lr, weight_decay=wd, **fixed)

    together = torch.func.vmap(cell)(*grid)
    for i, (lr, wd) in enumerate(zip(*grid, strict=True)):
        for x, y in zip(together, cell(lr, wd), strict=True):
            torch.testing.assert_close(x[i], y)
