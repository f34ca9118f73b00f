"""Trajectories of several models, through torch.optim one by one and through a stacked rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lion.stacked import rule_for

STEPS = 25
Kind = Callable[..., torch.optim.Optimizer]


def gradients(step: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(3, 40, generator=generator, dtype=torch.float64).to(dtype)


def factor(step: int) -> float:
    return 1.0 - step / STEPS


def alone(kind: Kind, settings: list[dict[str, Any]], dtype: torch.dtype) -> list[list[Tensor]]:
    """Weights after each step of each model, through torch.optim's own interface."""
    curves = []
    for row, chosen in enumerate(settings):
        param = torch.nn.Parameter(gradients(-1 % 1000, dtype)[row].clone())
        optimizer = kind([param], **chosen)
        curve = []
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = chosen["lr"] * factor(step)
            param.grad = gradients(step, dtype)[row].clone()
            optimizer.step()
            curve.append(param.detach().clone())
        curves.append(curve)
    return curves


def stacked(
    kind: Kind, settings: list[dict[str, Any]], dtype: torch.dtype, in_place: bool = False
) -> list[Tensor]:
    """The same through the rule, or through that which writes in place: (3, 40) after each step."""
    optimizers = [kind([torch.nn.Parameter(torch.zeros(1))], **s) for s in settings]
    groups = [optimizer.param_groups[0] for optimizer in optimizers]
    rule = rule_for(optimizers[0], groups[0])

    def column(values: list[Any]) -> Any:
        if all(v == values[0] for v in values):
            return values[0]
        return torch.tensor(values, dtype=torch.float64)[:, None]

    shared = {
        k: column([g[k] for g in groups])
        for k in groups[0]
        if k not in ("betas", "params", "program")
    }
    if "betas" in groups[0]:
        for number, key in enumerate(("beta1", "beta2")):
            shared[key] = column([g["betas"][number] for g in groups])
    param = gradients(-1 % 1000, dtype)
    state = {key: torch.zeros_like(param) for key in rule.state}
    curve = []
    for step in range(STEPS):
        lrs = torch.tensor([g["lr"] * factor(step) for g in groups], dtype=torch.float64)
        number = torch.full((1, 1), step + 1, dtype=torch.float64)
        shared |= {"lr": lrs[:, None], "step": number}
        if in_place:
            assert rule.in_place is not None
            assert rule.in_place(param, gradients(step, dtype), state, shared)
        else:
            param, state = rule.update(param, gradients(step, dtype), state, shared)
        curve.append(param.clone())
    return curve


def assert_rows_move_as_models_alone(
    kind: Kind, settings: list[dict[str, Any]], dtype: torch.dtype
) -> None:
    """Each row of the stacked rule follows its own optimizer, step by step."""
    tolerance = 1e-12 if dtype == torch.float64 else 3e-6
    together = stacked(kind, settings, dtype)
    for row, curve in enumerate(alone(kind, settings, dtype)):
        for step, weights in enumerate(curve):
            torch.testing.assert_close(
                together[step][row], weights, rtol=tolerance, atol=tolerance, msg=f"step {step}"
            )
