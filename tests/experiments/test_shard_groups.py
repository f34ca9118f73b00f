"""Which processes share one model, and the norm of the gradients that they clip together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
import torch
import torch.distributed.fsdp
import torch.distributed.tensor  # the forked processes need not import it each
from in_shards import config
from torch import Tensor, nn

from experiments import sharding
from experiments.config import ConfigError, LaunchConfig
from experiments.distributed import World, is_shard, joined, local


@pytest.mark.parametrize(
    ("strategy", "size", "expected"), [("fsdp", None, 8), ("hsdp", None, 4), ("hsdp", 2, 2)]
)
def test_all_share_a_model_or_those_of_a_host_or_as_many_as_told(
    monkeypatch: pytest.MonkeyPatch, strategy: str, size: int | None, expected: int
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # two hosts
    world: Any = SimpleNamespace(size=8, share=lambda value: value)
    launch = LaunchConfig(strategy=strategy, shard_size=size)
    assert sharding.shard_size(launch, world) == expected


class _Block(nn.Module):
    """With a scalar, a frozen bias, a buffer that all blocks share, and a number of its own."""

    places: Tensor

    def __init__(self, places: Tensor) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.inner.bias.requires_grad_(False)
        self.scale = nn.Parameter(torch.rand(()))
        self.register_buffer("places", places)
        self.register_buffer("seen", torch.randint(1, 99, ()))

    def forward(self, rows: Tensor) -> Tensor:
        return self.inner(rows) * self.scale + self.places


class _Model(nn.Module):
    """Keeps a tensor that is no buffer, which the meta device would leave without numbers."""

    def __init__(self) -> None:
        super().__init__()
        places, self.shift = torch.rand(3), torch.ones(3, dtype=torch.float64)
        self.blocks = nn.ModuleList(_Block(places) for _ in range(2))
        self.head = nn.Linear(3, 2)

    def forward(self, rows: Tensor) -> Tensor:
        for block in self.blocks:
            rows = block(rows)
        return self.head(rows + self.shift)


def _built() -> dict[str, Any]:
    with joined(LaunchConfig(device="cpu")) as world:
        torch.manual_seed(world.rank)
        model: Any = sharding.build(_Model, world, torch.float64)
        one, other = model.blocks
        assert one.places is other.places and one.scale is not other.scale
        assert all(is_shard(p) == (p.dim() > 0) for p in model.parameters())
        frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
        assert frozen == ["blocks.0.inner.bias", "blocks.1.inner.bias"]
        state = model.state_dict(keep_vars=True)
        whole = {n: t.full_tensor() if is_shard(t) else t for n, t in state.items()}
        assert model(torch.ones(1, 3, dtype=torch.float64)).isfinite().all()
        weights = (one.inner.weight, other.inner.weight, model.head.weight)
        assert [is_shard(weight) for weight in weights] == [True, True, False]  # till backward
        return {name: (str(t.dtype), t.tolist()) for name, t in whole.items()}


def test_all_processes_have_what_the_main_one_has_drawn() -> None:
    """In the type of weights, but for whole numbers; what is one tensor stays one."""
    torch.manual_seed(0)
    drawn = _Model().state_dict()
    expected = {n: t.double() if t.is_floating_point() else t for n, t in drawn.items()}
    for found in forked.call_ranks(_built, 2):
        assert found == {n: (str(t.dtype), t.tolist()) for n, t in expected.items()}


def test_a_block_that_is_called_twice_is_one() -> None:
    model = _Model()
    assert sharding.blocks(model) == list(model.blocks)
    model.blocks = nn.ModuleList([model.blocks[0]])
    model.again = nn.ModuleList([model.blocks[0]])  # of an encoder and of a decoder, say
    assert sharding.blocks(model) == []
    model = _Model()
    model.blocks[1].inner = None  # type: ignore[assignment]  # its weights are its own
    assert sharding.blocks(model) == []


class _Wide(nn.Module):
    """72 parameters, where `_Narrow` has 12."""

    def __init__(self, width: int = 9, depth: int = 7) -> None:
        super().__init__()
        self.inner = nn.Linear(depth, width)

    def forward(self, rows: Tensor) -> Tensor:
        return self.inner(rows)


class _Narrow(_Wide):
    def __init__(self) -> None:
        super().__init__(3, 3)


class _Bag(nn.Module):
    """Is never called: its part is."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = _Wide()


class _Wrapper(_Bag):
    def forward(self, rows: Tensor) -> Tensor:
        return self.inner(rows)


def test_of_a_part_and_what_is_around_it_the_outer_one_that_is_called_is_cut() -> None:
    bags, wrappers = ([kind() for _ in range(3)] for kind in (_Bag, _Wrapper))
    assert sharding.blocks(nn.ModuleList(bags)) == [bag.inner for bag in bags]
    assert sharding.blocks(nn.ModuleList(wrappers)) == wrappers


