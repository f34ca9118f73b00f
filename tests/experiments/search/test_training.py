"""Training side by side: independent of batch-mates, true to the optimizers, loud about faults."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

import lion
from experiments.search import library, torch_rules
from experiments.search.language import parse
from experiments.search.proxies.families import proxy
from experiments.search.training import InterpreterError, Plan, train

PLAN = Plan(20, (0.004, 0.016), (7,), 0, "search")
EXPLODES = parse(
    "def train(w, g, m, v, lr):\n  update = w * -9.0\n  update = exp(update)\n  m = m * 2.0\n"
    "  return update, m, v\n"
)
MATES = [library.load(name) for name in ("lion", "adamw_early", "sgd", "lamb_like", "raw")]


@pytest.mark.parametrize("name", ["lion", "adamw_early", "lamb_like"])
@pytest.mark.parametrize("family", ["mlp", "lm"])
def test_a_program_does_not_feel_its_mates(name: str, family: str) -> None:
    program = library.load(name)
    (alone,) = train([program], proxy(family), PLAN)
    together = train([*MATES, EXPLODES, program, EXPLODES, *MATES], proxy(family), PLAN)
    assert together[6] == alone
    assert together[5].killed_at == [10, 10] or not math.isfinite(together[5].losses[0])


@pytest.mark.parametrize("number", [2, 3, 10, 50])
def test_a_program_is_its_twins(number: int) -> None:
    """However many lanes there are: sums over them are added up in the same order at each place."""
    program = library.load("adamw_early")
    (alone,) = train([program], proxy("mlp"), PLAN)
    assert train([program] * number, proxy("mlp"), PLAN) == [alone] * number


def test_a_killed_lane_leaves_the_others_as_they_are() -> None:
    of = proxy("mlp")
    program = library.load("lion")
    (free,) = train([program], of, PLAN)
    worse = max(free.windows[0])
    limited = train(
        [EXPLODES, program, program],
        of,
        PLAN,
        lambda step: worse - 1e-6 if step == 10 else math.inf,
    )
    assert limited[1] == limited[2]
    assert sorted(limited[1].losses)[0] == free.losses[free.windows[0].index(min(free.windows[0]))]
    assert sorted(limited[1].losses)[1] == math.inf and 10 in limited[1].killed_at


def test_seeds_of_a_rate_train_as_they_would_alone() -> None:
    program, of = library.load("adamw_early"), proxy("mlp")
    both = train([program], of, Plan(20, (0.004, 0.016), (7, 8), 0, "search"))[0]
    first = train([program], of, PLAN)[0]
    second = train([program], of, Plan(20, (0.004, 0.016), (8,), 0, "search"))[0]
    assert both.losses == [first.losses[0], second.losses[0], first.losses[1], second.losses[1]]


@pytest.mark.parametrize("name, make", [
    ("lion", lambda p: lion.Lion(p, lr=1.0, betas=(0.9, 0.99), weight_decay=0.1)),
    ("momentum_sgd", lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9)),
])  # fmt: skip
def test_a_program_trains_as_the_optimizer_of_its_name(name: str, make) -> None:
    of, plan = proxy("mlp"), Plan(20, (0.004,), (7,), 0, "search")
    program = library.load(name)
    decay = [s for s in program.statements if "w" in s.arguments]
    weights = [
        view[0].clone().requires_grad_() for view in of.layout.views(of.layout.initial(7)[None])
    ]
    optimizer = make(weights)
    if decay:
        constant = next(a for a in decay[0].arguments if not isinstance(a, str))
        optimizer.param_groups[0]["weight_decay"] = constant
    batches = of.training(7, 20)
    for step in range(20):
        optimizer.param_groups[0]["lr"] = 0.004 * plan.schedule(step)
        hidden = (batches[step].inputs[0] @ weights[0] + weights[1]).relu()
        loss = functional.cross_entropy(hidden @ weights[2], batches[step].targets[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held_out = of.validation(0, "search")
    with torch.no_grad():
        hidden = (held_out.inputs[0] @ weights[0] + weights[1]).relu()
        loss = functional.cross_entropy(hidden @ weights[2], held_out.targets[0])
    (ours,) = train([program], of, plan)
    assert ours.losses[0] == pytest.approx(float(loss), rel=2e-4)


def test_a_fault_of_ours_is_never_a_bad_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise TypeError("no such axis")

    monkeypatch.setitem(torch_rules.RULES, "sign", broken)
    with pytest.raises(InterpreterError, match="no such axis in\ndef train"):
        train([library.load("adamw_early"), library.load("lion")], proxy("mlp"), PLAN)


def test_an_infinite_held_out_loss_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    of = proxy("mlp")
    for lost in (math.inf, math.nan):
        monkeypatch.setattr(of, "loss", lambda weights, _, lost=lost: weights[:, 0] * 0 + lost)
        (training,) = train([library.load("lion")], of, PLAN)
        assert training.losses == [math.inf, math.inf]


def test_the_schedule_warms_up_and_ends_near_zero() -> None:
    shares = [Plan(100, (1.0,), (0,), 0, "search").schedule(step) for step in range(100)]
    assert max(shares) == 1.0 and shares[0] == pytest.approx(1 / 6) and shares[-1] < 1e-3
    assert sorted(shares[5:], reverse=True) == shares[5:]
