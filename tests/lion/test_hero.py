"""HeroLion follows the float64 reference in both readings of the damaged line."""

import numpy as np
import pytest
import torch
from torch import nn

from lion import HeroLion, Lion, rule
from tests import reference

LRS = [0.01 * (1 + t % 5) for t in range(24)]


@pytest.mark.parametrize("dtype, atol", [(torch.float64, 1e-12), (torch.float32, 5e-6)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("correction, correction_beta", [("beta2", 0.99), ("beta1", 0.9)])
@pytest.mark.parametrize("tensor_lr", [False, True])
def test_follows_reference(correction, correction_beta, weight_decay, dtype, atol, tensor_lr):
    rng = np.random.default_rng(0)
    param = nn.Parameter(torch.tensor(rng.normal(size=200), dtype=dtype))
    theta, m = param.detach().double().numpy().copy(), np.zeros(200)
    lr0 = torch.tensor(0.0) if tensor_lr else 0.0
    optimizer = HeroLion([param], lr0, weight_decay=weight_decay, bias_correction=correction)
    group = optimizer.param_groups[0]
    for t, lr in enumerate(LRS, start=1):
        param.grad = torch.tensor(rng.normal(size=200), dtype=dtype)
        group["lr"] = group["lr"].fill_(lr) if tensor_lr else lr
        optimizer.step()
        theta, m = reference.hero_lion(
            theta,
            param.grad.double().numpy(),
            m,
            t=t,
            lr=float(group["lr"]),
            beta1=0.9,
            beta2=0.99,
            weight_decay=weight_decay,
            correction_beta=correction_beta,
        )
        np.testing.assert_allclose(param.detach().double().numpy(), theta, rtol=0, atol=atol)
    state = optimizer.state[param]
    np.testing.assert_allclose(state["exp_avg"].double().numpy(), m, rtol=0, atol=atol)
    assert state["step"].item() == len(LRS)


def test_the_two_readings_and_lion_differ():
    ends = []
    for make in (
        Lion,
        HeroLion,
        lambda p, lr: HeroLion(p, lr, bias_correction="beta1"),
    ):
        generator = torch.Generator().manual_seed(0)
        param = nn.Parameter(torch.zeros(300))
        optimizer = make([param], lr=0.01)
        for _ in range(10):
            param.grad = torch.randn(300, generator=generator)
            optimizer.step()
        ends.append(param.detach())
    assert not torch.equal(ends[0], ends[1]) and not torch.equal(ends[1], ends[2])


def test_first_step_and_late_steps_are_lions():
    torch.manual_seed(0)
    tensors, options = (
        torch.randn(3, 50),
        {
            "lr": 0.1,
            "beta1": 0.9,
            "beta2": 0.99,
            "weight_decay": 0.1,
        },
    )
    late = rule.hero_lion(*tensors, step=10_000, **options)
    assert all(torch.equal(x, y) for x, y in zip(late, rule.lion(*tensors, **options), strict=True))
    tensors[2] = 0
    first = rule.hero_lion(*tensors, step=1, **options)
    assert all(
        torch.equal(x, y) for x, y in zip(first, rule.lion(*tensors, **options), strict=True)
    )


def test_steps_are_counted_per_parameter_and_only_with_a_gradient():
    params = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    optimizer = HeroLion(params, lr=0.1, maximize=True)
    for t in range(3):
        params[0].grad = torch.ones(2)
        params[2].grad = torch.ones(2) if t else None
        optimizer.step()
    steps = {
        i: optimizer.state[p]["step"].item() for i, p in enumerate(params) if p.grad is not None
    }
    assert steps == {0: 3, 2: 2}
    assert params[1] not in optimizer.state
    assert torch.allclose(params[0], torch.full((2,), 0.3))


def test_complex_and_nan():
    param = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    param.grad = torch.tensor([1 - 2j, complex("nan")])
    HeroLion([param], lr=1.0).step()
    assert param[0].item() == -1 + 1j
    assert torch.view_as_real(param.detach())[1].isnan().any()


def test_unknown_correction_is_refused():
    with pytest.raises(ValueError, match="'beta3': for no correction at all use Lion"):
        HeroLion([nn.Parameter(torch.ones(1))], bias_correction="beta3")
    with pytest.raises(ValueError, match="'none'"):
        rule.hero_lion(
            *torch.zeros(3, 1),
            step=1,
            lr=0.1,
            beta1=0.9,
            beta2=0.99,
            weight_decay=0.0,
            bias_correction="none",
        )
