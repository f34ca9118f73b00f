"""Averages of weights: what torch does wrong there does not reach what is measured."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from experiments.averaging import RunningAverage, ShardedAverage, moving_average


class Indexed(nn.Module):
    """A weight, and a table of places as relative attention keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("index", torch.arange(1000))


@pytest.mark.parametrize("decay", [0.9, 0.9999])
@pytest.mark.parametrize("kind", [RunningAverage, ShardedAverage])
def test_whole_numbers_are_not_averaged(kind: Any, decay: float) -> None:
    """In float32 0.9 x 9 + (1 - 0.9) x 9 lies below 9, and would be the index 8."""
    model = Indexed()
    average = kind(model, moving_average(decay))
    for _ in range(5):
        nn.init.constant_(model.weight, 1.0)
        average.update_parameters(model)
    nn.init.constant_(model.weight, 2.0)
    model.get_buffer("index").add_(1)
    average.update_parameters(model)
    state = average.state_dict() if kind is RunningAverage else average.state()
    assert torch.equal(state["module.index"], torch.arange(1, 1001))
    torch.testing.assert_close(state["module.weight"], torch.full((3,), 2.0 - decay))
    assert int(state["n_averaged"]) == 6


def test_an_evaluation_that_fails_leaves_the_weights_and_the_average_in_their_places() -> None:
    model = Indexed()
    average = ShardedAverage(model, moving_average(0.5))
    for value in (1.0, 3.0):
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
    with pytest.raises(RuntimeError, match="in between"), average.in_place() as shown:
        assert shown is model and model.weight.tolist() == [2.0] * 3
        raise RuntimeError("in between")
    assert model.weight.tolist() == [3.0] * 3
    assert average.state()["module.weight"].tolist() == [2.0] * 3
