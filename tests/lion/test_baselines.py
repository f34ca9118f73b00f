"""The baselines follow float64 references; so does torch's AdamW, the paper's main opponent."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lion import AddSign, PowerSign
from tests import reference

STEPS = 24


def gradients():
    rng = np.random.default_rng(1)
    for t in range(STEPS):
        g = rng.normal(size=60)
        g[:5] = 0.0 if t % 2 else g[:5]
        yield t + 1, g


@pytest.mark.parametrize("dtype, atol", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize(
    "make, alpha, reference_rule",
    [
        (PowerSign, math.e, reference.power_sign),
        (PowerSign, 2.0, reference.power_sign),
        (AddSign, 1.0, reference.add_sign),
        (AddSign, 0.5, reference.add_sign),
    ],
)
def test_follows_reference(make, alpha, reference_rule, weight_decay, dtype, atol):
    theta, m = (
        np.random.default_rng(0).normal(size=60).astype(np.float32).astype(float),
        np.zeros(60),
    )
    param = nn.Parameter(torch.tensor(theta, dtype=dtype))
    optimizer = make([param], alpha=alpha, beta=0.8, weight_decay=weight_decay)
    group = optimizer.param_groups[0]
    for t, g in gradients():
        g = g.astype(np.float32).astype(float)
        group["lr"], group["sign_decay"] = 0.02 * t, 1 - t / STEPS
        param.grad = torch.tensor(g, dtype=dtype)
        optimizer.step()
        settings = {k: group[k] for k in ("lr", "beta", "alpha", "sign_decay", "weight_decay")}
        theta, m = reference_rule(theta, g, m, **settings)
        np.testing.assert_allclose(param.detach().numpy(), theta, rtol=0, atol=atol)
        np.testing.assert_allclose(optimizer.state[param]["exp_avg"].numpy(), m, rtol=0, atol=atol)


def test_torch_adamw_is_the_papers_algorithm_1():
    theta, m, v = np.random.default_rng(0).normal(size=60), np.zeros(60), np.zeros(60)
    param = nn.Parameter(torch.tensor(theta))
    options = {"lr": 0.01, "eps": 1e-6, "weight_decay": 0.3}
    optimizer = torch.optim.AdamW([param], betas=(0.9, 0.99), **options)
    for t, g in gradients():
        param.grad = torch.tensor(g)
        optimizer.step()
        theta, m, v = reference.adamw(theta, g, m, v, t=t, beta1=0.9, beta2=0.99, **options)
        np.testing.assert_allclose(param.detach().numpy(), theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make, alpha", [(PowerSign, math.e), (AddSign, 1.0)])
def test_defaults_are_the_sources(make, alpha):
    group = make([nn.Parameter(torch.ones(1))]).param_groups[0]
    assert (group["beta"], group["alpha"], group["sign_decay"]) == (0.9, alpha, 1.0)


@pytest.mark.parametrize("make, factor", [(PowerSign, 1.0), (AddSign, 1.0)])
def test_full_sign_decay_is_gradient_descent(make, factor):
    param = nn.Parameter(torch.tensor([1.0, -2.0]))
    param.grad = torch.tensor([0.5, 0.25])
    make([param], lr=torch.tensor(1.0), sign_decay=0.0, maximize=True).step()
    assert param.tolist() == [1.0 + 0.5 * factor, -2.0 + 0.25 * factor]


@pytest.mark.parametrize("make", [PowerSign, AddSign])
def test_nan_is_seen(make):
    param = nn.Parameter(torch.zeros(2))
    param.grad = torch.tensor([1.0, float("nan")])
    make([param]).step()
    assert param.isnan().tolist() == [False, True]


@pytest.mark.parametrize("make", [PowerSign, AddSign])
@pytest.mark.parametrize(
    "bad, message",
    [
        ({"lr": -1}, "lr must be finite and >= 0, got -1"),
        ({"beta": 1.0}, r"beta must be in \[0, 1\), got 1.0: 0.9 in the paper"),
        ({"alpha": -1.0}, "alpha must be finite and >= 0, got -1.0"),
        ({"sign_decay": 1.5}, r"sign_decay must be in \[0, 1\], got 1.5"),
        ({"weight_decay": -1.0}, "weight_decay must be finite and >= 0"),
    ],
    ids=str,
)
def test_bad_hyper_parameters_are_named(make, bad, message):
    with pytest.raises(ValueError, match=message):
        make([nn.Parameter(torch.ones(1))], **bad)


def test_power_of_zero_is_refused():
    with pytest.raises(ValueError, match="alpha must be > 0"):
        PowerSign([nn.Parameter(torch.ones(1))], alpha=0)
