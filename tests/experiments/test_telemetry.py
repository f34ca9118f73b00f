"""What telemetry measures, against plain sums over every element."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from experiments.telemetry import Telemetry
from lion import Lion, param_groups

ROOT = Path(__file__).parents[2]
EVERY = 3


class Net(nn.Module):
    """A scalar, an embedding, and matrices of both memory formats."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.conv = nn.Conv2d(3, 4, 2)
        self.linear = nn.Linear(4, 3)


def rms(tensors: list[Tensor]) -> float:
    values = [float(v) for t in tensors for v in t.double().flatten()]
    return math.sqrt(sum(v * v for v in values) / len(values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_are_those_of_plain_sums(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Net().to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = Lion(param_groups(model, 0.1), lr=1e-2)
    telemetry = Telemetry(model, optimizer, EVERY, 1.0)
    kept: dict[int, list[Tensor]] = {}
    found: dict[str, float] = {}
    for done in range(1, 2 * EVERY + 1):
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        assert model.scale.grad is not None
        model.scale.grad.zero_()
        before = [p.detach().clone() for p in model.conv.parameters()]
        telemetry.before(done, torch.tensor(2.0 if done > EVERY + 1 else 0.5))
        optimizer.step()
        telemetry.after(done)
        after = list(model.conv.parameters())
        kept[done] = [a.detach() - b for a, b in zip(after, before, strict=True)]
        found = dict(telemetry.take()) or found
    weights = [model.conv.weight, model.linear.weight]
    assert found["weight_rms/decay"] == pytest.approx(rms([w.detach() for w in weights]), rel=1e-5)
    assert found["weight_rms/embeddings"] == pytest.approx(rms([model.embedding.weight.detach()]))
    momenta = [optimizer.state[w]["exp_avg"] for w in weights]
    assert found["momentum_rms/decay"] == pytest.approx(rms(momenta), rel=1e-5)
    bias = kept[2 * EVERY][1]
    others = rms([bias])  # of the biases of both layers every step is lr or its negative
    assert found["update_rms/no_decay"] == pytest.approx(others, rel=1e-2)
    assert found["zero_updates/scalars"] == 1 and found["zero_updates/decay"] == 0
    assert found["clip_share"] == pytest.approx(2 / 3)
    assert found["grad_norm"] == 2.0


def test_flips_are_counted_between_the_look_and_the_step_before() -> None:
    model = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = Telemetry(model, optimizer, EVERY, None)
    found: dict[str, float] = {}
    for done in range(1, EVERY + 1):
        model.weight.grad = torch.tensor([[1.0, 1.0, 1.0, 1.0 if done < EVERY else -1.0]])
        telemetry.before(done, None)
        optimizer.step()
        telemetry.after(done)
        found = dict(telemetry.take()) or found
    assert found["sign_flips/all"] == 0.25
    assert found["grad_norm"] == 2.0


def test_updates_that_are_not_finite_are_no_updates_of_zero() -> None:
    model = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = Telemetry(model, optimizer, 1, None)
    for done in (1, 2):
        model.weight.grad = torch.full((1, 4), math.nan if done > 1 else 1.0)
        telemetry.before(done, None)
        optimizer.step()
        telemetry.after(done)
        found = dict(telemetry.take())
    assert found["zero_updates/all"] == 0 and math.isnan(found["update_rms/all"])


def test_between_looks_nothing_of_the_models_size_is_kept() -> None:
    model = nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = Telemetry(model, optimizer, EVERY, None)
    for done in range(1, EVERY + 1):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        telemetry.before(done, None)
        optimizer.step()
        telemetry.after(done)
    held = [*telemetry._signs.values(), *telemetry._before.values()]
    assert held == []
