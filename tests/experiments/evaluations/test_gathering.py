"""Every process gets all rows in their order, however few there are."""

from __future__ import annotations

import pytest
import torch
from in_threads import together
from torch import Tensor

from experiments.distributed import World
from experiments.evaluations.gathering import gathered, share_of


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_rows_come_in_the_order_of_their_numbers(size: int, count: int) -> None:
    def work(world: World) -> Tensor:
        shares = share_of(count, 2, world)
        assert all(len(numbers) <= 2 for numbers in shares)
        rows = (torch.from_numpy(n)[:, None] * torch.tensor([1, 10]) for n in shares)
        return gathered(rows, count, 2, world)

    for found in together(size, work):
        assert found.tolist() == [[k, 10 * k] for k in range(count)]
        assert found.dtype == torch.float32