def test_what_leaves_most_in_shards_is_cut_and_not_what_is_most() -> None:
    """Ten of 12 leave 108 while one is whole, two of 72 leave 72."""
    narrow = [_Narrow() for _ in range(10)]
    assert sharding.blocks(nn.ModuleList([*narrow, _Wide(), _Wide()])) == narrow
    assert sharding.blocks(nn.ModuleList([_Wide(), _Wide(), *narrow])) == narrow


def _measured() -> tuple[list[bool], list[bool]]:
    """Which weights are shards after an evaluation, and after a forward pass from there."""
    with joined(LaunchConfig(device="cpu")) as world:
        model: Any = sharding.build(_Model, world, torch.float64)
        rows = torch.ones(1, 3, dtype=torch.float64)
        with torch.no_grad(), sharding.whole(model):
            for _ in range(2 if world.is_main else 0):
                model(rows)
        holders = (*(block.inner for block in model.blocks), model.head)
        found = [is_shard(holder.weight) for holder in holders]
        model(rows)
        return found, [is_shard(holder.weight) for holder in holders]


def test_who_has_nothing_to_measure_keeps_nobody_waiting() -> None:
    """And training goes on from shards, whose blocks are whole one at a time."""
    expected = ([True] * 3, [True, True, False])
    assert forked.call_ranks(_measured, 2) == [expected, expected]


class _Three(nn.Module):
    """A matrix of 3 rows, which 2 processes share unlike; a scalar; one that has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(3, 2))
        self.scalar = nn.Parameter(torch.tensor(0.0))
        self.unused = nn.Parameter(torch.zeros(5))


def _clipped(most: float, size: int | None) -> tuple[float, list[float], float]:
    """The norm, this process's gradients of the matrix, and that of the scalar, after clipping."""
    with joined(LaunchConfig(device="cpu")) as world:
        model: Any = sharding.build(_Three, world, torch.float32, size)
        whole = torch.tensor([[2.0, 4.0], [4.0, 0.0], [0.0, 8.0]])  # squares: 100
        model.matrix.grad = torch.distributed.tensor.distribute_tensor(
            whole, model.matrix.device_mesh, model.matrix.placements
        )
        model.scalar.grad = torch.tensor(-(44.0**0.5))  # with them: 144
        norm = sharding.clip_gradients(model, most, world)
        assert model.unused.grad is None and sharding.unused(model) == ["unused"]
        model.unused.requires_grad_(False)
        assert sharding.unused(model) == []
        return float(norm), local(model.matrix.grad).flatten().tolist(), float(model.scalar.grad)


@pytest.mark.parametrize(("num_processes", "size"), [(2, None), (6, 2)])
@pytest.mark.parametrize(("most", "scale"), [(6.0, 0.5), (13.0, 1.0)])
def test_gradients_in_shards_are_clipped_by_the_norm_of_all(
    num_processes: int, size: int | None, most: float, scale: float
) -> None:
    """Once, however many copies of the model there are."""
    found = forked.call_ranks(lambda: _clipped(most, size), num_processes)
    rows = [[2.0, 4.0, 4.0, 0.0], [0.0, 8.0]] * (num_processes // 2)
    for (norm, matrix, scalar), own in zip(found, rows, strict=True):
        assert norm == pytest.approx(12.0)
        assert matrix == pytest.approx([scale * value for value in own])
        assert scalar == pytest.approx(-scale * 44.0**0.5)


def test_one_process_a_host_shares_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(tmp_path, strategy="hsdp")
    monkeypatch.setattr(sharding, "processes_of_a_host", lambda world: 1)
    with pytest.raises(ConfigError, match="6 processes are no groups of 1 .* one of 2, 3, 6$"):
        sharding.check(made, World(0, 6, torch.device("cpu")), "")


def _waits() -> list[float]:
    with joined(LaunchConfig(device="cpu", timeout_minutes=7)) as world:
        mesh = sharding._mesh(world, 2)
        groups = [mesh.get_group(name) for name in ("copy", "shard")]
        asked = [*groups, world.group(backend="gloo")]
        cpu = torch.device("cpu")
        found = [group._get_backend(cpu).options._timeout.total_seconds() for group in asked]
        ranks = [torch.distributed.get_process_group_ranks(group) for group in groups]
        assert ranks == [
            [world.rank % 2, world.rank % 2 + 2],
            [world.rank // 2 * 2, world.rank // 2 * 2 + 1],
        ]
        return found


def test_groups_of_processes_wait_as_long_as_all_do() -> None:
    """Those of hsdp waited for half an hour, whatever launch.timeout_minutes said."""
    assert forked.call_ranks(_waits, 4) == [[420.0] * 3] * 4
