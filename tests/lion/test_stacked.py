"""A stacked rule moves every row as the optimizer itself moves one model."""

from __future__ import annotations

from typing import Any

import pytest
import rows
import torch
from torch import Tensor

from lion import HeroLion, Lion, native
from lion.stacked import RULES, NoStackedRule, Settings, StackedRule, State, rule_for

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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES)
def test_every_row_moves_as_its_model_alone(case: str, dtype: torch.dtype) -> None:
    kind, settings = CASES[case]
    rows.assert_rows_move_as_models_alone(kind, settings, dtype)


needs_native = pytest.mark.skipif(not native.available(), reason="there is no C++ compiler")


def test_in_place_adamw_is_the_kernel_of_torch_bit_for_bit() -> None:
    def fused(params: Any, **settings: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(params, fused=True, **settings)

    members = [MEMBERS[0], MEMBERS[1], MEMBERS[0]]  # those of one setting are stepped together
    together = rows.stacked(torch.optim.AdamW, members, torch.float32, in_place=True)
    for row, curve in enumerate(rows.alone(fused, members, torch.float32)):
        for step, weights in enumerate(curve):
            assert torch.equal(together[step][row], weights)


@needs_native
@pytest.mark.parametrize("case", ["lion", "lion, shared betas"])
def test_in_place_every_row_is_its_model_alone_bit_for_bit(case: str) -> None:
    kind, settings = CASES[case]
    together = rows.stacked(kind, settings, torch.float32, in_place=True)
    for row, curve in enumerate(rows.alone(kind, settings, torch.float32)):
        for step, weights in enumerate(curve):
            assert torch.equal(together[step][row], weights)


@pytest.mark.parametrize(
    "dtype, more", [(torch.float64, {}), (torch.float32, {"fused": False})], ids=["64", "not fused"]
)
def test_what_cannot_be_served_in_place_is_left_alone(dtype: Any, more: dict[str, Any]) -> None:
    settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, **more}
    for rule in filter(lambda rule: rule.in_place, RULES.values()):
        param, grad = torch.ones(2, 3, dtype=dtype), torch.ones(2, 3, dtype=dtype)
        state = {key: torch.zeros_like(param) for key in rule.state}
        assert rule.in_place is not None and not rule.in_place(param, grad, state, settings)
        assert param.eq(1).all() and not any(value.any() for value in state.values())


def test_other_rules_are_not_taken_for_these() -> None:
    class Mine(Lion):
        """May do anything."""

    weight = torch.nn.Parameter(torch.zeros(1))
    lion = Lion([weight])
    assert rule_for(lion, lion.param_groups[0]) is RULES["lion.lion.Lion"]
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
        with pytest.raises(NoStackedRule, match=f"{type(optimizer).__name__} has no rule"):
            rule_for(optimizer, optimizer.param_groups[0])


class HeavyBall(torch.optim.Optimizer):
    """One of somebody's own, which brings its rule for stacked weights along."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                ball = self.state[p].setdefault("ball", torch.zeros_like(p))
                ball.mul_(0.9).add_(p.grad)
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * ball)

    def stacked_rule(self, settings: Any) -> StackedRule:
        return StackedRule(self._stacked, ("ball",))

    @staticmethod
    def _stacked(p: Tensor, grad: Tensor, state: State, group: Settings) -> tuple[Tensor, State]:
        lr, decay = group["lr"], group["weight_decay"]
        ball = 0.9 * state["ball"] + grad
        kept = p * (1 - lr * decay).to(p.dtype)
        return kept - lr.to(p.dtype) * ball, {"ball": ball}


def test_an_optimizer_may_bring_a_rule_but_its_subclass_must_bring_its_own() -> None:
    class Mine(HeavyBall):
        """May do anything."""

    settings = [{"lr": m["lr"], "weight_decay": m["weight_decay"]} for m in MEMBERS]
    rows.assert_rows_move_as_models_alone(HeavyBall, settings, torch.float64)
    mine = Mine([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(NoStackedRule, match="Mine has no rule"):
        rule_for(mine, mine.param_groups[0])
