"""The trajectories that every Lion is sent along: start weights, gradients and learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

BETAS = (0.9, 0.99)
STEPS = 16
MIDDLE = STEPS // 2
LR = 0.05
DECAY = 1.0  # strong, so that one step in bfloat16 shows it: lr * decay * w > the rounding of w
# 63 and 4,120 leave a ragged tail behind blocks of 32, 64 does not; 4,120 is also beyond the size
# below which 8-bit optimizers keep 32 bits by default.
SHAPES = ((9, 7), (64,), (), (2, 3, 4), (4, 1030))
Grads = list[Tensor | None]


@dataclass
class Scenario:
    """One trajectory.

    Attributes:
        name: As the matrix shows it.
        weights: The start weights.
        grads: Per step, a gradient (or None) for each weight.
        lrs: Per step; all multiples of 2^-16, so that float32 holds them exactly.
        weight_decay: Decoupled decay.
        lr_is_tensor: Whether the optimizer gets a 0-d float32 tensor that is changed in place.
        resume_at: Before this step the state dict is saved and loaded by a new optimizer.
        maximize: Whether to climb.
    """

    name: str
    weights: list[Tensor]
    grads: list[Grads]
    lrs: list[float] = field(default_factory=lambda: [_exact(LR)] * STEPS)
    weight_decay: float = DECAY
    lr_is_tensor: bool = False
    resume_at: int | None = None
    maximize: bool = False


def make_all() -> dict[str, Scenario]:
    """Return every scenario by name; the same numbers at each call."""
    made = [_with_lrs("schedule", lr_is_tensor=False), _with_lrs("tensor lr", lr_is_tensor=True)]
    made += [_missing(), _zeros(), _nan(), _cancelling()]
    made += [_plain("plain", weight_decay=0.0), _plain("decay"), _plain("maximize", maximize=True)]
    made += [_plain("resume", resume_at=MIDDLE), _plain("bf16", torch.bfloat16)]
    by_name = {scenario.name: scenario for scenario in made}
    return {name: by_name[name] for name in NAMES}


NAMES = (
    "plain",
    "decay",
    "schedule",
    "tensor lr",
    "resume",
    "missing grads",
    "zero grads",
    "cancelling",
    "maximize",
    "nan grad",
    "bf16",
)


def _exact(lr: float) -> float:
    return round(lr * 2**16) / 2**16


def _plain(name: str, dtype: torch.dtype = torch.float32, **settings: object) -> Scenario:
    generator = torch.Generator().manual_seed(0)

    def draw() -> list[Tensor]:
        return [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]

    weights = draw()
    return Scenario(name, weights, [list(draw()) for _ in range(STEPS)], **settings)  # type: ignore


def _with_lrs(name: str, lr_is_tensor: bool) -> Scenario:
    scenario = _plain(name, lr_is_tensor=lr_is_tensor)
    warm = STEPS // 4
    shape = [min((t + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * t / STEPS)) for t in range(STEPS)]
    scenario.lrs = [_exact(LR * factor) for factor in shape]
    return scenario


def _change(scenario: Scenario, new: Callable[[int, int, Tensor], Tensor | None]) -> Scenario:
    scenario.grads = [
        [new(step, i, grad) for i, grad in enumerate(grads) if grad is not None]
        for step, grads in enumerate(scenario.grads)
    ]
    return scenario


def _missing() -> Scenario:
    """One weight lacks every third gradient, another all of the first half."""

    def new(step: int, index: int, grad: Tensor) -> Tensor | None:
        return None if (index == 0 and step % 3 == 1) or (index == 3 and step < MIDDLE) else grad

    return _change(_plain("missing grads"), new)


def _zeros() -> Scenario:
    """One weight never gets a gradient but 0, and at every fourth step none of them does."""

    def new(step: int, index: int, grad: Tensor) -> Tensor:
        return torch.zeros_like(grad) if index == 1 or step % 4 == 2 else grad

    return _change(_plain("zero grads"), new)


def _nan() -> Scenario:
    """Two weights get one NaN each; only they may be hurt."""

    def new(step: int, index: int, grad: Tensor) -> Tensor:
        if step == 3 and index in (0, 4):
            grad.view(-1)[5] = math.nan
        return grad

    return _change(_plain("nan grad"), new)


def _cancelling() -> Scenario:
    """From the second step on, gradients that cancel the momentum but for rounding.

    A third of the gradients are -beta1 * m / (1 - beta1), of the momentum m in float32 arithmetic.
    """
    scenario = _plain("cancelling")
    beta1, beta2 = BETAS
    momenta = [torch.zeros_like(weight) for weight in scenario.weights]

    def new(step: int, index: int, grad: Tensor) -> Tensor:
        m = momenta[index]
        if step % 3:
            grad.view(-1)[::3] = (m * (-beta1 / (1 - beta1))).view(-1)[::3]
        m.mul_(beta2).add_(grad, alpha=1 - beta2)
        return grad

    return _change(scenario, new)
