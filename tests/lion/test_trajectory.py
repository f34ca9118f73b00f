"""Every path of Lion follows the float64 reference, and agrees with the others to the bit."""

import numpy as np
import pytest
import torch

from tests.lion.trajectories import (
    BETAS,
    DECAYS,
    PATHS,
    SCHEDULES,
    follows,
    make_problem,
    reference_step,
    run,
    stepper,
)

# 24 roundings of weights of size 3; a sign that differs would be off by 2 * lr >= 4e-4.
ATOL = {torch.float64: 1e-13, torch.float32: 5e-6}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("weight_decay", DECAYS)
@pytest.mark.parametrize("dtype", ATOL)
@pytest.mark.parametrize("path", PATHS)
def test_path_follows_reference(path, dtype, weight_decay, schedule):
    problem = make_problem(schedule, dtype)
    expected = run(reference_step, problem, weight_decay)
    states = run(stepper(path, problem, dtype, weight_decay), problem, weight_decay)
    assert follows(states, expected, ATOL[dtype])


@pytest.mark.parametrize("weight_decay", DECAYS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("path", PATHS)
def test_low_precision_follows_reference_from_its_own_state(path, dtype, weight_decay):
    """Each step, from the state the optimizer itself reached, is the reference's up to rounding.

    Weights and momenta may be off by two roundings of their size; a sign may differ only where the
    two terms inside it cancel to within the rounding.
    """
    problem = make_problem("warmup-cosine", dtype)
    eps = torch.finfo(dtype).eps
    states = run(stepper(path, problem, dtype, weight_decay), problem, weight_decay)
    previous = (problem.thetas, [np.zeros_like(x) for x in problem.thetas])
    num_signs_free = num_signs = 0
    for grads, lr, state in zip(problem.grads, problem.lrs, states, strict=True):
        expected = reference_step(*_columns(previous, grads), lr, weight_decay)
        for theta, m, p, q, g, m_old in zip(*expected, *state, grads, previous[1], strict=True):
            terms = BETAS[0] * np.abs(m_old) + (1 - BETAS[0]) * np.abs(g)
            clear = np.abs(BETAS[0] * m_old + (1 - BETAS[0]) * g) > 2 * eps * terms
            clear |= terms == 0
            num_signs_free += np.sum(~clear)
            num_signs += clear.size
            near = np.abs(p - theta) <= eps * (np.abs(theta) + 2 * lr)
            assert np.all(near | ~clear)
            assert np.all(np.abs(p - theta) <= eps * (np.abs(theta) + 2 * lr) + 2 * lr)
            tiny = torch.finfo(dtype).tiny * eps * 2  # subnormals of float16
            assert np.all(np.abs(q - m) <= eps * terms + tiny)
        previous = state
    assert num_signs_free < 0.03 * num_signs


def _columns(previous, grads):
    return previous[0], grads, previous[1]


@pytest.mark.parametrize("dtype", ATOL)
@pytest.mark.parametrize(
    "path, other",
    [(path, "loop") for path in PATHS if not path.endswith("device-lr")]
    + [("foreach-device-lr", "loop-device-lr")],
)
def test_paths_agree_to_the_bit(path, other, dtype):
    problem = make_problem("warmup-cosine", dtype)
    states, expected = (run(stepper(p, problem, dtype, 0.3), problem, 0.3) for p in (path, other))
    assert follows(states, expected, 0.0)


def _google_step(param, grad, exp_avg, lr, weight_decay):
    """The operations of google/automl's lion_pytorch.py, in its order."""
    param.mul_(1 - lr * weight_decay)
    update = exp_avg * BETAS[0] + grad * (1 - BETAS[0])
    param.add_(torch.sign(update), alpha=-lr)
    exp_avg.mul_(BETAS[1]).add_(grad, alpha=1 - BETAS[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("path", ["loop", "foreach", "tensor-lr"])
def test_bit_equal_to_google(path, dtype):
    problem = make_problem("warmup-cosine", dtype)
    params = [torch.tensor(x, dtype=dtype) for x in problem.thetas]
    momenta = [torch.zeros_like(p) for p in params]

    def google(_thetas, grads, _momenta, lr, weight_decay):
        for param, grad, momentum in zip(params, grads, momenta, strict=True):
            _google_step(param, torch.tensor(grad, dtype=dtype), momentum, lr, weight_decay)
        return [[x.double().numpy().copy() for x in column] for column in (params, momenta)]

    states = run(stepper(path, problem, dtype, 0.3), problem, 0.3)
    assert follows(states, run(google, problem, 0.3), 0.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["loop", "foreach"])
def test_cuda_agrees_with_cpu(name):
    from lion import backends

    options = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "maximize": False}
    generator = torch.Generator().manual_seed(0)
    columns = [[torch.randn(1000, generator=generator) for _ in range(3)] for _ in range(3)]
    columns[1][0][0] = float("nan")
    on_gpu = [[x.cuda() for x in column] for column in columns]
    for _ in range(20):
        backends.load("loop")(*columns, **options)
        backends.load(name)(*on_gpu, **options)
    for column, gpu_column in zip(columns, on_gpu, strict=True):
        for x, y in zip(column, gpu_column, strict=True):
            torch.testing.assert_close(y.cpu(), x, rtol=1e-6, atol=1e-6, equal_nan=True)
