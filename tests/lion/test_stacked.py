"""A stacked rule moves every row as the optimizer itself moves one model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lion import HeroLion, Lion
from lion.stacked import RULES, rule_for

STEPS = 25
MEMBERS: list[dict[str, Any]] = [
    {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.9, 0.99)},
    {"lr": 3e-3, "weight_decay": 0.0, "betas": (0.95, 0.98)},
    {"lr": 3e-2, "weight_decay": 1.0, "betas": (0.8, 0.9)},
]
CASES = {
    "lion": (Lion, MEMBERS),
    "lion, shared betas": (Lion, [{**m, "betas": (0.9, 0.99)} for m in MEMBERS]),
    "adamw": (torch.optim.AdamW, MEMBERS),
    "adamw, shared betas": (torch.optim.AdamW, [{**m, "betas": (0.9, 0.999)} for m in MEMBERS]),
    "sgd": (torch.optim.SGD, [{"lr": m["lr"], "weight_decay": 0.1} for m in MEMBERS]),
    "momentum": (torch.optim.SGD, [{"lr": m["lr"], "momentum": 0.9} for m in MEMBERS]),
    "nesterov": (
        torch.optim.SGD,
        [{"lr": m["lr"], "momentum": 0.9, "nesterov": True, "weight_decay": 0.2} for m in MEMBERS],
    ),
}


def gradients(step: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(3, 40, generator=generator, dtype=torch.float64).to(dtype)


def factor(step: int) -> float:
    return 1.0 - step / STEPS


def alone(kind: type, settings: list[dict[str, Any]], dtype: torch.dtype) -> list[list[Tensor]]:
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


def stacked(kind: type, settings: list[dict[str, Any]], dtype: torch.dtype) -> list[Tensor]:
    """The same through the rule: (3, 40) after each step."""
    optimizers = [kind([torch.nn.Parameter(torch.zeros(1))], **s) for s in settings]
    groups = [optimizer.param_groups[0] for optimizer in optimizers]
    rule = rule_for(kind, groups[0])
    assert rule is not None

    def column(values: list[Any]) -> Any:
        if all(v == values[0] for v in values):
            return values[0]
        return torch.tensor(values, dtype=torch.float64)[:, None]

    shared = {k: column([g[k] for g in groups]) for k in groups[0] if k not in ("betas", "params")}
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
        param, state = rule.update(param, gradients(step, dtype), state, shared)
        curve.append(param)
    return curve


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES)
def test_every_row_moves_as_its_model_alone(case: str, dtype: torch.dtype) -> None:
    kind, settings = CASES[case]
    tolerance = 1e-12 if dtype == torch.float64 else 3e-6
    together = stacked(kind, settings, dtype)
    for row, curve in enumerate(alone(kind, settings, dtype)):
        for step, weights in enumerate(curve):
            torch.testing.assert_close(
                together[step][row], weights, rtol=tolerance, atol=tolerance, msg=f"step {step}"
            )


def test_other_rules_are_not_taken_for_these() -> None:
    class Mine(Lion):
        """May do anything."""

    weight = torch.nn.Parameter(torch.zeros(1))
    assert rule_for(Lion, Lion([weight]).param_groups[0]) is RULES["lion.lion.Lion"]
    others = [
        Mine([weight]),
        HeroLion([weight]),
        Lion([weight], maximize=True),
        Lion([weight], momentum_dtype="int8"),
        Lion([weight], kahan_sum=True),
        torch.optim.AdamW([weight], amsgrad=True),
        torch.optim.SGD([weight], lr=0.1, momentum=0.9, dampening=0.5),
        torch.optim.RAdam([weight]),
    ]
    for optimizer in others:
        assert rule_for(type(optimizer), optimizer.param_groups[0]) is None, optimizer
