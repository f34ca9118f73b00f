"""A sharded model (FSDP2's DTensors) steps exactly as the whole one, on every path."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from lion import AddSign, HeroLion, Lion, PowerSign, loop


@pytest.fixture
def mesh():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_sharded_equals_whole(mesh, monkeypatch):
    monkeypatch.setattr(loop, "BLOCK", 8)
    for make in (
        Lion,
        lambda params, **options: Lion(params, fused=False, **options),
        lambda params, **options: Lion(params, momentum_dtype="bfloat16", **options),
        lambda params, **options: Lion(params, foreach=True, **options),
        HeroLion,
        PowerSign,
        AddSign,
    ):
        torch.manual_seed(0)
        whole = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        sharded = fully_shard(copy.deepcopy(whole), mesh=mesh)
        optimizers = [make(m.parameters(), lr=0.1, weight_decay=0.1) for m in (whole, sharded)]
        for _ in range(3):
            x = torch.randn(5, 4)
            for model, optimizer in zip((whole, sharded), optimizers, strict=True):
                optimizer.zero_grad()
                model(x).square().sum().backward()
                optimizer.step()
        for param, shard in zip(whole.parameters(), sharded.parameters(), strict=True):
            assert torch.equal(param, shard.full_tensor())


def make_pair(mesh, placement, **options):
    """A DTensor parameter and an optimizer of it."""
    param = nn.Parameter(distribute_tensor(torch.ones(6, 4), mesh, [placement]))
    return param, Lion([param], lr=0.5, **options)


@pytest.mark.parametrize("placement", [Shard(0), Shard(1), Replicate()])
def test_shards_are_stepped_by_the_kernels_that_plain_tensors_get(mesh, monkeypatch, placement):
    seen = []
    real = loop.update
    monkeypatch.setattr(loop, "update", lambda *a, **k: (seen.extend(a[0]), real(*a, **k)))
    param, optimizer = make_pair(mesh, placement, fused=False)
    param.grad = distribute_tensor(torch.ones(6, 4), mesh, [placement])
    optimizer.step()
    assert [type(x) for x in seen] == [torch.Tensor]
    assert param.full_tensor().eq(0.5).all()
    assert isinstance(optimizer.state[param]["exp_avg"], DTensor)
    assert optimizer.state[param]["exp_avg"].placements == (placement,)


def test_a_gradient_that_is_laid_out_otherwise_goes_through_dtensor(mesh):
    param, optimizer = make_pair(mesh, Shard(0))
    param.grad = distribute_tensor(torch.ones(6, 4), mesh, [Replicate()])
    optimizer.step()
    assert param.full_tensor().eq(0.5).all()


def test_residuals_of_sharded_weights_are_sharded(mesh):
    param = nn.Parameter(distribute_tensor(torch.ones(6, 4).bfloat16(), mesh, [Shard(0)]))
    optimizer = Lion([param], lr=1e-3, kahan_sum=True)
    for _ in range(50):
        param.grad = distribute_tensor(torch.ones(6, 4).bfloat16(), mesh, [Shard(0)])
        optimizer.step()
    torch.testing.assert_close(
        param.full_tensor().float(), torch.full((6, 4), 0.95), rtol=0, atol=0.003
    )
    assert isinstance(optimizer.state[param]["kahan_comp"], DTensor)
