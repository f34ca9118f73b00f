"""What a micro-batch weighs, whose noise it has, and who is named where a gradient is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments import accumulating, global_batch
from experiments.config import UserError
from experiments.data.order import BatchPlan
from experiments.distributed import World
from experiments.tasks.task import Batch, Loss

ALONE = World(0, 1, torch.device("cpu"))


class Scaled(nn.Module):
    """One weight, 1.0: a loss of `slope` times it has the gradient `slope`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))


def parts_of(
    model: nn.Module,
    loss: Callable[..., Loss],
    prefetch: Any = None,
    coupling: str = "none",
    world: Any = ALONE,
) -> Any:
    """Two micro-batches of one example for each process."""
    return SimpleNamespace(
        is_sharded=False,
        world=world,
        model=model,
        forward=model,
        task=SimpleNamespace(loss=loss, coupling=coupling),
        plan=BatchPlan(0, 8, 2 * world.size, 1, world.rank, world.size),
        config=SimpleNamespace(train=SimpleNamespace(channels_last=False)),
        prefetch=prefetch,
    )


@pytest.fixture(autouse=True)
def _in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulating, "autocast", lambda *_: contextlib.nullcontext())


def weighed(model: Any, batch: Batch, world: World) -> Loss:
    """Of slopes and weights in the batch."""
    slope, weight = batch
    return Loss(slope.clone() * model.weight, weight)


def batches(*pairs: tuple[float, float], dtype: torch.dtype = torch.float32) -> list[Batch]:
    return [(torch.tensor(s), torch.tensor(w, dtype=dtype)) for s, w in pairs]


@pytest.mark.parametrize(
    ("pairs", "dtype"),
    [
        (((1.0, 0.1), (5.0, 0.3)), torch.float32),  # less than one in all
        (((1.0, 256.0), (5.0, 1.0)), torch.bfloat16),  # whose sum bfloat16 does not have
        (((1.0, 60000.0), (5.0, 60000.0)), torch.float16),  # nor float16
        (((1.0, 3), (5.0, 1)), torch.int64),
    ],
)
def test_gradients_and_loss_are_the_weighted_mean(pairs: Any, dtype: torch.dtype) -> None:
    micro = batches(*pairs, dtype=dtype)
    model = Scaled()
    loss = accumulating.accumulate(parts_of(model, weighed), 0, micro)
    weights = [float(weight) for _, weight in micro]
    wanted = sum(float(s) * w for (s, _), w in zip(micro, weights, strict=True)) / sum(weights)
    assert float(loss) == pytest.approx(wanted, rel=1e-6)
    assert float(model.weight.grad) == pytest.approx(wanted, rel=1e-6)  # type: ignore[arg-type]


def test_a_weight_that_the_model_has_made_is_a_number_all_the_same() -> None:
    """Else training would lower the weights of what costs much."""

    def loss(model: Any, batch: Batch, world: World) -> Loss:
        return Loss(batch[0] * model.weight, batch[1] * model.weight)

    model = Scaled()
    accumulating.accumulate(parts_of(model, loss), 0, batches((1.0, 1.0), (5.0, 3.0)))
    assert float(model.weight.grad) == pytest.approx(4.0)  # type: ignore[arg-type]


def test_a_weight_in_the_memory_of_its_batch_outlives_it() -> None:
    """A batch that is sent ahead lies where an earlier one lay."""

    def reused(batch: list[Batch]) -> Any:
        memory = tuple(torch.empty(()) for _ in batch[0])
        for micro in batch:
            for kept, tensor in zip(memory, micro, strict=True):
                kept.copy_(tensor)
            yield memory

    model = Scaled()
    micro = batches((1.0, 1.0), (5.0, 3.0))
    loss = accumulating.accumulate(parts_of(model, weighed, reused), 0, micro)
    assert float(loss) == pytest.approx(4.0)
    assert float(model.weight.grad) == pytest.approx(4.0)  # type: ignore[arg-type]


def test_a_coupled_loss_has_the_noise_of_its_place_in_the_global_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In every process; else all would draw one dropout."""
    seeds: list[int] = []
    monkeypatch.setattr(accumulating, "seed_all", seeds.append)
    monkeypatch.setattr(accumulating, "average_gradients", lambda *_: None)

    def both(task: Any, model: Any, micro: Any, world: Any, before: Any, cast: Any) -> Tensor:
        for number in range(len(micro)):
            before(number)
        return torch.zeros(())

    monkeypatch.setattr(global_batch, "accumulate", both)
    monkeypatch.setattr(global_batch, "can_couple", lambda _: True)
    plan = BatchPlan(0, 8, 4, 1)
    for rank in (0, 1):
        world = World(rank, 2, torch.device("cpu"))
        made = parts_of(Scaled(), weighed, coupling="global batch", world=world)
        accumulating.accumulate(made, 3, batches((1.0, 1.0), (5.0, 3.0)))
    assert seeds == [plan.noise_seed(3, number) for number in range(4)]


def test_the_names_of_what_is_unused_are_not_those_of_what_is_frozen() -> None:
    """DistributedDataParallel counts what is trained."""
    model = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in "abc"})
    model["a"].requires_grad_(False)

    def loss(*_: Any) -> Loss:
        said = "Parameter indices which did not receive grad for rank 0: 1\n In addition, ..."
        raise RuntimeError(said)

    with pytest.raises(UserError, match=r"does not use c\.weight: .*frozen=\[c\.weight\]"):
        accumulating.accumulate(parts_of(model, loss), 0, batches((1.0, 1.0), (5.0, 3.0)))


@pytest.mark.parametrize("is_sharded", [False, True])
def test_gradients_are_sent_with_the_last_micro_batch_and_those_of_shards_averaged(
    is_sharded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def without_sync(model: Any, last: bool) -> Any:
        told.append(last)
        return contextlib.nullcontext()

    monkeypatch.setattr(accumulating, "without_sync", without_sync)
    monkeypatch.setattr(accumulating, "average_gradients", lambda model, _: told.append("averaged"))
    world = SimpleNamespace(
        rank=1, size=2, device=torch.device("cpu"), sum=lambda x: x, copy_buffers=lambda _: None
    )
    parts = parts_of(Scaled(), weighed, world=world)
    parts.is_sharded = is_sharded
    accumulating.accumulate(parts, 0, batches((1.0, 1.0), (5.0, 3.0)))
    assert told == [False, True, *(["averaged"] if is_sharded else [])]


def test_only_what_is_asked_for_has_its_channels_last() -> None:
    images, tokens = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3)
    parts = parts_of(Scaled(), weighed, world=World(0, 1, torch.device("meta")))
    for asked in (False, True):
        parts.config.train.channels_last = asked
        moved = accumulating._on_device(parts, (images, tokens))
        assert all(tensor.device.type == "meta" for tensor in moved)
        assert moved[0].is_contiguous(memory_format=torch.channels_last) == asked
        assert moved[1].is_contiguous()
