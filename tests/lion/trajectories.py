"""A fixed problem, the trajectory of the float64 reference on it, and the comparison of another's.

A step is any callable (thetas, grads, momenta, lr, weight_decay) -> (new thetas, new momenta) on
lists of float64 arrays; the optimizers are wrapped as such in `stepper`.
"""

import math
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch

from lion import Lion, foreach, loop, rule
from tests import reference

STEPS = 24
BETAS = (0.9, 0.99)
DECAYS = (0.0, 0.3)
SCHEDULES = {
    "constant": lambda t: 0.01,
    "warmup-cosine": lambda t: 0.02 * min(t / 5, 0.5 + 0.5 * math.cos(math.pi * t / STEPS)),
}
PATHS = (
    "rule",
    "loop",
    "foreach",
    "fused",
    "tensor-lr",
    "loop-device-lr",
    "foreach-device-lr",
    "foreach-lists",
    "differentiable",
)


@dataclass
class Problem:
    """Start weights, the gradients of every step, and the learning rate of every step."""

    thetas: list[np.ndarray]
    grads: list[list[np.ndarray]]
    lrs: list[float]


def make_problem(schedule: str = "warmup-cosine", dtype: torch.dtype = torch.float64) -> Problem:
    """Random walks of gradients, with some exact zeros, all of them representable in `dtype`."""
    rng = np.random.default_rng(0)
    shapes = [(9, 7), (33,), (), (2, 3, 4)]

    def draw(shape):
        return torch.tensor(rng.normal(size=shape)).to(dtype).double().numpy()

    thetas = [draw(shape) for shape in shapes]
    grads = [[draw(shape) for shape in shapes] for _ in range(STEPS)]
    for step, step_grads in enumerate(grads):
        step_grads[0][0] = 0.0  # never a gradient: only decay may move these weights
        if step % 3:
            step_grads[1][:5] = 0.0
    return Problem(thetas, grads, [SCHEDULES[schedule](t) for t in range(1, STEPS + 1)])


def run(step, problem: Problem, weight_decay: float):
    """Return [(thetas, momenta)] after each step, from zero momenta."""
    thetas, momenta = list(problem.thetas), [np.zeros_like(x) for x in problem.thetas]
    states = []
    for grads, lr in zip(problem.grads, problem.lrs, strict=True):
        thetas, momenta = step(thetas, grads, momenta, lr, weight_decay)
        states.append((thetas, momenta))
    return states


def per_tensor(tensor_rule):
    """A step from a rule of one array, (theta, g, m, lr, weight_decay) -> (theta, m)."""

    def step(thetas, grads, momenta, lr, weight_decay):
        pairs = zip(thetas, grads, momenta, strict=True)
        return zip(*(tensor_rule(p, g, m, lr, weight_decay) for p, g, m in pairs), strict=True)

    return step


def _reference(theta, g, m, lr, wd):
    return reference.lion(theta, g, m, lr=lr, beta1=BETAS[0], beta2=BETAS[1], weight_decay=wd)


reference_step = per_tensor(_reference)


def follows(states, expected, atol: float) -> bool:
    """Whether every weight and momentum of every step is within `atol` of the expected one."""
    for state, expected_state in zip(states, expected, strict=True):
        for column, expected_column in zip(state, expected_state, strict=True):
            for x, y in zip(column, expected_column, strict=True):
                if x.shape != y.shape or not np.allclose(x, y, rtol=0, atol=atol):
                    return False
    return True


def stepper(path: str, problem: Problem, dtype: torch.dtype, weight_decay: float, **flags):
    """A step through one of PATHS; it keeps its own torch state, ignoring the arrays passed in."""
    params = [torch.tensor(x, dtype=dtype) for x in problem.thetas]
    momenta = [torch.zeros_like(p) for p in params]
    options = {"beta1": BETAS[0], "beta2": BETAS[1], "weight_decay": weight_decay}

    def rule_step(grads, lr):
        for i, grad in enumerate(grads):
            params[i], momenta[i] = rule.lion(params[i], grad, momenta[i], lr=lr, **options)

    def accelerator_step(grads, lr):  # what an accelerator gets, tried on the CPU
        backend = loop if path.startswith("loop") else foreach
        if path.endswith("device-lr"):
            lr = torch.tensor(lr, dtype=torch.promote_types(dtype, torch.float32))
        with mock.patch.object(foreach, "WITHOUT_KERNELS", frozenset()):
            backend.update(params, grads, momenta, lr=lr, maximize=False, **options)

    optimizer = None
    if path in ("loop", "foreach", "fused", "tensor-lr", "differentiable"):
        flags |= {"fused": False} if path in ("loop", "tensor-lr") else {}
        flags |= {path: True} if path in ("foreach", "fused", "differentiable") else {}
        lr = torch.tensor(0.0, dtype=torch.float64) if path == "tensor-lr" else 0.0
        optimizer = Lion(params, lr=lr, betas=BETAS, weight_decay=weight_decay, **flags)

    def optimizer_step(grads, lr):
        group = optimizer.param_groups[0]
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        optimizer.step()
        momenta[:] = [optimizer.state[p]["exp_avg"] for p in params]

    torch_step = rule_step if path == "rule" else optimizer_step if optimizer else accelerator_step

    def step(_thetas, grads, _momenta, lr, _weight_decay):
        torch_step([torch.tensor(g, dtype=dtype) for g in grads], lr)
        return [[x.double().numpy().copy() for x in column] for column in (params, momenta)]

    return step
